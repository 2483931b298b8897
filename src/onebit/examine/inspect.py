"""What a packed model is made of: every operation, every byte of its file, and why some of them are not one bit."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.packed.file import COLUMNS, FORMAT, Packed
from onebit.packed.program import Average, Conv, Logits, Max, Norm, Operation, Program, Table, Value, sources

WIDTHS = {"u8": 1, "i16": 2, "i32": 4}  # bytes of a number
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Entry:
    """One operation. Shapes are channels, height, width; `input` is that of its source, for the table the picture's.

    `reads` and `writes` are kinds of numbers: "u8", "u4" (activations of 8 and 4 bits), "i16", "i32". `bytes` are those of
    its weights and constants in the file.
    """

    number: int
    kind: str
    text: str
    sources: tuple[int, ...]
    input: Shape
    output: Shape
    reads: str
    writes: str
    weights: int
    bytes: int
    macs: int


@dataclass(frozen=True)
class Part:
    """One kind of number in the file: how many there are, their bytes, and why they are there."""

    name: str
    what: str
    type: str
    numbers: int
    bytes: int
    why: str


@dataclass(frozen=True)
class Peak:
    """The operation at which most bytes of maps are needed at once, and the values that it reads, makes or leaves alive.

    -1 is the picture. A target that adds to the stream in place, or goes line by line, needs less.
    """

    bytes: int
    operation: int
    values: tuple[int, ...]


@dataclass(frozen=True)
class Summary:
    """All that `onebit inspect` shows. The bytes of `parts` add up to `file_bytes`; `float_bytes` are the weights alone.

    `about` is the model card as it stands in the file.
    """

    format: str
    file_bytes: int
    float_bytes: int
    weights: int
    macs: int
    temperature: float
    classes: tuple[str, ...]
    about: dict[str, str]
    peak: Peak
    parts: tuple[Part, ...]
    operations: tuple[Entry, ...]

    @property
    def ratio(self) -> float:
        """How many times larger the weights alone would be as float32."""
        return self.float_bytes / self.file_bytes

    def layers(self) -> list[tuple[Entry, ...]]:
        """The operations in rows to read: a norm stands before the one operation that reads it, if it is only one."""
        readers: dict[int, list[Entry]] = {}
        for entry in self.operations:
            for source in entry.sources:
                readers.setdefault(source, []).append(entry)
        joined = {
            readers[e.number][0].number: e for e in self.operations if e.kind == "norm" and len(readers[e.number]) == 1
        }
        held = {e.number for e in joined.values()}
        return [(joined[e.number], e) if e.number in joined else (e,) for e in self.operations if e.number not in held]

    def facts(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self) | {"ratio": self.ratio}


def summary(packed: Packed, file_bytes: int) -> Summary:
    """What a packed model of `file_bytes` bytes is made of.

    Raises OnebitError where its program would need more bytes than that.

    >>> import numpy as np
    >>> table = Table(2, 2, np.zeros((1, 256), np.int16))
    >>> one = np.ones(2, np.int32)
    >>> program = Program([table, Logits(0, np.array([[1], [0]], np.uint8), (1, 1), 0, one, one, 0)])
    >>> found = summary(Packed(program, ("cat", "dog"), {}), 1000)
    >>> found.weights, [entry.text for entry in found.operations], found.peak.bytes
    (2, ['table of pixels', 'mean, classify 1x1'], 16)
    """
    program = packed.program
    entries = tuple(_entry(program, i) for i in range(len(program.operations)))
    weights = sum(e.weights for e in entries)
    return Summary(
        format=FORMAT,
        file_bytes=file_bytes,
        float_bytes=4 * weights,
        weights=weights,
        macs=sum(e.macs for e in entries),
        temperature=(1 << 16) / program.logits.sharpness,
        classes=packed.classes,
        about=packed.about,
        peak=peak(program),
        parts=_parts(program, file_bytes),
        operations=entries,
    )


def describe(program: Program, i: int) -> str:
    """Operation `i` in a few words: what it is, its kernel, /stride, and what it adds to.

    >>> import numpy as np
    >>> describe(Program([Table(1, 1, np.zeros((1, 256), np.int16)), Logits(
    ...     0, np.array([[1]], np.uint8), (1, 1), 0, np.ones(1, np.int32), np.ones(1, np.int32), 0)]), 1)
    'classify 1x1'
    """
    op = program.operations[i]
    if isinstance(op, Table):
        return "table of pixels"
    if isinstance(op, Norm):
        return "norm, ReLU" if op.zero == 0 else "norm, shifted ReLU"
    kernel = f"{op.kernel[0]}x{op.kernel[1]}"
    if isinstance(op, Logits):
        pooled = op.kernel == (1, 1) and program.values[op.source].shape[1:] != (1, 1)
        return f"{'mean, ' if pooled else ''}classify {kernel}"
    stride = f" /{op.stride}" if op.stride > 1 else ""
    if isinstance(op, Conv):
        return f"conv {kernel}{stride}" + (f", add to {op.base}" if op.base >= 0 else "")
    if isinstance(op, Max):
        return f"max {kernel}{stride}"
    more = op.channels - program.values[op.source].shape[0]
    zeros = f", {more} zeros" if more else ""
    return (f"average {kernel}{stride}" if math.prod(op.kernel) > 1 or stride else "new step") + zeros


def constants(op: Operation) -> dict[str, NDArray[Any]]:
    """The numbers of an operation that lie in the file, its weights apart, by the name of their field."""
    names = {
        Table: ("values",),
        Conv: (),
        Norm: ("mean", "multiplier", "offset"),
        Average: ("shift", "multiplier"),
        Max: (),
        Logits: ("gain", "offset"),
    }[type(op)]
    return {name: getattr(op, name) for name in names}


def width(value: Value) -> str:
    """The kind of a value's numbers as people say it: activations by the bits that they use.

    >>> width(Value("u8", (1, 1, 1), 0, 15))
    'u4'
    """
    return f"u{max(1, value.high.bit_length())}" if value.kind == "u8" else value.kind


def peak(program: Program) -> Peak:
    """The largest set of values that are alive at once, in bytes of 1 (activations), 2 (stream) or 4 (logits) a number."""
    last = {source: i for i, op in enumerate(program.operations) for source in sources(op)}
    sizes = {i: WIDTHS[v.kind] * math.prod(v.shape) for i, v in enumerate(program.values)}
    sizes[-1], last[-1] = math.prod(program.input.shape), 0
    best = Peak(0, 0, ())
    for i in range(len(program.operations)):
        alive = tuple(j for j in range(-1, i + 1) if j == i or last[j] >= i)
        need = sum(sizes[j] for j in alive)
        best = max(best, Peak(need, i, alive), key=lambda p: p.bytes)  # of equals, the first
    return best


def _entry(program: Program, i: int) -> Entry:
    op, value = program.operations[i], program.values[i]
    read = None if isinstance(op, Table) else program.values[op.source]
    numbers = constants(op)
    if isinstance(op, Norm) and not _offsets(program):
        del numbers["offset"]
    return Entry(
        number=i,
        kind=type(op).__name__.lower(),
        text=describe(program, i),
        sources=sources(op),
        input=(read or value).shape,
        output=value.shape,
        reads=width(read) if read else "u8",
        writes=width(value),
        weights=program.weights(op) if isinstance(op, Conv | Logits) else 0,
        bytes=(op.bits.nbytes if isinstance(op, Conv | Logits) else 0) + sum(a.nbytes for a in numbers.values()),
        macs=program.macs(i),
    )


def _offsets(program: Program) -> bool:
    """Do the norms of the file have a third column?"""
    return any(isinstance(op, Norm) and bool(op.offset.any()) for op in program.operations)


def _parts(program: Program, file_bytes: int) -> tuple[Part, ...]:
    """The file by kinds of numbers, the weights first; the header is what remains."""
    ops, logits = program.operations, program.logits
    table = ops[0]
    assert isinstance(table, Table)
    weights = sum(program.weights(op) for _, op in program.convolutions())
    bits = sum(op.bits.nbytes for _, op in program.convolutions())
    channels = sum(len(op.mean) for op in ops if isinstance(op, Norm))
    offsets = _offsets(program)
    averages = sum(len(op.shift) for op in ops if isinstance(op, Average))
    pads = 8 * bits - weights
    parts = [
        Part(
            "bits", "weights", "1 bit", weights, bits,
            "1 is +1, 0 is -1; rows end on whole bytes" + (f" ({pads} pad bits)" if pads else ""),
        ),
        Part(
            "norms", f"batch-norms: means, multipliers{', offsets' if offsets else ''}", "int16",
            channels * (3 if offsets else 2), channels * (6 if offsets else 4),
            "where the ReLU of a channel begins and how large it is: few numbers, and all that one bit a weight leaves out",
        ),
        Part(
            "table", "input table", "int16", table.values.size, table.values.nbytes,
            "what each of 256 pixel values becomes in each channel, batch-norm included; finer than 8 bits, since "
            "an error here runs through the whole network",
        ),
        Part(
            "averages", "pooling: shifts, multipliers", "int16", 2 * averages, 4 * averages,
            "division by the number of positions, or a new step, without a divider",
        ),
        Part(
            "logits", "logits: gains, offsets", "int32", 2 * program.classes, logits.gain.nbytes + logits.offset.nbytes,
            "the batch-norm behind the classifier, which makes logits of classes comparable",
        ),
        Part(
            "program", "records", "int32", len(COLUMNS) * len(ops), 4 * len(COLUMNS) * len(ops),
            "what each operation reads, its kernel, stride, padding and shift",
        ),
        Part("crc", "checksum", "bytes", 4, 4, "finds a damaged copy"),
    ]  # fmt: skip
    rest = file_bytes - sum(part.bytes for part in parts)
    if rest < 0:
        raise OnebitError(f"a file of {file_bytes} bytes cannot hold this program, which takes {file_bytes - rest}")
    parts.append(Part("header", "header", "text", rest, rest, "names of classes, model card, places of the numbers"))
    return tuple(part for part in parts if part.bytes)
