"""From real numbers to integers: a graph becomes a program.

All constants follow from the batch-norms' moments and the scales of the weights. Only where an activation has no
batch-norm before it are ranges needed that pictures must show (`measure`). The choices:

- Activations have the step 2^-5 at 8 bits and 2^-2 at 4: behind a batch-norm every channel has deviation 1, so that the
  range ends at 8 (4) deviations. A learned batch-norm scales that by its largest gain and offset, to the nearest power of 2
  (the next larger one costs twice the rounding error; what is cut off hardly occurs).
- The stream has the step of the sums that are added to it, times 2^shift: the smallest shift with which the mean plus 16
  deviations of every channel fits 16 bits. So no sum needs a multiplier. Streams whose layers have other scales change
  their step by a 1x1 average before the sum.
- A batch-norm with ReLU subtracts the point that becomes 0, then multiplies. Where that point is too far away (tiny
  gains), the rest of it is added behind the multiplication as whole levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.packed import graph as g
from onebit.packed import program as p
from onebit.packed.chain import Chain, chain_before
from onebit.packed.constants import logit_constants, mean_constants, norm_constants, power, shifted, whole
from onebit.packed.patches import covered

DEVIATIONS = {8: 8.0, 4: 4.0}  # of a channel behind its batch-norm, in the range of an activation of so many bits
STREAM_DEVIATIONS = 16.0  # the heaviest tail seen in trained networks
MARGIN = 1.25  # over the largest number that calibration pictures showed
FIRST_SHIFT = 4  # of the first convolution's sums: its table is finer than the stream by so many bits


class Lowered(NamedTuple):
    """A program, and what its user should know: channels that are nearly dead, ranges that were cut."""

    program: p.Program
    notes: list[str]


def lower(graph: g.Graph, *, bits: int = 8, ranges: Mapping[int, float] | None = None) -> Lowered:
    """The integer program of a graph. `bits` (8 or 4) is the width of activations that have none of their own.

    `ranges` are those of `measure`, needed only where an activation follows no batch-norm.
    Raises OnebitError that names the layer which cannot be expressed, and why.
    """
    if bits not in DEVIATIONS:
        raise OnebitError(f"bits {bits} is not offered: activations have 8 or 4")
    return _Lowering(graph, bits, ranges).go()


def needs_ranges(graph: g.Graph) -> bool:
    """Does an activation follow no batch-norm, so that pictures must show its range?"""
    chains = [chain_before(graph, i) for i, node in enumerate(graph.nodes) if isinstance(node, g.Activation)]
    return any(chain.deviation is None and not isinstance(graph.nodes[chain.source], g.Input) for chain in chains)


def measure(graph: g.Graph, images: NDArray[np.uint8], batch: int = 16) -> dict[int, float]:
    """The largest size of every node's numbers over pictures uint8 [N, C, H, W], computed in float32."""
    ranges: dict[int, float] = {}

    def watch(i: int, x: NDArray[np.float32]) -> None:
        ranges[i] = max(ranges.get(i, 0.0), float(np.abs(x).max()))

    for start in range(0, len(images), batch):
        g.run(graph, images[start : start + batch], watch)
    return ranges


@dataclass(frozen=True)
class _Stored:
    """A value of the program: the operation that makes it, and the step of its numbers."""

    at: int
    step: float


class _Lowering:
    def __init__(self, graph: g.Graph, bits: int, ranges: Mapping[int, float] | None) -> None:
        self.graph, self.bits, self.ranges = graph, bits, ranges
        self.operations: list[p.Operation] = []
        self.stored: dict[int, _Stored] = {}
        self.pixels: dict[int, NDArray[np.float64]] = {}  # node -> what each of 256 pixels becomes, [C, 256]
        self.notes: list[str] = []
        self.head = self._find_head()
        self.chains = {
            i: chain_before(graph, i) for i, node in enumerate(graph.nodes) if isinstance(node, g.Activation)
        }
        self.steps = {i: self._activation_step(i) for i in self.chains}

    def go(self) -> Lowered:
        for i, node in enumerate(self.graph.nodes):
            if i in self.head:
                continue
            try:
                self._node(i, node)
            except OnebitError as error:
                raise OnebitError(f"layer {node.name!r}: {error}") from None
        self._logits()
        return Lowered(p.Program(self.operations), self.notes)

    def _emit(self, op: p.Operation) -> int:
        self.operations.append(op)
        return len(self.operations) - 1

    def _node(self, i: int, node: g.Node) -> None:
        source = node.inputs[0] if node.inputs else -1
        if isinstance(node, g.Input):
            self.pixels[i] = np.tile(np.arange(256.0), (node.shape[0], 1))
        elif source in self.pixels and isinstance(node, g.BatchNorm | g.Affine | g.Activation):
            self.pixels[i] = _of_pixels(node, self.pixels[source])
        elif isinstance(node, g.Activation):
            self._norm(i, node)
        elif isinstance(node, g.BatchNorm | g.Affine):
            for user in self.graph.users(i):
                if not isinstance(self.graph.nodes[user], g.BatchNorm | g.Affine | g.Activation):
                    raise OnebitError(
                        f"{self.graph.nodes[user].name!r} reads it without an activation between; a ReLU must follow a "
                        "batch-norm or bias, and only convolutions can be added to a residual stream"
                    )
        elif isinstance(node, g.Conv):
            adds = [u for u in self.graph.users(i) if isinstance(self.graph.nodes[u], g.Add)]
            if not (adds and self._branch(adds[0]) == i):  # else it is made together with the sum
                self._conv(i, node)
        elif isinstance(node, g.Add):
            self._add(i)
        elif isinstance(node, g.Average):
            self._average(i, node)
        elif isinstance(node, g.Max):
            self.stored[i] = _Stored(
                self._emit(p.Max(self._read(source, i).at, node.kernel, node.stride, node.padding)),
                self._read(source, i).step,
            )
        else:
            raise OnebitError(
                f"{type(node).__name__.lower()} is possible only at the end, before or behind the classifier"
            )

    def _read(self, source: int, reader: int) -> _Stored:
        """The stored value of a node; pixels become a table now, fine enough for `reader`."""
        if source in self.pixels:
            self._table(source, reader, None)
        return self.stored[source]

    # -- the stream ------------------------------------------------------------------------------

    def _reach(self, i: int) -> float:
        """The largest number that node `i`, and whatever shares its step, should hold."""
        stream, front = {i}, [i]
        while front:
            for user in self.graph.users(front.pop()):
                if isinstance(self.graph.nodes[user], g.Add | g.Max) and user not in stream:
                    stream.add(user)
                    front.append(user)
        reach = [self._chain_reach(chain) for chain in self.chains.values() if chain.source in stream]
        if reach:
            return max(reach)
        pools = [u for s in stream for u in self.graph.users(s) if isinstance(self.graph.nodes[u], g.Average)]
        if pools:  # read only by pooling, which makes nothing larger
            return max(self._reach(u) for u in pools)
        return self._seen(i)

    def _chain_reach(self, chain: Chain) -> float:
        if chain.deviation is None:
            return self._seen(chain.source)
        return float((np.abs(chain.centre) + STREAM_DEVIATIONS * chain.deviation).max())

    def _seen(self, i: int) -> float:
        if self.ranges is None:
            raise OnebitError(
                "no batch-norm follows it, so its range is unknown; give training pictures to measure it with"
            )
        return max(self.ranges[i] * MARGIN, 2.0**-20)

    def _target(self, i: int) -> float | None:
        """The unit of the sums that are added to node `i`, which its step should be a power of 2 of; None: nothing is."""
        for user in self.graph.users(i):
            node = self.graph.nodes[user]
            if isinstance(node, g.Max) and (unit := self._target(user)):
                return unit
            if isinstance(node, g.Add):
                branch = self._branch(user)
                if branch != i and (unit := self._unit(branch)):
                    return unit
        return None

    def _unit(self, conv: int) -> float | None:
        """The real number that 1 in the sums of a convolution stands for; None: not known yet."""
        node = self.graph.nodes[conv]
        assert isinstance(node, g.Conv)
        source = node.inputs[0]
        if source in self.stored:
            return node.scale * self.stored[source].step
        while isinstance(self.graph.nodes[source], g.Max | g.Average):  # of activations: the step stays
            source = self.graph.nodes[source].inputs[0]
        return node.scale * self.steps[source] if source in self.steps and source not in self.pixels else None

    def _branch(self, add: int) -> int:
        """Which input of a sum is the convolution that adds to the other one: the later of two."""
        nodes = self.graph.nodes
        convs = [s for s in nodes[add].inputs if isinstance(nodes[s], g.Conv) and self.graph.users(s) == [add]]
        if not convs or nodes[add].inputs[0] == nodes[add].inputs[1]:
            raise OnebitError(
                f"layer {nodes[add].name!r}: neither of its inputs is a convolution (without bias or batch-norm behind it); "
                "only a convolution can be added to a residual stream: use pre-activation blocks"
            )
        return max(convs)

    def _conv(self, i: int, node: g.Conv, base: _Stored | None = None, out: int | None = None) -> None:
        """A convolution, alone or adding to `base`; the value is stored for node `out`."""
        source, reach = node.inputs[0], self._reach(i if out is None else out)
        target = self._target(i) if base is None else None
        if source in self.pixels:
            step = base.step if base else power(reach / 32767) if target is None else shifted(target, reach)[0]
            step, shift = self._table(source, i, step)
        else:
            unit = node.scale * self._read(source, i).step
            step, shift = shifted(unit, reach)
        if base is not None and not math.isclose(step, base.step, rel_tol=1e-9):
            exponent = math.log2(base.step / unit) if source not in self.pixels else -1.0
            if exponent > -1e-9 and math.isclose(exponent, round(exponent), abs_tol=1e-9):
                step, shift = base.step, round(exponent)
            else:
                base, step = self._rescaled(base, unit, step)
                shift = round(math.log2(step / unit))
        op = p.Conv(
            self._read(source, i).at, p.pack_bits(node.bits), node.bits.shape[1:3], shift, node.stride, node.padding,
            base.at if base else -1,
        )  # fmt: skip
        self.stored[i if out is None else out] = _Stored(self._emit(op), step)

    def _rescaled(self, base: _Stored, unit: float, step: float) -> tuple[_Stored, float]:
        """The stream with another step: the smallest ``unit * 2^k`` that is at least `step` and not below its own."""
        while base.step > step * 32767 / 32768:
            step *= 2
        shape = self._channels(base.at)
        op = p.Average(base.at, shape, (1, 1), 1, (0, 0, 0, 0), *mean_constants(1, base.step / step))
        return _Stored(self._emit(op), step), step

    def _channels(self, at: int) -> int:
        op = self.operations[at]
        if isinstance(op, p.Conv):
            return len(op.bits)
        return op.channels if isinstance(op, p.Average) else self._channels(op.source)  # type: ignore[union-attr]

    def _add(self, i: int) -> None:
        branch = self._branch(i)
        (other,) = (s for s in self.graph.nodes[i].inputs if s != branch)
        node = self.graph.nodes[branch]
        assert isinstance(node, g.Conv)
        if other not in self.stored or other in self.chains:
            raise OnebitError(
                f"it adds to {self.graph.nodes[other].name!r}, which is not a residual stream; add convolutions to the raw stream"
            )
        self._conv(branch, node, self.stored[other], i)

    def _average(self, i: int, node: g.Average) -> None:
        source = self._read(node.inputs[0], i)
        counts = np.unique(covered(self.graph.shapes[node.inputs[0]][1:], node.kernel, node.stride, node.padding))
        channels = self.graph.shapes[i][0]
        step = source.step
        if not self._is_activation(node.inputs[0]):
            target = self._target(i)
            step = max(step, self._reach(i) / 32767) if target is None else shifted(target, self._reach(i))[0]
            while source.step / step / counts.min() > 32767 / 32768:
                step *= 2 if target else 32768 / 32767
        op = p.Average(
            source.at, channels, node.kernel, node.stride, node.padding,
            *mean_constants(math.prod(node.kernel), source.step / step, set(counts.tolist())),
        )  # fmt: skip
        self.stored[i] = _Stored(self._emit(op), step)

    def _is_activation(self, i: int) -> bool:
        while isinstance(self.graph.nodes[i], g.Max | g.Average):
            i = self.graph.nodes[i].inputs[0]
        return i in self.chains and i not in self.pixels

    # -- the input -------------------------------------------------------------------------------

    def _table(self, i: int, reader: int, step: float | None) -> tuple[float, int]:
        """Store the pixels of node `i` for the convolution `reader` that writes with `step`; its step and shift then.

        The table is finer than what is written by `shift` bits, as far as its entries allow.
        """
        values, node = self.pixels.pop(i), self.graph.nodes[reader]
        scale = node.scale if isinstance(node, g.Conv) else 1.0
        largest = max(float(np.abs(values).max()), 2.0**-20)
        shift = FIRST_SHIFT
        if step is None:  # nobody says how fine: as fine as entries of 12 bits are
            step, shift = power(largest * scale / (p.TABLE_LIMIT / 2)), 0
        while whole(largest * scale * 2.0**shift / step) > p.TABLE_LIMIT:
            shift, step = (shift - 1, step) if shift else (shift, step * 2)
        fine = step / (scale * 2.0**shift)
        _, height, width = self.graph.shapes[i]
        self.stored[i] = _Stored(self._emit(p.Table(height, width, whole(values / fine).astype(np.int16))), fine)
        return step, shift

    # -- activations -----------------------------------------------------------------------------

    def _activation_step(self, i: int) -> float:
        node, chain = self.graph.nodes[i], self.chains[i]
        assert isinstance(node, g.Activation)
        if node.step is not None:
            return node.step
        levels = 2**self.bits
        if chain.deviation is not None:
            top = chain.offset + DEVIATIONS[self.bits] * np.abs(chain.gain) * chain.deviation
            largest = float(top.max())
        elif self.ranges is not None:
            largest = self.ranges[i]
        elif isinstance(self.graph.nodes[chain.source], g.Input):
            return 1.0  # part of the table
        else:
            raise OnebitError(
                f"layer {node.name!r}: no batch-norm is before it, so its range is unknown; give training pictures to measure it with"
            )
        step = 2.0 ** round(math.log2(max(largest - node.low, 2.0**-20) / levels))
        return min(step, -node.low) if node.low else step

    def _norm(self, i: int, node: g.Activation) -> None:
        chain, step = self.chains[i], self.steps[i]
        if chain.source not in self.stored or self._is_activation(chain.source):
            raise OnebitError(
                f"it reads {self.graph.nodes[chain.source].name!r}, which is an activation already; leave one out"
            )
        source = self.stored[chain.source]
        limit = (node.levels or 2**self.bits) - 1
        zero = round(-node.low / step)
        if zero * step != -node.low:
            raise OnebitError(f"its lowest value {node.low} is no multiple of its step {step}")
        spread = self._chain_reach(chain) if chain.deviation is None else STREAM_DEVIATIONS * chain.deviation
        mean, multiplier, offset = norm_constants(chain, spread, source.step, step, zero, limit)
        if dead := int((np.abs(2.0**15 * chain.gain * source.step / step) >= 32767.5).sum()):
            self.notes.append(
                f"layer {node.name!r}: {dead} of {len(mean)} channels hardly vary; their gain was limited"
            )
        op = p.Norm(source.at, mean, multiplier, offset, zero, limit)
        self.stored[i] = _Stored(self._emit(op), step)

    # -- the classifier --------------------------------------------------------------------------

    def _find_head(self) -> list[int]:
        """The nodes of the classifier, from the one that reads the last activation to the end."""
        nodes, i = self.graph.nodes, len(self.graph.nodes) - 1
        chain: list[int] = []
        while not isinstance(nodes[i], g.Conv):
            if not (isinstance(nodes[i], g.BatchNorm | g.Affine) or self._is_mean(i)):
                raise OnebitError(
                    f"layer {nodes[i].name!r}: the network ends without a 1-bit classifier; end it with a convolution or linear "
                    "layer, global average pooling and batch-norm in any order"
                )
            chain.append(i)
            i = nodes[i].inputs[0]
        chain.append(i)
        if self._is_mean(nodes[i].inputs[0]):
            chain.append(nodes[i].inputs[0])
        return chain[::-1]

    def _is_mean(self, i: int) -> bool:
        node = self.graph.nodes[i]
        if isinstance(node, g.Average):
            return node.kernel == self.graph.shapes[node.inputs[0]][1:] and not any(node.padding) and not node.append
        return isinstance(node, g.Mean)

    def _logits(self) -> None:
        nodes, shapes = self.graph.nodes, self.graph.shapes
        (at,) = (i for i in self.head if isinstance(nodes[i], g.Conv))
        conv, first = nodes[at], nodes[self.head[0]].inputs[0]
        assert isinstance(conv, g.Conv)
        name = f"layer {conv.name!r}"
        if first in self.pixels:
            self._table(first, at, None)
        if first not in self.stored:
            raise OnebitError(f"{name}: it reads a batch-norm without an activation; put a ReLU before the classifier")
        source = self.stored[first]
        channels, height, width = shapes[first]
        kernel = (conv.bits.shape[1], conv.bits.shape[2])
        whole = kernel == (height, width) and not any(conv.padding)
        pointwise = kernel == (1, 1) and conv.stride == 1 and not any(conv.padding)
        if not (whole or pointwise) or shapes[self.head[-1]][1:] != (1, 1):
            raise OnebitError(
                f"{name}: the classifier must be 1x1 (with global average pooling), or see the whole map at once"
            )
        chain = Chain(at, np.zeros(len(conv.bits)), np.ones(len(conv.bits)), np.zeros(len(conv.bits)))
        for i in self.head:
            if isinstance(nodes[i], g.BatchNorm | g.Affine):
                chain = chain.then(nodes[i])
        positions = height * width if kernel == (1, 1) else 1
        gain = chain.gain * conv.scale * source.step / positions
        offset = chain.offset - chain.gain * chain.centre
        zero, top = self._extent(source.at)
        bound = channels * height * width * max(top - zero, zero)
        try:
            shift, fraction, a, b = logit_constants(gain, offset, bound)
        except OnebitError as error:
            raise OnebitError(f"{name}: {error}") from None
        self._emit(p.Logits(source.at, p.pack_bits(conv.bits), kernel, shift, a, b, fraction))

    def _extent(self, at: int) -> tuple[int, int]:
        """Zero and largest size of the numbers of an operation."""
        op = self.operations[at]
        if isinstance(op, p.Norm):
            return op.zero, op.limit
        if isinstance(op, p.Max | p.Average):
            return self._extent(op.source)
        return 0, p.INT16


def _of_pixels(node: g.Node, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a layer that works on each pixel alone makes of [C, 256]."""
    if isinstance(node, g.BatchNorm):
        scaled = (x - node.mean[:, None]) / node.deviation[:, None]
        return scaled * node.gain[:, None] + node.offset[:, None]
    if isinstance(node, g.Affine):
        return x * node.gain[:, None] + node.offset[:, None]
    assert isinstance(node, g.Activation)
    if node.step is None or node.levels is None:
        return np.maximum(x, node.low)
    low = round(node.low / node.step)
    return np.clip(np.floor(x / node.step + 0.5), low, low + node.levels - 1) * node.step
