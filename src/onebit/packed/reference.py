"""What a program means, in plain NumPy: this file and docs/format.md define the numbers, everything else equals them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.packed.program import Average, Conv, Logits, Max, Norm, Operation, Program, Table, Value, signs, sources
from onebit.patches import covered, windows

Map = NDArray[np.int32]  # [N, H, W, C] (logits [N, 1, 1, classes]), whatever the width of the value


def sat16(x: Map) -> Map:
    """Clamp to [-32768, 32767]."""
    return np.clip(x, -32768, 32767)


def rsh(x: Map, k: int) -> Map:
    """x / 2^k, rounded to the nearest whole number, halves up.

    >>> rsh(np.array([-3, -2, -1, 1, 2, 3], np.int32), 1)
    array([-1, -1,  0,  1,  1,  2], dtype=int32)
    """
    return (x + ((1 << k) >> 1)) >> k


def q15mulr(x: Map, m: NDArray[Any]) -> Map:
    """x * m / 2^15, rounded to the nearest whole number, halves up; x and m fit 16 bits.

    >>> q15mulr(np.array([100], np.int32), np.int16(16384))
    array([50], dtype=int32)
    """
    return (x * m.astype(np.int32) + 0x4000) >> 15


Watch = Callable[[int, Map], object]


def run(
    program: Program, images: NDArray[np.uint8], *, batch: int = 8, watch: Watch | None = None
) -> NDArray[np.int32]:
    """Logits int32 [N, classes] of pictures uint8 [N, H, W, C]; `watch(i, x)` sees what operation i made of a batch.

    Raises OnebitError where the pictures have another shape or type.
    """
    channels, height, width = program.input.shape
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (height, width, channels):
        raise OnebitError(
            f"pictures of {images.dtype} {images.shape}: the model takes uint8 [N, {height}, {width}, {channels}]"
        )
    weights = {i: signs(op, program.fan_in(op)) for i, op in program.convolutions()}
    out = np.empty((len(images), program.classes), np.int32)
    for start in range(0, len(images), batch):
        out[start : start + batch] = _batch(program, images[start : start + batch], weights, watch)
    return out


def _batch(
    program: Program, images: NDArray[np.uint8], weights: dict[int, NDArray[np.float32]], watch: Watch | None
) -> Map:
    maps: dict[int, Map] = {-1: images}  # type: ignore[dict-item]
    last = {source: i for i, op in enumerate(program.operations) for source in sources(op)}
    for i, op in enumerate(program.operations):
        maps[i] = _operation(op, maps, program, weights.get(i))
        if watch:
            watch(i, maps[i])
        for source in set(sources(op)):  # a sum may read one value twice
            if last[source] == i:
                del maps[source]
    return maps[len(program.operations) - 1].reshape(len(images), -1)


def _operation(op: Operation, maps: dict[int, Map], program: Program, weights: NDArray[np.float32] | None) -> Map:
    if isinstance(op, Table):
        pixels = maps[-1]
        return np.stack([row[pixels[..., c]] for c, row in enumerate(op.values)], -1).astype(np.int32)
    x, value = maps[op.source], program.values[op.source]
    if isinstance(op, Conv):
        assert weights is not None
        added = sat16(rsh(_sums(op, x, value, weights), op.shift))
        return added if op.base < 0 else sat16(maps[op.base] + added)
    if isinstance(op, Norm):
        scaled = q15mulr(sat16(x - op.mean), op.multiplier)
        return np.clip(scaled + (op.offset.astype(np.int32) + op.zero), 0, op.limit)
    if isinstance(op, Average):
        total = windows(x, op.kernel, op.stride, op.padding, 0).sum((3, 4), dtype=np.int32)
        pooled = np.full((*total.shape[:3], op.channels), value.zero, np.int32)
        divisors = covered((x.shape[1], x.shape[2]), op.kernel, op.stride, op.padding)
        for d in np.unique(divisors):
            there = divisors == d
            mean = q15mulr(sat16(rsh(total[:, there], int(op.shift[d - 1]))), op.multiplier[d - 1])
            pooled[:, there, : x.shape[3]] = mean
        return pooled
    if isinstance(op, Max):
        return windows(x, op.kernel, op.stride, op.padding, value.low).max((3, 4))
    assert isinstance(op, Logits) and weights is not None
    x = x - value.zero
    reach = value.reach
    if op.kernel == (1, 1):  # every position has the same weights: sum first
        x, reach = x.sum((1, 2), keepdims=True, dtype=np.int32), reach * x.shape[1] * x.shape[2]
    sums = _product(x.reshape(len(x), -1), weights, reach)
    return (rsh(sums, op.shift) * op.gain + op.offset)[:, None, None, :]


def _sums(op: Conv, x: Map, value: Value, weights: NDArray[np.float32]) -> Map:
    """The accumulators of a convolution, int32 [N, H', W', O]."""
    patches = windows((x - value.zero).astype(np.float32), op.kernel, op.stride, op.padding, 0)
    sums = _product(patches.reshape(-1, weights.shape[1]), weights, value.reach)
    return sums.reshape(*patches.shape[:3], len(weights))


def _product(x: NDArray[Any], weights: NDArray[np.float32], reach: int) -> Map:
    """``x @ weights.T`` exactly, by a float matrix product: x whole numbers [M, K], |x| <= reach; weights +-1 [O, K].

    Whatever the order in which a matrix product adds, every partial sum is a whole number of at most K * reach, and
    float32 rounds none below 2^24. Larger sums (a program's stay below 2^31) take float64, which is exact to 2^53.
    """
    exact = np.float32 if weights.shape[1] * reach < 1 << 24 else np.float64
    return (x.astype(exact, copy=False) @ weights.T.astype(exact, copy=False)).astype(np.int32)
