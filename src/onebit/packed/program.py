"""The packed model: six operations on integers, one bit a weight. `reference` computes them, `docs/format.md` stores them.

A program is a list of operations; each makes one value out of earlier ones, and the last makes the logits. A value is
a map of channels x height x width: the unsigned 8-bit input of a convolution (an *activation*, "u8"), or 16-bit numbers
with sign (the *stream* of a residual network, "i16"). It stands for real numbers ``step * (x - zero)``; steps are known
to whoever lowers a network and appear nowhere at run time.

    sat16(x)      = min(32767, max(-32768, x))
    rsh(x, k)     = (x + ((1 << k) >> 1)) >> k              arithmetic shift of int32: halves round up
    q15mulr(x, m) = (x * m + 0x4000) >> 15                  x int16, m in [-32767, 32767]

Every instruction set with 16-bit lanes has these. All sums fit int32: `Program` proves it from the ranges of the values, and
refuses where it cannot. What may leave 16 bits saturates by definition.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.patches import Padding, divisors, output_size

Kind = Literal["u8", "i16", "i32"]
INT16, INT32 = 1 << 15, 1 << 31
TABLE_LIMIT = 64 * 127 + 31  # an entry is 64 * a + b with a and b int8, a matrix unit's two bytes
MAX_SIDE, MAX_CHANNELS, MAX_MAP, MAX_OPERATIONS = 4096, 1 << 16, 1 << 26, 4096


@dataclass(frozen=True)
class Value:
    """What an operation makes: ``low <= x <= high`` for every number of it, whatever the picture."""

    kind: Kind
    shape: tuple[int, int, int]  # channels, height, width
    low: int
    high: int
    zero: int = 0

    @property
    def reach(self) -> int:
        """The largest |x - zero|."""
        return max(self.high - self.zero, self.zero - self.low)


@dataclass(frozen=True, eq=False)
class Table:
    """``x[c, y, x] = values[c, pixel]``: raw pixels through the input's batch-norm (and ReLU). Always the first.

    `values` int16 [channels, 256], at most 8159 in size.
    """

    height: int
    width: int
    values: NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Conv:
    """``sat16(base + sat16(rsh(sum of +-(x - zero), shift)))``: cross-correlation; ``base`` is a value, or 0.

    Outside the map x - zero is 0. `bits` uint8 [output channels, ceil(h * w * c / 8)]: a row holds the weights of one
    output channel, input channel fastest, then column, then row of the kernel; bit 0 of a byte comes first; 1 is +1
    and 0 is -1; pad bits are 0. A base is the residual stream: one step for all that is added to it.
    """

    source: int
    bits: NDArray[np.uint8]
    kernel: tuple[int, int]
    shift: int
    stride: int = 1
    padding: Padding = (0, 0, 0, 0)
    base: int = -1


@dataclass(frozen=True, eq=False)
class Norm:
    """``min(limit, max(0, zero + offset + q15mulr(sat16(x - mean), multiplier)))``: batch-norm, ReLU, requantisation.

    `mean`, `multiplier` and `offset` int16 [channels]. A ReLU has zero 0; the shifted ReLU max(-1, x) has its -1 at 0.
    """

    source: int
    mean: NDArray[np.int16]
    multiplier: NDArray[np.int16]
    offset: NDArray[np.int16]
    zero: int = 0
    limit: int = 255


@dataclass(frozen=True, eq=False)
class Average:
    """``q15mulr(sat16(rsh(sum, shift[d])), multiplier[d])`` with d the positions of the window that lie in the map.

    `shift` and `multiplier` int16 [kernel height * width] for d = 1, 2, ...: ``multiplier = 2^15 * 2^shift / d`` times
    the quotient of the steps. Channels beyond those of the source are appended and hold `zero`. A 1x1 window only
    changes the step.
    """

    source: int
    channels: int
    kernel: tuple[int, int]
    stride: int
    padding: Padding
    shift: NDArray[np.int16]
    multiplier: NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Max:
    """The largest x of the window; positions outside the map do not count."""

    source: int
    kernel: tuple[int, int]
    stride: int
    padding: Padding = (0, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Logits:
    """``rsh(sum of +-(x - zero), shift) * gain + offset``, int32 a class: classifier, batch-norm and mean. Always the last.

    The sum runs over the whole map: with a 1x1 kernel each channel has one weight for all positions (a global average
    pool; its divisor is in `gain`), with a kernel as large as the map each position has its own. `bits` as in `Conv`,
    `gain` and `offset` int32 [classes]. Logits in real numbers are ``2^-fraction`` times these; their probabilities
    are ``softmax(logits * sharpness / 2^16)``, where sharpness / 2^16 is one over the temperature.
    """

    source: int
    bits: NDArray[np.uint8]
    kernel: tuple[int, int]
    shift: int
    gain: NDArray[np.int32]
    offset: NDArray[np.int32]
    fraction: int
    sharpness: int = 1 << 16


Operation = Table | Conv | Norm | Average | Max | Logits


class Program:
    """Operations that were found valid, and `values`, what each makes.

    Raises OnebitError that names the operation: ranges, shapes, order, pad bits, sums that might leave int32.
    """

    def __init__(self, operations: list[Operation]) -> None:
        self.operations = tuple(operations)
        self.values: list[Value] = []
        if not 2 <= len(operations) <= MAX_OPERATIONS:
            raise OnebitError(f"a program has 2 to {MAX_OPERATIONS} operations, not {len(operations)}")
        used: set[int] = set()
        for i, op in enumerate(operations):
            try:
                _require(isinstance(op, Table) == (i == 0), "the table comes first and only there")
                _require(isinstance(op, Logits) == (i == len(operations) - 1), "logits come last and only there")
                used.update(sources(op))
                self.values.append(self._value(op, i))
            except OnebitError as error:
                raise OnebitError(f"operation {i} ({type(op).__name__.lower()}): {error}") from None
        for i in range(len(operations) - 1):
            if i not in used:
                raise OnebitError(f"operation {i} ({type(operations[i]).__name__.lower()}): nothing reads its value")

    @property
    def input(self) -> Value:
        """The picture's shape, as the value of the table."""
        return self.values[0]

    @property
    def logits(self) -> Logits:
        """The last operation."""
        last = self.operations[-1]
        assert isinstance(last, Logits)
        return last

    @property
    def classes(self) -> int:
        return len(self.logits.gain)

    def convolutions(self) -> Iterator[tuple[int, Conv | Logits]]:
        """The operations that hold weights, with their places."""
        for i, op in enumerate(self.operations):
            if isinstance(op, Conv | Logits):
                yield i, op

    def fan_in(self, op: Conv | Logits) -> int:
        """Weights of one output channel."""
        return math.prod(op.kernel) * self.values[op.source].shape[0]

    def weights(self, op: Conv | Logits) -> int:
        """Weights of an operation, one bit each."""
        return self.fan_in(op) * len(op.bits)

    def macs(self, i: int) -> int:
        """Multiply-accumulates of operation `i` a picture (additions, in truth); 0 where it has no weights."""
        op = self.operations[i]
        if isinstance(op, Conv):
            return self.weights(op) * math.prod(self.values[i].shape[1:])
        return self.weights(op) if isinstance(op, Logits) else 0

    def _value(self, op: Operation, i: int) -> Value:
        if isinstance(op, Table):
            _array(op.values, np.int16, (len(op.values), 256))
            _require(
                bool((np.abs(op.values.astype(np.int32)) <= TABLE_LIMIT).all()), f"an entry is beyond {TABLE_LIMIT}"
            )
            return _value("i16", (len(op.values), op.height, op.width), int(op.values.min()), int(op.values.max()))
        for s in sources(op):
            _require(0 <= s < i, f"reads value {s}, which is not an earlier one")
        source = self.values[op.source]
        channels, height, width = source.shape
        if isinstance(op, Norm):
            _require(source.kind == "i16", "reads an activation, not the stream")
            for array in (op.mean, op.multiplier, op.offset):
                _array(array, np.int16, (channels,))
            _require(bool((op.multiplier > -INT16).all()), "a multiplier is -32768")
            _require(
                1 <= op.limit <= 255 and 0 <= op.zero <= op.limit,
                f"zero {op.zero} and limit {op.limit}: 0 <= zero <= limit <= 255",
            )
            return _value("u8", source.shape, 0, op.limit, op.zero)
        _kernel(op.kernel)
        if isinstance(op, Logits):
            _require(
                op.kernel in ((1, 1), (height, width)),
                f"kernel {op.kernel} is neither 1x1 nor the map's {(height, width)}",
            )
            self._rows(op)
            bound = height * width * channels * source.reach
            _require(bound + (1 << op.shift) < INT32, f"its sums may reach {bound}, beyond int32")
            classes = len(op.bits)
            _array(op.gain, np.int32, (classes,))
            _array(op.offset, np.int32, (classes,))
            gain, offset = (int(np.abs(a.astype(np.int64)).max()) for a in (op.gain, op.offset))
            _require(((bound >> op.shift) + 1) * gain + offset < INT32, "its logits may leave int32")
            _require(0 <= op.fraction <= 24, f"fraction {op.fraction}: 0 to 24")
            _require(0 < op.sharpness < INT32, f"sharpness {op.sharpness} is not positive")
            return _value("i32", (classes, 1, 1), -INT32, INT32 - 1)
        _window(op.stride, op.padding)
        size = output_size((height, width), op.kernel, op.stride, op.padding)
        if isinstance(op, Conv):
            self._rows(op)
            bound = self.fan_in(op) * source.reach
            _require(bound + (1 << op.shift) < INT32, f"its sums may reach {bound}, beyond int32")
            shape = (len(op.bits), *size)
            _require(op.base >= 0 or op.base == -1, f"base {op.base}: a value, or -1 for none")
            if op.base >= 0:
                base = self.values[op.base]
                _require(
                    base.kind == "i16" and base.shape == shape,
                    f"its base has shape {base.shape} of {base.kind}, not {shape} of i16",
                )
            reach = INT16 if op.base >= 0 else (bound + (1 << op.shift >> 1)) >> op.shift
            return _value("i16", shape, max(-INT16, -reach), min(INT16 - 1, reach))
        seen = divisors((height, width), op.kernel, op.stride, op.padding)
        _require(seen[0] > 0, "a window lies in the padding alone")
        if isinstance(op, Max):
            return _value(source.kind, (channels, *size), source.low, source.high, source.zero)
        area = math.prod(op.kernel)
        _array(op.shift, np.int16, (area,))
        _array(op.multiplier, np.int16, (area,))
        _require(bool(((op.shift >= 0) & (op.shift <= 15)).all()), "shifts: 0 to 15")
        _require(bool((op.multiplier >= 0).all()), "a multiplier is negative")
        _require(op.channels >= channels, f"{op.channels} channels out of {channels}: only more can be made")
        bound = int(seen[-1]) * max(source.high, -source.low)
        _require(bound + INT16 < INT32, f"its sums may reach {bound}, beyond int32")
        if source.kind == "i16":
            return _value("i16", (op.channels, *size), -INT16, INT16 - 1)
        shift, multiplier = (a[seen - 1].astype(np.int64) for a in (op.shift, op.multiplier))
        mean = (((seen * source.high + (1 << shift >> 1)) >> shift) * multiplier + 0x4000) >> 15
        _require(int(mean.max()) <= source.high, f"a mean of activations may reach {mean.max()}, beyond {source.high}")
        return _value("u8", (op.channels, *size), 0, source.high, source.zero)

    def _rows(self, op: Conv | Logits) -> None:
        fan_in = self.fan_in(op)
        _array(op.bits, np.uint8, (len(op.bits), -(-fan_in // 8)))
        _require(not fan_in % 8 or not (op.bits[:, -1] >> (fan_in % 8)).any(), "a pad bit is not 0")
        _require(0 <= op.shift <= 24, f"shift {op.shift}: 0 to 24")


def sources(op: Operation) -> tuple[int, ...]:
    """The values that `op` reads."""
    if isinstance(op, Table):
        return ()
    return (op.source, op.base) if isinstance(op, Conv) and op.base >= 0 else (op.source,)


def pack_bits(positive: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Rows of bits out of weights [O, kernel height, kernel width, I], True where +1.

    >>> pack_bits(np.array([[[[True, False, True]]]]))
    array([[5]], dtype=uint8)
    """
    return np.packbits(positive.reshape(len(positive), -1), axis=1, bitorder="little")


def signs(op: Conv | Logits, fan_in: int) -> NDArray[np.float32]:
    """The weights of an operation as +1 and -1: float32 [O, fan_in], columns in the order of its rows of bits."""
    bits = np.unpackbits(op.bits, axis=1, count=fan_in, bitorder="little")
    return bits.astype(np.float32) * 2 - 1


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise OnebitError(message)


def _array(array: NDArray[Any], dtype: type, shape: tuple[int, ...]) -> None:
    _require(
        array.dtype == dtype and array.shape == shape,
        f"an array of {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}",
    )
    _require(array.size > 0, "an array is empty")


def _kernel(kernel: tuple[int, int]) -> None:
    _require(all(1 <= k <= MAX_SIDE for k in kernel), f"kernel {kernel}: 1 to {MAX_SIDE}")


def _window(stride: int, padding: Padding) -> None:
    _require(1 <= stride <= 255, f"stride {stride}: 1 to 255")
    _require(all(0 <= p <= 127 for p in padding), f"padding {padding}: 0 to 127")


def _value(kind: Kind, shape: tuple[int, int, int], low: int, high: int, zero: int = 0) -> Value:
    channels, height, width = shape
    _require(1 <= channels <= MAX_CHANNELS, f"{channels} channels: 1 to {MAX_CHANNELS}")
    _require(1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE, f"a map of {height}x{width}: 1 to {MAX_SIDE} a side")
    _require(math.prod(shape) <= MAX_MAP, f"a map of {shape} is too large")
    return Value(kind, shape, low, high, zero)
