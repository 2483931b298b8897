"""Random valid packed programs and pictures for them, for every test that compares two engines.

Structure is drawn by hypothesis, so that a failure shrinks to few operations and small maps; the numbers of an array
come from a drawn seed and a drawn style. Styles named "natural" keep numbers in the middle of their ranges, where a
wrong rounding shows in the logits; the others go to the ends, where saturation, clamps and proofs are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from onebit.packed.program import (
    INT32,
    TABLE_LIMIT,
    Average,
    Conv,
    Logits,
    Max,
    Norm,
    Operation,
    Program,
    Table,
    Value,
    sources,
)
from onebit.patches import Padding, output_size

Draw = Callable[[st.SearchStrategy[Any]], Any]
CHANNELS = (1, 2, 3, 5, 8, 17)
SIDES = (1, 2, 3, 4, 5, 7, 8)
LARGEST_SIDE = 12  # paddings may let maps grow


@st.composite
def programs(
    draw: Draw,
    *,
    channels: Sequence[int] = CHANNELS,
    sides: Sequence[int] = SIDES,
    operations: int = 12,
    macs: int = 20_000,
) -> Program:
    """Valid programs of a table, at most `operations` others and logits.

    `channels` are the widths of convolutions, smaller ones first; a convolution that would need more than `macs`
    multiply-accumulates gets fewer output channels.
    """
    grower = _Grower(draw, channels, macs, max(LARGEST_SIDE, max(sides) + 4))
    grower.table(draw(st.integers(1, 4)), draw(st.sampled_from(sides)), draw(st.sampled_from(sides)))
    kinds = (grower.conv, grower.norm, grower.average, grower.add, grower.max, grower.norm, grower.conv, grower.add)
    for _ in range(draw(st.integers(0, operations))):
        draw(st.sampled_from(kinds))()
    grower.classify()
    return Program(_needed(grower.grown))


def pictures(program: Program, most: int = 3) -> st.SearchStrategy[NDArray[np.uint8]]:
    """One to `most` pictures uint8 [N, H, W, C] for a program: noise, black, white, ramps, checkers, lone pixels."""
    channels, height, width = program.input.shape

    def picture(style: str, seed: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        noise = rng.integers(0, 256, (height, width, channels), np.uint8)
        if style == "noise":
            return noise
        if style == "ends":
            return np.array([0, 255], np.uint8)[noise >> 7]
        if style == "ramp":
            return (np.arange(noise.size, dtype=np.int64) * (seed % 97 + 1)).astype(np.uint8).reshape(noise.shape)
        if style == "lone":
            lone = np.zeros_like(noise)
            lone.flat[seed % lone.size] = 255
            return lone
        return np.full_like(noise, {"black": 0, "white": 255}[style])

    styles = st.sampled_from(("noise", "black", "white", "ends", "ramp", "lone"))
    return st.lists(st.builds(picture, styles, st.integers(0, 2**32 - 1)), min_size=1, max_size=most).map(np.stack)


def _needed(operations: list[Operation]) -> list[Operation]:
    """The operations that the last one needs: a valid program has no others."""
    needed = {len(operations) - 1}
    for i in range(len(operations) - 1, 0, -1):
        if i in needed:
            needed.update(sources(operations[i]))
    place = {old: new for new, old in enumerate(sorted(needed))}
    kept: list[Operation] = []
    for i in sorted(needed):
        op = operations[i]
        if isinstance(op, Conv):
            op = replace(op, source=place[op.source], base=place.get(op.base, -1))
        elif not isinstance(op, Table):
            op = replace(op, source=place[op.source])
        kept.append(op)
    return kept


class _Grower(Program):
    """A program in the making: each method appends an operation. `rms` guesses the typical size of each value."""

    def __init__(self, draw: Draw, channels: Sequence[int], macs: int, largest: int) -> None:
        self.draw = draw
        self.channels = channels
        self.most_macs = macs
        self.largest = largest
        self.values = []
        self.grown: list[Operation] = []
        self.rms: list[float] = []

    def append(self, op: Operation, rms: float) -> None:
        self.values.append(self._value(op, len(self.values)))
        self.grown.append(op)
        self.rms.append(min(rms, 12_000.0))

    def table(self, channels: int, height: int, width: int) -> None:
        rng, shape = self.rng(), (channels, 256)
        scale = self.draw(st.sampled_from((40, 1, 300, 4000)))
        values = {
            "natural": lambda: (rng.normal(0, 1, shape) * scale).round(),
            "affine": lambda: (np.arange(256) - rng.integers(0, 256, (channels, 1))) * scale / 64,
            "ends": lambda: rng.choice([-TABLE_LIMIT, 0, TABLE_LIMIT], shape),
            "high": lambda: np.full(shape, TABLE_LIMIT),
            "negative": lambda: -rng.integers(1, TABLE_LIMIT + 1, shape),
        }[self.draw(st.sampled_from(("natural", "affine", "ends", "negative", "high", "natural", "affine")))]()
        values = np.clip(values, -TABLE_LIMIT, TABLE_LIMIT).astype(np.int16)
        self.append(Table(height, width, values), float(np.sqrt((values.astype(np.float64) ** 2).mean())))

    def conv(self) -> None:
        s = self.source()
        height, width = self.values[s].shape[1:]
        stride = self.draw(st.sampled_from((1, 1, 2, 3)))
        padding = self.padding((3, 3))
        kernel = self.draw(st.tuples(*[st.sampled_from((3, 1, 2, 4, 5))] * 2))
        if self.draw(st.sampled_from((False, False, False, True))):
            kernel = (height, width)
        top, left, bottom, right = padding
        kernel = (min(kernel[0], height + top + bottom), min(kernel[1], width + left + right))
        if max(output_size((height, width), kernel, stride, padding)) > self.largest:
            padding, kernel = (0, 0, 0, 0), (min(kernel[0], height), min(kernel[1], width))
        positions = math.prod(output_size((height, width), kernel, stride, padding))
        rows = self.draw(st.sampled_from(self.channels))
        rows = min(rows, max(1, self.most_macs // (positions * self.taps(s, kernel))))
        self.convolve(s, rows, kernel, stride, padding)

    def add(self) -> None:
        """A convolution that is added to an earlier value, through whatever window fits its shape."""
        bases = [i for i, value in enumerate(self.values) if value.kind == "i16"]
        base, s = bases[self.back(len(bases))], self.source()
        rows, *to = self.values[base].shape
        here = self.values[s].shape[1:]
        fits = [_fits(here[axis], to[axis]) for axis in (0, 1)]
        both = [(v, h) for v in fits[0] for h in fits[1] if v[1] == h[1]]
        if not both:
            return
        (down, stride, high), (across, _, wide) = self.draw(st.sampled_from(both))
        if rows * math.prod(to) * self.taps(s, (down, across)) > 2 * self.most_macs:
            return
        top, left = self.draw(st.integers(0, high)), self.draw(st.integers(0, wide))
        self.convolve(s, rows, (down, across), stride, (top, left, high - top, wide - left), base)

    def convolve(
        self, s: int, rows: int, kernel: tuple[int, int], stride: int, padding: Padding, base: int = -1
    ) -> None:
        taps = self.taps(s, kernel)
        size = math.sqrt(taps) * max(1.0, self.rms[s])
        fit = min(24, max(0, round(math.log2(size)) - self.draw(st.integers(4, 16))))
        shift = self.draw(st.one_of(st.just(fit), st.just(fit), st.just(max(0, fit - 6)), st.integers(0, 24)))
        rms = size / 2**shift + (self.rms[base] if base >= 0 else 0)
        self.append(Conv(s, self.bits(rows, taps), kernel, shift, stride, padding, base), rms)

    def norm(self) -> None:
        s = self.source("i16")
        channels, rng, rms = self.values[s].shape[0], self.rng(), max(1.0, self.rms[s])
        limit = self.draw(st.one_of(st.sampled_from((255, 15)), st.integers(1, 255)))
        zero = self.draw(st.one_of(st.just(0), st.integers(0, limit)))
        if self.draw(st.sampled_from((True, True, False))):
            steep = min(32767.0, 32768 * limit / (2 * rms))
            mean = rng.normal(0, rms / 3, channels)
            multiplier = steep * rng.uniform(0.2, 1, channels) * rng.choice([1, 1, 1, -1], channels)
            offset = rng.integers(-3, 4, channels) * self.draw(st.integers(0, 1))
        else:
            ends = [-32767, -16384, -1, 0, 1, 16384, 32767]
            mean = rng.choice([-32768, *ends], channels)
            multiplier = np.where(rng.random(channels) < 0.5, rng.choice(ends, channels), rng.integers(-99, 99))
            offset = rng.choice([-32768, *ends, *range(-255, 256, 51)], channels)
        arrays = [np.clip(np.round(a), -32767, 32767).astype(np.int16) for a in (mean, multiplier, offset)]
        arrays[0][mean < -32767] = arrays[2][offset < -32767] = -32768
        self.append(Norm(s, arrays[0], arrays[1], arrays[2], zero, limit), limit / 3)

    def average(self) -> None:
        s = self.source(self.draw(st.sampled_from(("", "u8"))))
        value = self.values[s]
        kernel, stride, padding = self.pool(value)
        area = math.prod(kernel)
        rng = self.rng()
        edge, ratio = self.draw(st.sampled_from((False, False, True))), self.draw(st.sampled_from((1.0, 0.71, 0.3)))
        shift, multiplier = np.zeros(area, np.int16), np.zeros(area, np.int16)
        for d in range(1, area + 1):
            k = int(rng.integers(0, 16) * rng.integers(0, 2)) if edge else int(math.log2(d / ratio))
            most = 32767
            if value.kind == "u8":  # the mean may not pass the largest activation
                total = (d * value.high + (1 << k >> 1)) >> k
                most = min(most, (((value.high + 1) << 15) - 1 - 0x4000) // max(1, total))
            shift[d - 1] = k
            multiplier[d - 1] = rng.choice([most, most, int(rng.integers(0, most + 1)), 0]) if edge else most
            if not edge:
                multiplier[d - 1] = min(most, round(2**15 * 2**k / d * ratio))
        more = self.draw(st.sampled_from((0, 1, 3)))
        rms = self.rms[s] * (1 if edge else ratio)
        self.append(Average(s, value.shape[0] + more, kernel, stride, padding, shift, multiplier), rms)

    def max(self) -> None:
        s = self.source(self.draw(st.sampled_from(("", "u8"))))
        self.append(Max(s, *self.pool(self.values[s])), self.rms[s])

    def classify(self) -> None:
        s = self.source()
        channels, height, width = self.values[s].shape
        kernel = self.draw(st.sampled_from(((1, 1), (height, width))))
        classes, rng = self.draw(st.sampled_from((3, 1, 2, 10, 11))), self.rng()
        most = height * width * channels * self.values[s].reach
        shift = self.draw(st.one_of(st.integers(0, 4), st.integers(0, 24)))
        once = (most >> shift) + 1
        steepest = (INT32 - 1) // once
        steep = self.draw(st.one_of(st.sampled_from((min(steepest, 20_000), steepest)), st.integers(0, steepest)))
        far = self.draw(st.one_of(st.sampled_from((0, INT32 - 1 - once * steep)), st.integers(0, INT32 - 1)))
        far = min(far, INT32 - 1 - once * steep)
        gain, offset = rng.integers(-steep, steep + 1, classes), rng.integers(-far, far + 1, classes)
        gain[0], offset[0] = steep * rng.choice([-1, 1]), far * rng.choice([-1, 1])  # the end of the range itself
        fraction, sharpness = self.draw(st.integers(0, 24)), self.draw(st.integers(1, INT32 - 1))
        bits = self.bits(classes, self.taps(s, kernel))
        op = Logits(s, bits, kernel, shift, gain.astype(np.int32), offset.astype(np.int32), fraction, sharpness)
        self.append(op, 0)

    def source(self, kind: str = "") -> int:
        """A value to read, of the kind where there is one; mostly the latest, so that programs are deep."""
        known = [i for i, value in enumerate(self.values) if value.kind == kind] or list(range(len(self.values)))
        return known[self.back(len(known))]

    def back(self, count: int) -> int:
        return count - 1 - min(count - 1, self.draw(st.sampled_from((0, 0, 0, 1, 2, 5))))

    def padding(self, most: tuple[int, int]) -> Padding:
        vertical, horizontal = (st.integers(0, m) for m in most)
        if self.draw(st.booleans()):
            return self.draw(st.tuples(vertical, horizontal, vertical, horizontal))
        return (1 if most[0] else 0, 1 if most[1] else 0) * 2

    def pool(self, value: Value) -> tuple[tuple[int, int], int, Padding]:
        """A window of 1 to 3 a side; less padding than kernel, so that none lies in the padding alone."""
        size = value.shape[1:]
        kernel = self.draw(st.sampled_from(((3, 3), (2, 2), (1, 1), (1, 3), (3, 2))))
        padding = self.padding((kernel[0] - 1, kernel[1] - 1))
        if any(size[a] + padding[a] + padding[a + 2] < kernel[a] for a in (0, 1)):
            padding = (kernel[0] - 1, kernel[1] - 1) * 2
        stride = self.draw(st.sampled_from((2, 1, 3)))
        if max(output_size((size[0], size[1]), kernel, stride, padding)) > self.largest:
            stride = 2
        return kernel, stride, padding

    def bits(self, rows: int, taps: int) -> NDArray[np.uint8]:
        chance = self.draw(st.sampled_from((0.5, 1.0, 0.5, 0.0, 0.5, 0.9)))
        return np.packbits(self.rng().random((rows, taps)) < chance, axis=1, bitorder="little")

    def taps(self, s: int, kernel: tuple[int, int]) -> int:
        return math.prod(kernel) * self.values[s].shape[0]

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.draw(st.integers(0, 2**32 - 1)))


def _fits(size: int, to: int) -> list[tuple[int, int, int]]:
    """Kernel, stride and both paddings' sum with which a side of `size` becomes one of `to`."""
    found = []
    for kernel in sorted({1, 2, 3, 4, 5, size}):
        for stride in (1, 2, 3):
            for rest in range(stride if to > 1 else 1):
                padding = (to - 1) * stride + rest + kernel - size
                if 0 <= padding <= 2 * kernel:
                    found.append((kernel, stride, padding))
    return found
