"""From a packed program to the layers that firmware runs: what is fused, and which values are kept in memory.

A batch-norm is applied where a number is read, if only convolutions and the classifier read it (the stream behind it is
needed anyway, as a base), or where a convolution writes, if it alone reads what the convolution makes. The table of the
pixels is applied where pixels are read. What is left are few values in memory: a residual network has its stream and one
map of activations a block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from onebit.errors import OnebitError
from onebit.export.firmware.layouts import ConvShape, SourceType
from onebit.packed.program import Average, Conv, Logits, Max, Norm, Operation, Program, Table, Value, sources
from onebit.patches import Padding

Kind = Literal["conv", "average", "max", "copy", "logits"]
PIXELS = -1  # the value that the table reads


@dataclass(frozen=True)
class Map:
    """A value kept in memory. `shape` is channels, height, width; `value` the operation that makes it, or PIXELS.

    `quarter`: 0 where a pixel's channels lie together; else its rows are tuples of four pixels, so far apart (firmware.h).
    """

    value: int
    type: SourceType
    shape: tuple[int, int, int]
    zero: int = 0
    quarter: int = 0

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of pixels."""
        channels, _, width = self.shape
        return channels * (4 * self.quarter or width) * (2 if self.type == "i16" else 1)

    @property
    def height(self) -> int:
        return self.shape[1]


@dataclass(frozen=True, eq=False)
class Layer:
    """One function call of the firmware.

    `source`, `out` and `base` are numbers of maps (`out` None for logits, `base` None without one). Every number read
    goes through the table where `table` is set, then through the batch-norm `read`; what is written goes through `write`.
    `value` is what is read, after that. A copy does nothing but read and write.
    """

    kind: Kind
    operation: int
    source: int
    out: int | None
    value: Value
    base: int | None = None
    table: bool = False
    read: Norm | None = None
    write: Norm | None = None
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: Padding = (0, 0, 0, 0)

    @property
    def reads(self) -> tuple[int, ...]:
        """The maps it reads."""
        return (self.source,) if self.base is None else (self.source, self.base)

    def rows_needed(self, y: int, height: int) -> tuple[int, int]:
        """The first row of the source that row `y` of the output needs, and the one behind the last."""
        first = y * self.stride - self.padding[0]
        return max(0, min(first, height)), max(0, min(first + self.kernel[0], height))


@dataclass(frozen=True, eq=False)
class Layers:
    """A program as firmware runs it."""

    program: Program
    maps: tuple[Map, ...]
    layers: tuple[Layer, ...]

    def conv_shape(self, layer: Layer) -> ConvShape:
        """What kernels need to know about a convolution."""
        assert layer.kind == "conv" and layer.out is not None
        source = self.maps[layer.source]
        top, left, _, _ = layer.padding
        return ConvShape(
            source.shape, self.maps[layer.out].shape, layer.kernel, layer.stride, top, left, source.type,
            layer.read is not None, layer.value.zero, layer.value.high if layer.value.low >= 0 else 0,
        )  # fmt: skip

    def in_tuples(self) -> Layers:
        """The same with all maps but the picture as the kernels with tables want them: four pixels, a quarter apart, side
        by side.

        A quarter is the width's, rounded up. Where a layer halves the width its source's should be twice that of what it
        makes, so that tuples are made of tuples; that may cost a fifth of a map (28 pixels lie in four times 8).
        """
        quarters = {m.shape[2]: -(-m.shape[2] // 4) for m in self.maps}
        halved = {
            (self.maps[layer.source].shape[2], self.maps[layer.out].shape[2])
            for layer in self.layers
            if layer.out is not None and layer.stride == 2
        }
        for wide, narrow in sorted(halved):  # the narrowest first: what it asks for passes on
            if quarters[wide] < 2 * quarters[narrow] <= wide * 5 // 16:
                quarters[wide] = 2 * quarters[narrow]
        maps = tuple(m if m.value == PIXELS else replace(m, quarter=quarters[m.shape[2]]) for m in self.maps)
        return replace(self, maps=maps)


def fuse(program: Program) -> Layers:
    """The layers of a program. Raises OnebitError where a number is beyond what firmware stores of it."""
    return _Fuser(program).result()


class _Fuser:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.maps: list[Map] = [Map(PIXELS, "pixels", program.input.shape)]
        self.at: dict[int, int] = {}  # value -> its map
        self.layers: list[Layer] = []
        self.readers: dict[int, list[int]] = {}
        for i, op in enumerate(program.operations):
            for source in set(sources(op)):
                self.readers.setdefault(source, []).append(i)

    def result(self) -> Layers:
        for i, op in enumerate(self.program.operations):
            if isinstance(op, Table):
                if any(isinstance(r, Conv) and r.base == 0 for r in self._readers(0)):
                    self._copy(i, PIXELS, table=True)
            elif isinstance(op, Norm):
                if not (self._on_read(i) or self._on_write(i)):
                    self._copy(i, op.source, norm=op)
            else:
                self._layer(i, op)
        return Layers(self.program, tuple(self.maps), tuple(self.layers))

    def _readers(self, value: int) -> list[Operation]:
        return [self.program.operations[i] for i in self.readers[value]]

    def _on_read(self, i: int) -> bool:
        return not self._on_write(i) and all(isinstance(op, Conv | Logits) for op in self._readers(i))

    def _on_write(self, i: int) -> bool:
        source = self.program.operations[i].source  # type: ignore[union-attr]
        return isinstance(self.program.operations[source], Conv) and self.readers[source] == [i]

    def _view(self, value: int) -> tuple[int, bool, Norm | None]:
        """How a value is read: map, through the table?, through which batch-norm?"""
        op = self.program.operations[value]
        if value in self.at:
            return self.at[value], False, None
        if isinstance(op, Norm):
            found, table, norm = self._view(op.source)
            assert norm is None  # a batch-norm reads the stream
            return found, table, op
        assert isinstance(op, Table)
        return 0, True, None

    def _new_map(self, value: int) -> int:
        kind = self.program.values[value]
        assert kind.kind != "i32"
        self.at[value] = len(self.maps)
        self.maps.append(Map(value, kind.kind, kind.shape, kind.zero))
        return self.at[value]

    def _copy(self, i: int, source: int, table: bool = False, norm: Norm | None = None) -> None:
        found, through_table, _ = (0, True, None) if source == PIXELS else self._view(source)
        self.layers.append(
            Layer("copy", i, found, self._new_map(i), self.program.values[i], table=through_table or table, read=norm)
        )

    def _layer(self, i: int, op: Conv | Average | Max | Logits) -> None:
        source, table, read = self._view(op.source)
        value = self.program.values[op.source]
        _check(i, op, value)
        if isinstance(op, Logits):
            self.layers.append(Layer("logits", i, source, None, value, table=table, read=read, kernel=op.kernel))
            return
        write, made, base = None, i, None
        if isinstance(op, Conv):
            if op.base >= 0:
                base = self.at[op.base]
            after = self.readers[i][0]
            if len(self.readers[i]) == 1 and isinstance(self.program.operations[after], Norm):
                write, made = self.program.operations[after], after
        kind: Kind = "conv" if isinstance(op, Conv) else "average" if isinstance(op, Average) else "max"
        assert write is None or isinstance(write, Norm)
        self.layers.append(
            Layer(
                kind, i, source, self._new_map(made), value, base, table, read, write, op.kernel, op.stride, op.padding
            )
        )


def _check(i: int, op: Operation, value: Value) -> None:
    """Firmware keeps sides of kernels and windows in a byte, channels in 16 bits."""
    assert isinstance(op, Conv | Average | Max | Logits)
    channels = value.shape[0]
    if isinstance(op, Conv | Logits):
        channels = max(channels, len(op.bits))
    if max(op.kernel) > 255 and not isinstance(op, Logits):
        raise OnebitError(f"operation {i}: a window of {op.kernel[0]}x{op.kernel[1]}; firmware takes up to 255 a side")
    if channels > 65535:
        raise OnebitError(f"operation {i}: {channels} channels; firmware takes up to 65535")
