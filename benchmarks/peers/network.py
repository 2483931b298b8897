"""A packed model as a plain network in real numbers, which any engine can run: a list of layers.

Every number is that of the integer program but for rounding, saturation and the upper limit of activations, which real
arithmetic does not need. Peers get the network in the form that suits them: a batch-norm behind a convolution that nothing
else reads is folded into the convolution (its weights are then +-s of a channel, not +-1), the mean over the map comes
before the classifier, and the input is float32 [N, C, H, W], ready made.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.packed import program as p

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """`kind` says which fields count; `sources` are the places of earlier layers, -1 is the input.

    affine: x * scale + bias, a channel each; conv; add; average (`more` channels of 0 appended); max; head: x @ weight.T +
    bias, of the mean over the map if `pooled`. Affine and conv end with max(low, x) where `low` is given.
    """

    kind: str
    sources: tuple[int, ...]
    weight: Floats | None = None
    scale: Floats | None = None
    bias: Floats | None = None
    low: float | None = None
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right
    more: int = 0
    pooled: bool = False


def layers(program: p.Program) -> list[Layer]:
    """The network of a packed model. Logits have their real scale."""
    readers = Counter(s for op in program.operations for s in p.sources(op))
    out: list[Layer] = []
    place: dict[int, int] = {}  # operation -> the layer that makes its value
    unit: dict[int, float] = {}  # operation -> what 1 in its integers is here: pooling needs no multiplication then
    for i, op in enumerate(program.operations):
        unit[i] = 1.0
        if isinstance(op, p.Table):
            out.append(Layer("affine", (-1,), **_line(op.values)))
            place[i] = 0
            continue
        source, value = place[op.source], program.values[op.source]
        if isinstance(op, p.Conv):
            if op.base >= 0:
                unit[i] = unit[op.base]
            weight = _weights(program, op) * (unit[i] / unit[op.source] * 2.0**-op.shift)
            out.append(Layer("conv", (source,), _float(weight), stride=op.stride, pads=op.padding))
            if op.base >= 0:
                out.append(Layer("add", (place[op.base], len(out) - 1)))
        elif isinstance(op, p.Norm):
            scale = op.multiplier / 2.0**15
            bias, low = _float(op.offset - op.mean * scale), float(-op.zero)
            scale = scale / unit[op.source]
            conv = out[source]
            if conv.kind == "conv" and readers[op.source] == 1:
                folded = _float(conv.weight * scale[:, None, None, None])
                out[source] = replace(conv, weight=folded, bias=bias, low=low)
                place[i] = source
                continue
            out.append(Layer("affine", (source,), scale=_float(scale), bias=bias, low=low))
        elif isinstance(op, p.Average):
            seen = np.flatnonzero(op.multiplier)  # numbers of positions that occur, less 1
            factors = op.multiplier[seen] * (seen + 1) * 2.0 ** -(15.0 + op.shift[seen])
            unit[i] = unit[op.source] / float(factors.mean())
            more = op.channels - value.shape[0]
            out.append(Layer("average", (source,), kernel=op.kernel, stride=op.stride, pads=op.padding, more=more))
        elif isinstance(op, p.Max):
            unit[i] = unit[op.source]
            out.append(Layer("max", (source,), kernel=op.kernel, stride=op.stride, pads=op.padding))
        else:
            pooled = op.kernel == (1, 1)
            area = value.shape[1] * value.shape[2] if pooled else 1
            gain = op.gain * 2.0 ** -(op.shift + op.fraction) * area / unit[op.source]
            weight = _weights(program, op).reshape(len(op.bits), -1) * gain[:, None]
            bias = op.offset * 2.0**-op.fraction
            out.append(Layer("head", (source,), _float(weight), bias=_float(bias), pooled=pooled))
        place[i] = len(out) - 1
    return out


def _line(table: NDArray[np.int16]) -> dict[str, Any]:
    """The table of pixels as max(low, pixel * scale + bias); refuses one that is no such line."""
    values, pixels = table.astype(np.float64), np.arange(256.0)
    low = float(values.min())
    lines = np.array([np.polyfit(pixels[row > low], row[row > low], 1) for row in values])
    scale, bias = lines.T
    made = np.maximum(low, pixels * scale[:, None] + bias[:, None])
    if np.abs(made - values).max() > 1:
        raise SystemExit("the table of the pixels is no batch-norm, with or without ReLU")
    cut = any((row == low).sum() > 1 for row in values)
    return dict(scale=_float(scale), bias=_float(bias), low=low if cut else None)


def _weights(program: p.Program, op: p.Conv | p.Logits) -> Floats:
    """Weights [O, I, H, W], +1 and -1."""
    channels = program.values[op.source].shape[0]
    return p.signs(op, program.fan_in(op)).reshape(len(op.bits), *op.kernel, channels).transpose(0, 3, 1, 2)


def _float(x: Any) -> Floats:
    return np.ascontiguousarray(x, np.float32)
