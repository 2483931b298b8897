"""Programs of all forms that kernels treat differently: random ones, chosen ones, and extremes of their numbers."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple, TypeVar

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onebit.packed.program import Conv, Logits, Norm, Operation, Program, Table
from onebit.patches import Padding
from support.programs import Draw, pictures, programs
from support.tiers import Case, case

T = TypeVar("T")

# -- random programs ---------------------------------------------------------------------------------------------------

CHANNELS = (1, 3, 8, 17, 2, 33, 64, 130)
SIDES = (1, 2, 3, 5, 7, 8, 9, 14, 16, 17, 28, 33)


@st.composite
def cases(draw: Draw) -> Case:
    """Random valid programs of any structure with their pictures and answers; some have many channels and large maps."""
    wide: dict[str, Any] = {"channels": CHANNELS, "sides": SIDES, "operations": 9, "macs": 300_000}
    program = draw(programs(**draw(st.sampled_from(({}, {}, wide)))))
    return case("random", program, draw(pictures(program, 2)))


@st.composite
def forms(draw: Draw) -> Form:
    """Random forms; 3 x 3 and maps of ordinary sizes are frequent."""
    side = st.one_of(st.integers(1, 40), st.sampled_from((7, 8, 14, 16, 28, 32, 33, 56, 65)))
    height, width = draw(side), draw(side)
    kernel = draw(st.one_of(st.just((3, 3)), st.tuples(st.integers(1, 6), st.integers(1, 6))))
    most = max(1, int((1_000_000 / (height * width * kernel[0] * kernel[1])) ** 0.5))
    channels = draw(st.one_of(st.integers(1, min(most, 40)), st.integers(1, min(most, 200))))
    limit = draw(st.one_of(st.sampled_from((255, 15)), st.integers(1, 255)))
    padding = draw(st.one_of(st.none(), st.tuples(*[st.integers(0, 4)] * 4)))
    if padding and (height + padding[0] + padding[2] < kernel[0] or width + padding[1] + padding[3] < kernel[1]):
        padding = None
    return Form(
        (height, width), channels, kernel, draw(st.sampled_from((1, 1, 2, 3))), limit,
        draw(st.one_of(st.just(0), st.integers(0, limit))), draw(st.booleans()),
        draw(st.one_of(st.just(0), st.integers(1, 2 * channels + 3))), padding, draw(st.sampled_from((False, False, True))),
    )  # fmt: skip


def corpus(strategy: st.SearchStrategy[T], count: int) -> list[T]:
    """`count` random things, always the same."""
    found: list[T] = []

    @settings(
        max_examples=count, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def collect(drawn: T) -> None:
        found.append(drawn)

    collect()
    return found


# -- programs of a given form ------------------------------------------------------------------------------------------


class Form(NamedTuple):
    """A residual network in small: the input's convolution, two of a block, and one of `stride` to `outputs`."""

    side: tuple[int, int] = (8, 8)
    channels: int = 16
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    limit: int = 255
    zero: int = 0
    offsets: bool = False
    outputs: int = 0  # 0: as many as channels
    padding: Padding | None = None  # of the last convolution; None: as much as keeps a map's size
    stream: bool = False  # the last convolution reads the stream, not an activation

    def __str__(self) -> str:
        usual = Form()._asdict()
        differs = {name: value for name, value in self._asdict().items() if value != usual[name]}
        return (
            ", ".join(f"{n} {'x'.join(map(str, v)) if isinstance(v, tuple) else v}" for n, v in differs.items()) or "-"
        )


def layered(form: Form, seed: int = 0) -> Case:
    """A program of this form with two pictures, noise in black and white and noise."""
    rng = np.random.default_rng(seed)
    channels, outputs, (down, across) = form.channels, form.outputs or form.channels, form.kernel
    padding = (down - 1) // 2, (across - 1) // 2, down // 2, across // 2
    found: list[Operation] = [Table(*form.side, rng.integers(-8159, 8160, (3, 256)).astype(np.int16))]

    def conv(
        source: int, inputs: int, outputs: int, stride: int = 1, base: int = -1, padding: Padding = padding
    ) -> int:
        taps = down * across * inputs
        typical = taps**0.5 * (form.limit / 2 if isinstance(found[source], Norm) else 5000)
        found.append(
            Conv(source, row_bits(rng, outputs, taps), form.kernel, shift_to(typical, 500), stride, padding, base)
        )
        return len(found) - 1

    def norm(source: int, channels: int) -> int:
        mean, multiplier = rng.integers(-300, 301, channels), rng.integers(2000, 32768, channels) * form.limit // 255
        offset = rng.integers(-9, 10, channels) * form.offsets
        rows = [a.astype(np.int16) for a in (mean, multiplier * rng.choice([1, 1, 1, -1], channels), offset)]
        found.append(Norm(source, rows[0], rows[1], rows[2], form.zero, form.limit))
        return len(found) - 1

    stream = conv(0, 3, channels)
    stream = conv(norm(conv(norm(stream, channels), channels, channels), channels), channels, channels, base=stream)
    read = stream if form.stream else norm(stream, channels)
    last = norm(conv(read, channels, outputs, form.stride, padding=form.padding or padding), outputs)
    program = with_head(found, last, rng)
    height, width = form.side
    given = rng.integers(0, 256, (2, height, width, 3), np.uint8)
    given[0] = np.where(given[0] > 127, 255, 0)
    return case(str(form), program, given)


def extreme(
    channels: int, kernel: tuple[int, int], sign: str, source: str, side: int = 8, outputs: int = 9, padded: bool = True
) -> Case:
    """A convolution whose sums are as large as they can be, in both directions: every number of its source lies at the end
    of its range, and all weights have one `sign`: "+", "-", "=" (that of the number itself), or "0": they take turns, so
    that sums are about 0 and each is seen to the last bit.

    `source`: "u8", "u8 zero" (numbers 0 stand for -255), "nibble" (0 to 15), "i16" (the stream, saturated), "i16 less"
    (up to 24477). Padding keeps the map's size, unless `padded` is False.
    """
    rng = np.random.default_rng(channels)
    limit, zero = (15 if source == "nibble" else 255), (255 if source == "u8 zero" else 0)
    half = np.where(np.arange(256) < 128, -8159, 8159).astype(np.int16)
    ends = np.where(np.arange(channels) % 3 == 1, -1, 1) if sign == "=" else np.ones(channels, int)  # of each channel
    ones = np.packbits(np.repeat(ends[:, None] > 0, 3, 1), axis=1, bitorder="little")
    found: list[Operation] = [Table(side, side, np.stack([half] * 3)), Conv(0, ones, (1, 1), 0)]
    if source == "i16":
        found.append(Conv(0, ones, (1, 1), 0, base=1))
    elif source != "i16 less":
        none, steep = np.zeros(channels, np.int16), np.full(channels, 32767, np.int16)
        found.append(Norm(1, none, steep, none, zero, limit))
    taps = kernel[0] * kernel[1] * channels
    positive = np.broadcast_to(ends > 0, (outputs, kernel[0] * kernel[1], channels)).reshape(outputs, taps)
    if sign == "-":
        positive = ~positive
    elif sign == "=":
        positive = np.where(np.arange(outputs)[:, None] % 2, ~positive, positive)
    elif sign == "0":
        positive = (np.arange(taps) + np.arange(outputs)[:, None]) % 2 == 0
    bits = np.packbits(positive, axis=1, bitorder="little")
    padding = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2, kernel[0] // 2, kernel[1] // 2)
    padding = padding if padded else (0, 0, 0, 0)
    most = taps * {"i16": 32768, "i16 less": 24477}.get(source, limit)
    shift = 0 if sign == "0" else shift_to(most, 30_000)
    found.append(Conv(len(found) - 1, bits, kernel, shift, 1, padding))
    program = with_head(found, len(found) - 1, rng)
    given = np.full((4, side, side, 3), 255, np.uint8)
    given[1] = 0
    given[2] = rng.integers(0, 2, (side, side, 1), np.uint8) * 255
    given[3, :, ::2] = 0
    return case(f"{channels} channels, {kernel[0]}x{kernel[1]}, weights {sign}, {source}", program, given)


def row_bits(rng: np.random.Generator, rows: int, taps: int) -> NDArray[np.uint8]:
    return np.packbits(rng.random((rows, taps)) < 0.5, axis=1, bitorder="little")


def shift_to(size: float, to: float) -> int:
    """The shift with which numbers of this size become about `to`."""
    return min(24, max(0, int(np.ceil(np.log2(size / to)))))


def with_head(operations: list[Operation], last: int, rng: np.random.Generator) -> Program:
    """The program of these operations and logits in which each number of the map counts for itself."""
    value = _Open(operations).values[last]
    channels, height, width = value.shape
    bits = row_bits(rng, 7, channels * height * width)
    shift = shift_to(channels * height * width * value.reach, 2**28)
    gain, offset = np.array([1, -1, 2, 3, -2, 1, 1], np.int32), np.arange(7, dtype=np.int32) - 3
    return Program([*operations, Logits(last, bits, (height, width), shift, gain, offset, 8)])


class _Open(Program):
    """What operations make, before there are logits."""

    def __init__(self, operations: list[Operation]) -> None:
        self.values = []
        for i, op in enumerate(operations):
            self.values.append(self._value(op, i))


# -- the programs that every test runs ----------------------------------------------------------------------------------

_SIDES = [
    (7, 7),
    (14, 14),
    (28, 28),
    (33, 33),
    (56, 20),
    (9, 65),
    (1, 1),
    (2, 5),
    (32, 32),
    (16, 16),
    (24, 40),
    (5, 130),
]
FORMS = [
    *(Form(side=side, channels=20) for side in _SIDES),
    *(Form(channels=channels) for channels in (1, 2, 5, 7, 13, 31, 64, 100, 129, 160, 260)),
    *(Form((9, 12), 12, kernel) for kernel in ((1, 1), (5, 5), (2, 3), (2, 2), (1, 7), (4, 1), (3, 5), (7, 3))),
    *(Form(side, 10, stride=stride) for stride in (2, 3) for side in ((16, 16), (15, 33), (7, 9))),
    *(Form((11, 16), 14, kernel, stride=2) for kernel in ((1, 1), (2, 2), (5, 5))),
    *(Form(channels=24, zero=zero, offsets=True) for zero in (0, 1, 128, 255)),
    *(Form(side, channels, limit=15) for side in ((8, 8), (17, 30)) for channels in (16, 130)),
    Form((16, 16), 33, limit=15, zero=4, offsets=True),
    Form(channels=40, limit=1),
    Form(channels=16, limit=100, stride=2, outputs=300),
]
# What a matrix unit does in ways of its own: channels of a position, phases, rows that share borders, small maps, padding.
MATRIX_FORMS = [
    *(Form((6, 11), channels, zero=zero) for channels in (16, 17, 32, 33, 64, 65, 100, 128) for zero in (0, 77)),
    *(Form((side, side), 64) for side in (1, 2, 4, 7, 8, 9, 14, 15, 16, 17, 28, 32, 33)),
    *(Form((8, 8), channels, zero=9, limit=15) for channels in (70, 192)),
    *(Form((9, 16), 48, kernel) for kernel in ((1, 1), (1, 7), (6, 1), (2, 2), (5, 4), (3, 1))),
    *(Form((13, 18), c, k, stride=s, zero=3) for c in (16, 40) for k in ((3, 3), (1, 1), (2, 5)) for s in (2, 3, 4)),
    *(Form((7, 10), 32, stride=s, padding=p) for s in (1, 2) for p in ((0, 0, 0, 0), (5, 0, 0, 6), (0, 9, 3, 1))),
    *(Form((10, 10), 24, outputs=outputs, offsets=True) for outputs in (1, 15, 16, 17, 50)),
]
EXTREMES = [
    *itertools.product((28, 31, 64, 129, 512), [(3, 3)], "+-=0", ("u8", "u8 zero", "nibble")),
    *itertools.product((5, 64, 130), [(3, 3)], "+-=0", ("i16",)),
    *itertools.product((64, 260), [(1, 1)], "+-=0", ("u8", "u8 zero", "nibble", "i16")),
    *itertools.product((60,), [(5, 5), (7, 2)], "+-=0", ("u8", "u8 zero", "nibble", "i16 less")),
]
MANY_TAPS = [(9000, (3, 3), 5), (10100, (4, 2), 6)]  # more than 2^24 / 255, with numbers of 16 bits
