"""From real numbers to integers: a graph becomes a program.

All constants follow from the batch-norms' moments and the scales of the weights. Only where an activation has no
batch-norm before it are ranges needed that pictures must show (`ranges.measure`). The choices:

- Activations have the step 2^-5 at 8 bits and 2^-2 at 4: behind a batch-norm every channel has deviation 1, so that the
  range ends at 8 (4) deviations. A learned batch-norm scales that by its largest gain and offset, to the nearest power of 2
  (the next larger one costs twice the rounding error; what is cut off hardly occurs).
- The stream has the step of the sums that are added to it, times 2^shift: the smallest shift with which the mean plus 16
  deviations of every channel fits 16 bits. So no sum needs a multiplier. Streams whose layers have other scales change
  their step by a 1x1 average before the sum. What is read by average pooling alone may be larger than its mean by the
  root of the window's area (as noise is), and gets that room.
- A batch-norm with ReLU subtracts the point that becomes 0, then multiplies. Where that point is too far away (tiny
  gains), the rest of it is added behind the multiplication as whole levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from onebit.errors import OnebitError
from onebit.graph import nodes as g
from onebit.packed import program as p
from onebit.packed.chain import Chain, chain_before, of_pixels
from onebit.packed.constants import logit_constants, mean_constants, norm_constants, power, shifted, whole
from onebit.packed.pooling import without_means
from onebit.packed.ranges import DEVIATIONS, Seen, zero_level
from onebit.patches import covered

STREAM_DEVIATIONS = 16.0  # the heaviest tail seen in trained networks
MARGIN = 1.25  # over the largest number that calibration pictures showed
T = TypeVar("T")
FIRST_SHIFT = 4  # of the first convolution's sums: its table is finer than the stream by so many bits


class Lowered(NamedTuple):
    """A program, and what its user should know: channels that are nearly dead, ranges that were cut."""

    program: p.Program
    notes: list[str]


def lower(graph: g.Graph, *, bits: int = 8, ranges: Mapping[int, Seen] | None = None) -> Lowered:
    """The integer program of a graph. `bits` (8 or 4) is the width of activations that have none of their own.

    `ranges` are those of `ranges.measure`, needed only where an activation follows no batch-norm.
    Raises OnebitError that names the layer which cannot be expressed, and why.
    """
    if bits not in DEVIATIONS:
        raise OnebitError(f"bits {bits} is not offered: activations have 8 or 4")
    return _Lowering(graph, bits, ranges).go()


def needs_ranges(graph: g.Graph) -> bool:
    """Does something follow no batch-norm, so that pictures must show its range?"""
    try:
        lower(graph)
    except _RangeUnknown:
        return True
    except OnebitError:  # for another reason, which `lower` will tell
        return False
    return False


class _RangeUnknown(OnebitError):
    def __init__(self, message: str = "") -> None:
        super().__init__(
            message or "no batch-norm tells its range; give training pictures to measure it with, or add a batch-norm"
        )


@dataclass(frozen=True)
class _Stored:
    """A value of the program: the operation that makes it, and the step of its numbers."""

    at: int
    step: float


class _Lowering:
    def __init__(self, graph: g.Graph, bits: int, ranges: Mapping[int, Seen] | None) -> None:
        self.graph, self.bits, self.ranges = graph, bits, ranges
        self.operations: list[p.Operation] = []
        self.stored: dict[int, _Stored] = {}
        self.notes: list[str] = []
        self.head = self._find_head()
        given, self.graph = graph, without_means(graph, self.head)
        graph = self.graph
        for old, new in zip(given.nodes, graph.nodes, strict=True):
            if isinstance(old, g.Conv) and isinstance(new, g.Conv) and new.bits.size > old.bits.size:
                self.notes.append(
                    f"layer {old.name!r}: its weights are repeated {new.bits.size // old.bits.size} times, so that the mean "
                    "before it is exact"
                )
        self.branches = {i: self._branch(node) for i, node in enumerate(graph.nodes) if isinstance(node, g.Add)}
        self.pixels = of_pixels(graph)
        self.chains = {
            i: chain_before(graph, i)
            for i, node in enumerate(graph.nodes)
            if isinstance(node, g.Activation) and i not in self.pixels
        }
        self.steps = {i: self._named(i, self._activation_step) for i in self.chains}

    def go(self) -> Lowered:
        for i in sorted({source for node in self.graph.nodes for source in node.inputs}):
            if i not in self.head and i not in self.pixels:
                self._named(i, self._node)
        self._named(self.head_conv, self._logits)
        return Lowered(p.Program(self.operations), self.notes)

    def _named(self, i: int, work: Callable[[int], T]) -> T:
        """What `work` makes of node `i`; its errors begin with the layer's name."""
        try:
            return work(i)
        except OnebitError as error:
            raise type(error)(f"layer {self.graph.nodes[i].name!r}: {error}") from None

    def _emit(self, op: p.Operation) -> int:
        self.operations.append(op)
        return len(self.operations) - 1

    def _node(self, i: int) -> None:
        node = self.graph.nodes[i]
        if isinstance(node, g.Activation):
            self._norm(i, node)
        elif isinstance(node, g.BatchNorm | g.Affine):
            for user in self.graph.users(i):
                if not isinstance(self.graph.nodes[user], g.BatchNorm | g.Affine | g.Activation):
                    raise OnebitError(
                        f"{self.graph.nodes[user].name!r} reads it without an activation between; a ReLU must follow a "
                        "batch-norm or bias, and only convolutions can be added to a residual stream"
                    )
        elif isinstance(node, g.Conv):
            if i not in self.branches.values():  # else it is made together with the sum
                self._conv(i, node)
        elif isinstance(node, g.Add):
            self._add(i, node)
        elif isinstance(node, g.Average):
            self._average(i, node)
        else:
            assert isinstance(node, g.Max)
            source = self._read(node.inputs[0], i)
            self.stored[i] = _Stored(self._emit(p.Max(source.at, node.kernel, node.stride, node.padding)), source.step)

    def _read(self, source: int, reader: int) -> _Stored:
        """The stored value of a node; pixels become a table now, fine enough for `reader`."""
        if source in self.pixels and source not in self.stored:
            self._table(source, reader, None)
        return self.stored[source]

    def _origin(self, i: int) -> int:
        """The node that `i` pools, and perhaps pools again."""
        while isinstance(self.graph.nodes[i], g.Max | g.Average):
            i = self.graph.nodes[i].inputs[0]
        return i

    def _is_activation(self, i: int) -> bool:
        return self._origin(i) in self.chains

    # -- the stream ------------------------------------------------------------------------------

    def _reach(self, i: int) -> float:
        """The largest number that node `i`, and whatever shares its step, should hold."""
        stream = [i]
        for s in stream:
            users = [u for u in self.graph.users(s) if isinstance(self.graph.nodes[u], g.Add | g.Max)]
            stream += [u for u in users if u not in stream]
        known = [reach for s in stream for reach in self._own_reach(s)]
        return max(known) if known else max(map(self._seen, stream))

    def _own_reach(self, i: int) -> list[float]:
        """What is known of the largest number of node `i` alone: by its batch-norms, by pictures, or by its means."""
        if chains := [chain for chain in self.chains.values() if chain.source == i]:
            return [self._chain_reach(chain) for chain in chains]
        if self.ranges is not None:
            return [self._seen(i)]
        pools = [(u, node) for u in self.graph.users(i) if isinstance(node := self.graph.nodes[u], g.Average)]
        return [self._reach(u) * math.sqrt(math.prod(node.kernel)) for u, node in pools]

    def _chain_reach(self, chain: Chain) -> float:
        if chain.deviation is None:
            return self._seen(chain.source)
        return float((np.abs(chain.centre) + STREAM_DEVIATIONS * chain.deviation).max())

    def _seen(self, i: int) -> float:
        if self.ranges is None:
            raise _RangeUnknown
        return max(self.ranges[i].largest * MARGIN, 2.0**-20)

    def _target(self, i: int) -> float | None:
        """The unit of the sums that are added to node `i`, which its step should be a power of 2 of; None: nothing is."""
        for user in self.graph.users(i):
            node = self.graph.nodes[user]
            if isinstance(node, g.Max) and (unit := self._target(user)):
                return unit
            if isinstance(node, g.Add) and self.branches[user] != i and (unit := self._unit(self.branches[user])):
                return unit
        return None

    def _unit(self, conv: int) -> float | None:
        """The real number that 1 in the sums of a convolution stands for; None: not known yet."""
        node = self.graph.nodes[conv]
        assert isinstance(node, g.Conv)
        source = node.inputs[0]
        if source in self.stored:
            return node.scale * self.stored[source].step
        source = self._origin(source)  # pooling of activations: the step stays
        return node.scale * self.steps[source] if source in self.steps else None

    def _branch(self, add: g.Node) -> int:
        """Which input of a sum is the convolution that adds to the other one: the later of two."""
        nodes = self.graph.nodes
        why = "neither of its inputs is a convolution (without bias or batch-norm behind it) that nothing else reads"
        if add.inputs[0] == add.inputs[1]:
            why = "it adds a map to itself"
        elif convs := [s for s in add.inputs if isinstance(nodes[s], g.Conv) and len(self.graph.users(s)) == 1]:
            return max(convs)
        raise OnebitError(
            f"layer {add.name!r}: {why}; only a convolution can be added to a residual stream: use pre-activation blocks"
        )

    def _conv(self, i: int, node: g.Conv, base: _Stored | None = None, out: int | None = None) -> None:
        """A convolution, alone or adding to `base`; the value is stored for node `out`."""
        source, out = node.inputs[0], i if out is None else out
        reach = self._reach(out)
        if source in self.pixels and source not in self.stored:
            target = self._target(i)
            step = power(reach / 32767) if target is None else shifted(target, reach)[0]
            step, shift = self._table(source, i, step)
        else:
            unit = node.scale * self._read(source, i).step
            step, shift = shifted(unit, reach)
            if base is not None:
                base = self._meet(base, out, unit, step)
                step, shift = base.step, round(math.log2(base.step / unit))
        op = p.Conv(
            self.stored[source].at, p.pack_bits(node.bits), node.bits.shape[1:3], shift, node.stride, node.padding,
            base.at if base else -1,
        )  # fmt: skip
        self.stored[out] = _Stored(self._emit(op), step)

    def _meet(self, base: _Stored, out: int, unit: float, step: float) -> _Stored:
        """The stream that sums in `unit` are added to: as it is, or with the smallest step ``unit * 2^k`` from `step` on
        that is not below its own.
        """
        exponent = math.log2(base.step / unit)
        if base.step > step * (1 - 1e-9) and math.isclose(exponent, round(exponent), abs_tol=1e-9):
            return base
        while base.step > step * 32767 / 32768:
            step *= 2
        constants = mean_constants(1, base.step / step)
        op = p.Average(base.at, self.graph.shapes[out][0], (1, 1), 1, (0, 0, 0, 0), *constants)
        return _Stored(self._emit(op), step)

    def _add(self, i: int, add: g.Add) -> None:
        branch = self.branches[i]
        node = self.graph.nodes[branch]
        assert isinstance(node, g.Conv)
        (other,) = (s for s in add.inputs if s != branch)
        if other not in self.stored or self._is_activation(other):
            raise OnebitError(
                f"it adds to {self.graph.nodes[other].name!r}, which is not a residual stream; add convolutions to the raw stream"
            )
        self._conv(branch, node, self.stored[other], i)

    def _average(self, i: int, node: g.Average) -> None:
        at = node.inputs[0]
        source = self._read(at, i)
        counts = np.unique(covered(self.graph.shapes[at][1:], node.kernel, node.stride, node.padding))
        step = source.step
        if self._origin(at) not in self.pixels and not self._is_activation(at):
            target, reach = self._target(i), self._reach(i)
            step = reach / 32767 if target is None else shifted(target, reach)[0]
            while source.step / step / counts.min() > 32767 / 32768:
                step *= 2 if target else 32768 / 32767
        op = p.Average(
            source.at, self.graph.shapes[i][0], node.kernel, node.stride, node.padding,
            *mean_constants(
                math.prod(node.kernel), source.step / step, set(counts.tolist()), fine=self._is_activation(at)
            ),
        )  # fmt: skip
        self.stored[i] = _Stored(self._emit(op), step)

    # -- the input -------------------------------------------------------------------------------

    def _table(self, i: int, reader: int, step: float | None) -> tuple[float, int]:
        """Store the pixels of node `i` for the convolution `reader` that writes with `step`; its step and shift then.

        The table is finer than what is written by `shift` bits, as far as its entries allow.
        """
        if self.operations:
            raise OnebitError(
                f"it reads {self.graph.nodes[i].name!r}, but another layer reads the pixels before or behind that; a packed "
                "model has one table of pixels: let all read the same"
            )
        values, node = self.pixels[i], self.graph.nodes[reader]
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
        if chain.deviation is not None:
            largest = float((chain.offset + DEVIATIONS[self.bits] * np.abs(chain.gain) * chain.deviation).max())
        elif self.ranges is not None:
            return self.ranges[i].steps[self.bits]
        else:
            raise _RangeUnknown
        # `low` is a whole number of steps, and at most half of the levels are below 0
        levels = 2.0**self.bits
        step = 2.0 ** round(math.log2(max(largest - node.low, 2.0**-20) / levels))
        return min(max(step, -2 * node.low / levels), -node.low) if node.low else step

    def _norm(self, i: int, node: g.Activation) -> None:
        chain, step = self.chains[i], self.steps[i]
        if chain.source not in self.stored or self._is_activation(chain.source):
            raise OnebitError(
                f"it follows {self.graph.nodes[chain.source].name!r} without a convolution between; leave one out"
            )
        source = self.stored[chain.source]
        limit = (node.levels or 2**self.bits) - 1
        zero = zero_level(node.low, step)
        if node.step is not None and zero * step != -node.low:
            raise OnebitError(f"its lowest value {node.low} is no multiple of its step {step}")
        spread = self._chain_reach(chain) if chain.deviation is None else STREAM_DEVIATIONS * chain.deviation
        mean, multiplier, offset = norm_constants(chain, spread, source.step, step, zero, limit)
        if dead := int((np.abs(2.0**15 * chain.gain * source.step / step) >= 32767.5).sum()):
            self.notes.append(
                f"layer {node.name!r}: {dead} of {len(mean)} channels vary too little for its integers; their gain was limited"
            )
        op = p.Norm(source.at, mean, multiplier, offset, zero, limit)
        self.stored[i] = _Stored(self._emit(op), step)

    # -- the classifier --------------------------------------------------------------------------

    def _find_head(self) -> list[int]:
        """The nodes of the classifier, from the one that reads the last activation to the end."""
        nodes, i = self.graph.nodes, len(self.graph.nodes) - 1
        head: list[int] = []
        while not isinstance(nodes[i], g.Conv):
            if not (isinstance(nodes[i], g.BatchNorm | g.Affine) or self._is_mean(i)):
                raise OnebitError(
                    f"layer {nodes[i].name!r}: the network ends without a 1-bit classifier; end it with a convolution or linear "
                    "layer, global average pooling and batch-norm in any order"
                )
            head.append(i)
            i = nodes[i].inputs[0]
        self.head_conv = i
        head.append(i)
        if self._is_mean(nodes[i].inputs[0]):
            head.append(nodes[i].inputs[0])
        return head[::-1]

    def _is_mean(self, i: int) -> bool:
        node = self.graph.nodes[i]
        if isinstance(node, g.Average):
            return node.kernel == self.graph.shapes[node.inputs[0]][1:] and not any(node.padding) and not node.append
        return isinstance(node, g.Mean)

    def _logits(self, at: int) -> None:
        nodes, shapes = self.graph.nodes, self.graph.shapes
        conv, first = nodes[at], nodes[self.head[0]].inputs[0]
        assert isinstance(conv, g.Conv)
        source = self._read(first, at)
        channels, height, width = shapes[first]
        kernel = (conv.bits.shape[1], conv.bits.shape[2])
        whole_map = kernel == (height, width) and not any(conv.padding)
        pointwise = kernel == (1, 1) and conv.stride == 1 and not any(conv.padding)
        if not (whole_map or pointwise) or shapes[self.head[-1]][1:] != (1, 1):
            raise OnebitError("the classifier must be 1x1 (with global average pooling), or see the whole map at once")
        chain = Chain(at, np.zeros(len(conv.bits)), np.ones(len(conv.bits)), np.zeros(len(conv.bits)))
        for i in self.head:
            if isinstance(node := nodes[i], g.BatchNorm | g.Affine):
                chain = chain.then(node)
        positions = height * width if kernel == (1, 1) else 1
        gain = chain.gain * conv.scale * source.step / positions
        offset = chain.offset - chain.gain * chain.centre
        zero, top = self._extent(source.at)
        bound = channels * height * width * max(top - zero, zero)
        shift, fraction, a, b = logit_constants(gain, offset, bound)
        if gain.any() and (largest := int(np.abs(a).max())) < 1 << 7:
            change = 50 / max(largest, 0.5)
            self.notes.append(
                f"layer {conv.name!r}: logits are so small that rounding changes them by {change:.1g} %; divide them by less"
            )
        self._emit(p.Logits(source.at, p.pack_bits(conv.bits), kernel, shift, a, b, fraction))

    def _extent(self, at: int) -> tuple[int, int]:
        """Zero and largest size of the numbers of an operation."""
        op = self.operations[at]
        if isinstance(op, p.Norm):
            return op.zero, op.limit
        if isinstance(op, p.Max | p.Average):
            return self._extent(op.source)
        return 0, p.INT16
