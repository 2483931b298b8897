"""A network in real numbers, as packing sees it: a list of nodes in the order of execution, and what they compute.

`trace` makes a graph of a torch module, `author` of the published .mat files; `lower` turns it into an integer program.
Every convolution has weights of one bit times one scale. Numbers are float64 as stored; `run` computes in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.patches import Padding, covered, output_size, windows

Shape = tuple[int, int, int]  # channels, height, width
Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Node:
    """`name` is what the user calls the layer; `inputs` are indices of earlier nodes."""

    name: str
    inputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Input(Node):
    """Raw pixels 0..255."""

    shape: Shape


@dataclass(frozen=True, eq=False)
class BatchNorm(Node):
    """``gain * (x - mean) / deviation + offset`` a channel; `deviation` is sqrt(variance + epsilon). float64 [C] each."""

    mean: Vector
    deviation: Vector
    gain: Vector
    offset: Vector


@dataclass(frozen=True, eq=False)
class Affine(Node):
    """``gain * x + offset`` a channel, float64 [C] each: a bias, a division by a constant."""

    gain: Vector
    offset: Vector


@dataclass(frozen=True, eq=False)
class Activation(Node):
    """``max(low, x)``: `low` is 0 (ReLU) or -1 (shifted ReLU).

    With a `step` it is what training with quantised activations computed:
    ``step * clamp(floor(x / step + 1/2), low / step, low / step + levels - 1)``.
    """

    low: float = 0.0
    step: float | None = None
    levels: int | None = None


@dataclass(frozen=True, eq=False)
class Conv(Node):
    """Cross-correlation with ``scale * (2 * bits - 1)``, zero padding. `bits` bool [O, kernel height, kernel width, I]."""

    bits: NDArray[np.bool_]
    scale: float
    stride: int = 1
    padding: Padding = (0, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Average(Node):
    """Average pooling, padding left out of the divisor; then `append` channels of zeros behind the others."""

    kernel: tuple[int, int]
    stride: int
    padding: Padding = (0, 0, 0, 0)
    append: int = 0


@dataclass(frozen=True, eq=False)
class Max(Node):
    """Max pooling; padding never wins."""

    kernel: tuple[int, int]
    stride: int
    padding: Padding = (0, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Add(Node):
    """The sum of two maps of one shape."""


@dataclass(frozen=True, eq=False)
class Mean(Node):
    """Global average pooling: the map shrinks to one pixel."""


@dataclass(eq=False)
class Graph:
    """Nodes in the order of execution; the last one gives the logits [classes, 1, 1]. `shapes` are the nodes' outputs."""

    nodes: list[Node] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)

    def add(self, node: Node) -> int:
        """Append `node` and return its index; OnebitError with the layer's name where it does not fit."""
        try:
            shape = self._shape(node)
        except OnebitError as error:
            raise OnebitError(f"layer {node.name!r}: {error}") from None
        self.nodes.append(node)
        self.shapes.append(shape)
        return len(self.nodes) - 1

    def users(self, index: int) -> list[int]:
        """The nodes that read node `index`."""
        return [i for i, node in enumerate(self.nodes) if index in node.inputs]

    def _shape(self, node: Node) -> Shape:
        if isinstance(node, Input):
            return node.shape
        channels, height, width = self.shapes[node.inputs[0]]
        if isinstance(node, BatchNorm | Affine):
            arrays = vars(node)
            for name in ("mean", "deviation", "gain", "offset"):
                if name in arrays and arrays[name].shape != (channels,):
                    raise OnebitError(f"{name} has shape {arrays[name].shape}, the map has {channels} channels")
                if name in arrays and not np.isfinite(arrays[name]).all():
                    raise OnebitError(f"{name} of channel {int(np.argmin(np.isfinite(arrays[name])))} is not finite")
            if isinstance(node, BatchNorm) and not (node.deviation > 0).all():
                raise OnebitError(f"deviation of channel {int(np.argmin(node.deviation))} is not positive")
            return channels, height, width
        if isinstance(node, Conv):
            if node.bits.ndim != 4 or node.bits.shape[3] != channels:
                raise OnebitError(f"weights {node.bits.shape} do not fit a map of {channels} channels")
            if not 0 < node.scale < math.inf:
                raise OnebitError(f"scale {node.scale!r} is not positive")
            kernel = (node.bits.shape[1], node.bits.shape[2])
            return node.bits.shape[0], *output_size((height, width), kernel, node.stride, node.padding)
        if isinstance(node, Average | Max):
            size = output_size((height, width), node.kernel, node.stride, node.padding)
            if (covered((height, width), node.kernel, node.stride, node.padding) == 0).any():
                raise OnebitError("a window lies in the padding alone")
            return channels + (node.append if isinstance(node, Average) else 0), *size
        if isinstance(node, Add):
            other = self.shapes[node.inputs[1]]
            if other != (channels, height, width):
                raise OnebitError(
                    f"cannot add maps of {(channels, height, width)} and {other} (channels, height, width)"
                )
            return other
        if isinstance(node, Mean):
            return channels, 1, 1
        return channels, height, width


Watch = Callable[[int, NDArray[np.float32]], object]


def run(graph: Graph, images: NDArray[np.uint8], watch: Watch | None = None) -> NDArray[np.float32]:
    """Logits float32 [N, classes] of images uint8 [N, C, H, W], computed in float32.

    `watch(i, x)` is called with what node i computed, [N, H, W, C]. Memory: the widest map and its patches, so give
    some tens of images at a time.
    """
    last = {source: i for i, node in enumerate(graph.nodes) for source in node.inputs}
    values: dict[int, NDArray[Any]] = {}
    for i, node in enumerate(graph.nodes):
        inputs = [values[j] for j in node.inputs] or [np.ascontiguousarray(images.transpose(0, 2, 3, 1))]
        values[i] = _compute(node, inputs)
        if watch:
            watch(i, values[i])
        for j in node.inputs:
            if last[j] == i:
                values.pop(j, None)
    return values[len(graph.nodes) - 1].reshape(len(images), graph.shapes[-1][0])


def _compute(node: Node, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    x = inputs[0]
    if isinstance(node, Input):
        return x.astype(np.float32)
    if isinstance(node, BatchNorm):
        gain = node.gain / node.deviation
        return x * gain.astype(np.float32) + (node.offset - node.mean * gain).astype(np.float32)
    if isinstance(node, Affine):
        return x * node.gain.astype(np.float32) + node.offset.astype(np.float32)
    if isinstance(node, Activation):
        if node.step is None or node.levels is None:
            return np.maximum(x, np.float32(node.low))
        low = round(node.low / node.step)
        q = np.floor(x * np.float32(1 / node.step) + np.float32(0.5))
        return np.clip(q, low, low + node.levels - 1) * np.float32(node.step)
    if isinstance(node, Conv):
        kernel = (node.bits.shape[1], node.bits.shape[2])
        patches = windows(x, kernel, node.stride, node.padding, 0)
        signs = np.where(node.bits, np.float32(1), np.float32(-1)).reshape(len(node.bits), -1)
        flat = np.ascontiguousarray(patches).reshape(-1, signs.shape[1])
        return (flat @ signs.T * np.float32(node.scale)).reshape(*patches.shape[:3], len(signs))
    if isinstance(node, Average):
        total = windows(x, node.kernel, node.stride, node.padding, 0).sum((3, 4))
        divisor = covered((x.shape[1], x.shape[2]), node.kernel, node.stride, node.padding)
        pooled = total / divisor[:, :, None].astype(np.float32)
        return np.pad(pooled, ((0, 0), (0, 0), (0, 0), (0, node.append)))
    if isinstance(node, Max):
        return windows(x, node.kernel, node.stride, node.padding, -np.inf).max((3, 4))
    if isinstance(node, Add):
        return x + inputs[1]
    if isinstance(node, Mean):
        return x.mean((1, 2), keepdims=True)
    raise TypeError(type(node).__name__)
