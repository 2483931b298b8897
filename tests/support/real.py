"""A packed program in real numbers, by docs/format.md alone: float64, without rounding and without saturation at 16 bits.

Every number comes with a bound of what float32 may make of it (running error analysis, Wilkinson): an engine that computes
the same in float32, in whatever order it adds, stays within. So random programs, whose numbers cancel and explode as they
like, are held to a tolerance that is theirs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onebit.packed.program import Average, Conv, Logits, Max, Norm, Operation, Program, Table

UNIT = 2.0**-24  # the relative rounding of float32
Numbers = NDArray[np.float64]


class Real(NamedTuple):
    """A map [N, H, W, C], and how far float32 may be from it."""

    x: Numbers
    error: Numbers


def logits(program: Program, images: NDArray[np.uint8], *, rounded: bool = False) -> Real:
    """Logits in real numbers, [N, classes], of pictures uint8 [N, H, W, C]; activations `rounded` to whole numbers or not."""
    made: list[Real] = []
    for op, value in zip(program.operations, program.values, strict=True):
        real = _operation(program, op, images, made)
        if rounded and isinstance(op, Norm):  # a bias rounded to whole sums, where it becomes part of a convolution
            source = program.operations[op.source]
            shift = source.shift if isinstance(source, Conv) and op.offset.any() else 99
            real = Real(real.x, real.error + np.abs(op.multiplier.astype(np.float64)) * 2.0 ** -(16 + shift))
        made.append(_rounded(real) if rounded and value.kind == "u8" else real)
    return made[-1]


def _rounded(real: Real) -> Real:
    """The nearest whole number; where the error reaches half a step it may be another one."""
    nearest = np.round(real.x)
    return Real(nearest, np.ceil(np.maximum(0, np.abs(real.x - nearest) + real.error - 0.5 + 1e-12)))


def _operation(program: Program, op: Operation, images: NDArray[np.uint8], made: list[Real]) -> Real:
    if isinstance(op, Table):
        x = np.stack([row[images[..., c]] for c, row in enumerate(op.values)], -1).astype(np.float64)
        return Real(x, np.zeros_like(x))
    x, error = made[op.source]
    zero = program.values[op.source].zero
    if isinstance(op, Norm):
        mean, multiplier, offset = (a.astype(np.float64) for a in (op.mean, op.multiplier, op.offset))
        gain = multiplier / 32768
        size = np.abs(gain) * (np.abs(x) + np.abs(mean)) + np.abs(offset)
        y = gain * (x - mean) + offset
        return Real(np.clip(op.zero + y, 0, op.limit), np.abs(gain) * error + 8 * UNIT * size)
    if isinstance(op, Average):
        return _average(op, zero, x, error)
    if isinstance(op, Max):
        y, bound = (
            _cut(a, op.kernel, op.stride, op.padding, fill).max((3, 4)) for a, fill in ((x, -np.inf), (error, 0))
        )
        return Real(y, bound)
    height, width = op.kernel
    weights = np.unpackbits(op.bits, axis=1, bitorder="little")[:, : program.fan_in(op)] * 2.0 - 1
    if isinstance(op, Logits):
        if op.kernel == (1, 1):
            weights, (height, width) = np.tile(weights, x.shape[1] * x.shape[2]), x.shape[1:3]
        windows = [_cut(a, (height, width), 1, (0, 0, 0, 0), 0)[:, 0, 0] for a in (x - zero, error)]
    else:
        windows = [_cut(a, op.kernel, op.stride, op.padding, 0) for a in (x - zero, error)]
    patches, errors = (a.reshape(*a.shape[:-3], -1) for a in windows)
    sums = patches @ weights.T
    bound = errors.sum(-1, keepdims=True) + (weights.shape[1] + 8) * UNIT * (np.abs(patches) + errors).sum(
        -1, keepdims=True
    )
    if isinstance(op, Logits):
        scale = 2.0**-op.fraction
        gain, offset = op.gain.astype(np.float64), op.offset.astype(np.float64)
        y = (sums / 2.0**op.shift * gain + offset) * scale
        return Real(
            y, bound / 2.0**op.shift * np.abs(gain) * scale + 8 * UNIT * (np.abs(y) + np.abs(op.offset) * scale)
        )
    y, bound = sums / 2.0**op.shift, np.broadcast_to(bound, sums.shape) / 2.0**op.shift
    if op.base >= 0:
        base = made[op.base]
        y, bound = y + base.x, bound + base.error + UNIT * (np.abs(y) + np.abs(base.x))
    return Real(y, bound)


def _average(op: Average, zero: int, x: Numbers, error: Numbers) -> Real:
    there = _cut(np.ones((1, *x.shape[1:3], 1)), op.kernel, op.stride, op.padding, 0).sum((3, 4, 5)).astype(int)[0]
    factor = (op.multiplier / 32768.0 / 2.0**op.shift)[there - 1][..., None]
    total, size, errors = (
        _cut(a, op.kernel, op.stride, op.padding, 0).sum((3, 4)) for a in (x, np.abs(x - zero), error)
    )
    y = np.full((*total.shape[:3], op.channels), float(zero))
    bound = np.zeros_like(y)
    channels = x.shape[3]
    y[..., :channels] = factor * total
    bound[..., :channels] = factor * (
        errors + (there[..., None] + 8) * UNIT * (size + errors + there[..., None] * zero)
    )
    return Real(y, bound + 4 * UNIT * zero)


def _cut(x: Numbers, kernel: tuple[int, int], stride: int, padding: tuple[int, ...], fill: float) -> Any:
    """All windows: [N, H', W', kernel height, kernel width, C]."""
    top, left, bottom, right = padding
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    rows, columns = ((x.shape[a + 1] - kernel[a]) // stride + 1 for a in (0, 1))
    parts = [
        [
            x[:, i : i + rows * stride : stride, j : j + columns * stride : stride][:, :rows, :columns]
            for j in range(kernel[1])
        ]
        for i in range(kernel[0])
    ]
    return np.stack([np.stack(row, 3) for row in parts], 3)
