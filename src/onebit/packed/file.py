"""The packed file: `docs/format.md` is the norm, this writes and reads it.

A safetensors file with one tensor a kind of number, records of twelve int32 that say which operation owns which part of
them, and a CRC-32 in the last four bytes. Equal programs with equal metadata give equal bytes. Reading trusts nothing:
`decode` checks the container, `program.Program` the operations.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError, reason
from onebit.files import atomic_write
from onebit.packed.program import MAX_OPERATIONS, Average, Conv, Logits, Max, Norm, Operation, Program, Table

FORMAT = "onebit 1"
MAX_HEADER, MAX_FILE = 1 << 20, (1 << 31) - 1  # bytes; so every size and place in a file fits int32
COLUMNS = ("kind", "source", "base", "channels", "height", "width", "stride", "padding", "shift", "zero", "limit", "at")
# The number of an operation is its place here. Columns that it has no use for are 0.
USED: dict[type, set[str]] = {
    Table: {"channels", "height", "width"},
    Conv: {"source", "base", "channels", "height", "width", "stride", "padding", "shift", "at"},
    Norm: {"source", "zero", "limit", "at"},
    Average: {"source", "channels", "height", "width", "stride", "padding", "at"},
    Max: {"source", "height", "width", "stride", "padding"},
    Logits: {"source", "channels", "height", "width", "shift", "zero", "limit", "at"},
}
KINDS = tuple(USED)
# name -> type and columns (0: no second axis), in the order of the file: wide numbers first, so that all lie aligned
TENSORS: dict[str, tuple[str, np.dtype[Any], tuple[int, ...]]] = {
    "program": ("I32", np.dtype("<i4"), (len(COLUMNS),)),
    "logits": ("I32", np.dtype("<i4"), (2,)),  # gain, offset of a class
    "table": ("I16", np.dtype("<i2"), (256,)),
    "norms": ("I16", np.dtype("<i2"), (2, 3)),  # mean, multiplier[, offset] of a channel
    "averages": ("I16", np.dtype("<i2"), (2,)),  # shift, multiplier for each number of positions
    "bits": ("U8", np.dtype("u1"), (0,)),
    "crc": ("U8", np.dtype("u1"), (0,)),
}
# What could play tricks on whoever sees a text: controls, line and paragraph ends, turned directions, halves of pairs.
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

Row = dict[str, int]


class Packed(NamedTuple):
    """What a file holds: the program, a name a class, and what else is known about the model, as text."""

    program: Program
    classes: tuple[str, ...]
    about: dict[str, str]


def encode(program: Program, classes: Sequence[str], about: Mapping[str, str] = {}) -> bytes:
    """The bytes of a packed file.

    Raises OnebitError where `classes` are not as many names as there are logits, where a text holds characters that
    cannot be seen, and where the file would be larger than the format allows.
    """
    _check_texts(program, classes, about)
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in TENSORS}
    sizes = dict.fromkeys(TENSORS, 0)

    def place(name: str, array: NDArray[Any]) -> int:
        parts[name].append(array)
        at, sizes[name] = sizes[name], sizes[name] + len(array)
        return at

    offsets = any(isinstance(op, Norm) and op.offset.any() for op in program.operations)
    rows = [_row(op, place, offsets) for op in program.operations]
    place("program", np.array([[row.get(column, 0) for column in COLUMNS] for row in rows]))
    place("crc", np.zeros(4, np.uint8))
    data = {n: np.concatenate(parts[n]).astype(dtype) for n, (_, dtype, _) in TENSORS.items() if parts[n]}
    header: dict[str, Any] = {
        "__metadata__": {**about, "classes": json.dumps(list(classes), ensure_ascii=False), "format": FORMAT}
    }
    end = 0
    for name, array in data.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": TENSORS[name][0], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    _require(len(text) <= MAX_HEADER, f"class names and notes take {len(text)} bytes; shorten them to {MAX_HEADER}")
    _require(8 + len(text) + end <= MAX_FILE, f"a packed file has at most {MAX_FILE} bytes, this one would have more")
    del data["crc"]
    body = b"".join([struct.pack("<Q", len(text)), text, *(array.tobytes() for array in data.values())])
    return body + struct.pack("<I", zlib.crc32(body))


def decode(content: bytes) -> Packed:
    """Read the bytes of a packed file; OnebitError with the reason where anything about them is not as it must be."""
    tensors, metadata = _container(content)
    program = Program(_operations(tensors))
    about = {key: text for key, text in metadata.items() if key not in ("classes", "format")}
    classes = _json(metadata.get("classes", ""), "class names")
    _require(isinstance(classes, list), "class names are not a list")
    _check_texts(program, classes, about)
    return Packed(program, tuple(classes), about)


def save(path: Path, packed: Packed) -> int:
    """Write a packed file, whole or not at all; returns its bytes."""
    content = encode(*packed)
    atomic_write(path, lambda file: file.write(content))
    return len(content)


def load(path: Path) -> Packed:
    """Read a packed file; OnebitError that names it where it is missing, damaged, newer or no such file."""
    try:
        with open(path, "rb") as file:
            _check_size(os.fstat(file.fileno()).st_size)
            return decode(file.read())
    except OSError as error:
        raise OnebitError(f"{path}: cannot be read ({reason(error)}); name a file that `onebit pack` wrote") from None
    except OnebitError as error:
        raise OnebitError(f"{path}: not a valid packed model: {error}") from None


def is_packed(path: Path) -> bool:
    """Does the file look like a safetensors file (which `load` then checks), and not like a checkpoint or anything else?"""
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError:
        return False
    return len(start) == 9 and int.from_bytes(start[:8], "little") <= MAX_HEADER and start[8:] == b"{"


# -- the container -------------------------------------------------------------------------------


def _container(content: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The tensors and the metadata, everything checked that needs no knowledge of the operations."""
    _check_size(len(content))
    _require(len(content) >= 16, "it is too short")
    (length,) = struct.unpack_from("<Q", content)
    _require(
        length <= min(MAX_HEADER, len(content) - 12),
        f"its header would have {length} bytes: the file is cut short, or no packed model",
    )
    text, data = content[8 : 8 + length], memoryview(content)[8 + length :]
    (crc,) = struct.unpack_from("<I", content, len(content) - 4)
    intact = crc == zlib.crc32(memoryview(content)[:-4])
    _require(intact or b'"onebit ' in text, "it is no packed model of onebit")
    _require(intact, "its checksum does not fit: it is damaged, copy or fetch it again")
    _require(text.startswith(b"{") and length % 8 == 0, "its header does not begin with {, or end at a multiple of 8")
    header = _json(text, "header")
    metadata = header.pop("__metadata__", None)
    _require(
        isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values()),
        "its metadata are not texts",
    )
    found = metadata.get("format", "")
    _require(found.startswith("onebit "), "it is a safetensors file, but no packed model of onebit")
    _require(found == FORMAT, f"its format is {found[:40]!r}, this version reads {FORMAT!r}; update onebit")
    tensors, end = {}, 0
    for name, (_, dtype, _) in TENSORS.items():
        if name not in header and name in ("norms", "averages"):
            tensors[name] = np.zeros((0, 2), dtype)
            continue
        _require(name in header, f"tensor {name!r} is missing")
        try:
            shape, begin, end = _place(header.pop(name), name, end)
            _require(end <= len(data), "it ends behind the file")
        except OnebitError as error:
            raise OnebitError(f"tensor {name!r}: {error}") from None
        tensors[name] = np.frombuffer(data[begin:end], dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)
    for name in header:
        raise OnebitError(f"tensor {name[:40]!r} is unknown")
    _require(end == len(data), "bytes follow the last tensor")
    return tensors, metadata


def _place(entry: Any, name: str, begin: int) -> tuple[list[int], int, int]:
    """Shape, first byte and end of a tensor, which must begin at `begin`."""
    code, dtype, columns = TENSORS[name]
    _require(
        isinstance(entry, dict) and entry.keys() == {"dtype", "shape", "data_offsets"}, "its entry is not a tensor's"
    )
    shape, offsets = entry["shape"], entry["data_offsets"]
    _require(entry["dtype"] == code, f"its type is not {code}")
    for numbers in (shape, offsets):
        _require(
            isinstance(numbers, list) and len(numbers) <= 2 and all(type(n) is int for n in numbers),
            "its shape or place is not one or two whole numbers",
        )
    good = len(shape) == 1 if columns == (0,) else len(shape) == 2 and shape[1] in columns
    _require(good and shape[0] > 0 and (name != "crc" or shape == [4]), f"its shape is {shape}")
    end = begin + math.prod(shape) * dtype.itemsize
    _require(offsets == [begin, end], f"its place is {offsets}, not {[begin, end]}")
    return shape, begin, end


def _json(text: str | bytes, what: str) -> Any:
    """Parsed JSON of which no other reader could think otherwise: no key twice, no number but 0, 1, 2, ... of 31 bits."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _require(len({key for key, _ in pairs}) == len(pairs), f"{what}: a key occurs twice")
        return dict(pairs)

    def number(digits: str) -> int:
        _require(digits.isdigit() and len(digits) <= 10 and int(digits) <= MAX_FILE, f"{what}: a number is not whole")
        return int(digits)

    try:
        return json.loads(
            text if isinstance(text, str) else text.decode(),
            object_pairs_hook=unique,
            parse_int=number,
            parse_float=number,
            parse_constant=number,
        )
    except (ValueError, RecursionError) as error:
        raise OnebitError(f"{what}: not valid JSON ({reason(error)})") from None


def _check_texts(program: Program, classes: Sequence[str], about: Mapping[str, str]) -> None:
    _require(len(classes) == program.classes, f"{len(classes)} class names for {program.classes} logits")
    _require(all(isinstance(c, str) and c for c in classes), "a class name is not text, or empty")
    _require(len(set(classes)) == len(classes), "two classes have one name")
    for key, text in about.items():
        good = isinstance(key, str) and key not in ("", "classes", "format") and isinstance(text, str)
        _require(good, f"metadata {str(key)[:40]!r}: its name is empty or reserved, or it is not text")
    # Metadata may have lines and columns; what is printed on one line may not.
    for text in (*classes, *about, *(text.replace("\n", "").replace("\t", "") for text in about.values())):
        _require(not UNSEEN.search(text), f"{text[:40]!r}: a name or a note holds characters that cannot be seen")


def _check_size(size: int) -> None:
    _require(size <= MAX_FILE, f"it has {size} bytes, a packed file has at most {MAX_FILE}")


# -- the operations ------------------------------------------------------------------------------


def _row(op: Operation, place: Callable[[str, NDArray[Any]], int], offsets: bool) -> Row:
    """The record of an operation without the columns that are 0; `place` stores its numbers and says where."""
    row: Row = {"kind": KINDS.index(type(op))}
    if isinstance(op, Table):
        place("table", op.values)
        return row | {"channels": len(op.values), "height": op.height, "width": op.width}
    row["source"] = op.source
    if isinstance(op, Norm):
        columns = [op.mean, op.multiplier, op.offset][: 3 if offsets else 2]
        return row | {"zero": op.zero, "limit": op.limit, "at": place("norms", np.stack(columns, 1))}
    row["height"], row["width"] = op.kernel
    if isinstance(op, Conv | Average | Max):
        row |= {"stride": op.stride, "padding": sum(p << 8 * i for i, p in enumerate(op.padding))}
    if isinstance(op, Conv | Logits):
        row |= {"channels": len(op.bits), "shift": op.shift, "at": place("bits", op.bits.reshape(-1))}
    if isinstance(op, Conv):
        row["base"] = op.base
    if isinstance(op, Average):
        row |= {"channels": op.channels, "at": place("averages", np.stack([op.shift, op.multiplier], 1))}
    if isinstance(op, Logits):
        row |= {"zero": op.fraction, "limit": op.sharpness}
        place("logits", np.stack([op.gain, op.offset], 1))
    return row


def _operations(tensors: dict[str, NDArray[Any]]) -> list[Operation]:
    """The operations that the records describe, their parts of the tensors in turn and without a gap."""
    taken = dict.fromkeys(TENSORS, 0)
    channels: list[int] = []  # of the values so far
    records = tensors["program"]
    _require(len(records) <= MAX_OPERATIONS, f"a program has 2 to {MAX_OPERATIONS} operations, not {len(records)}")

    def take(name: str, count: int, at: int | None = None) -> NDArray[Any]:
        begin, end = taken[name], taken[name] + count
        _require(at is None or at == begin, f"its part of {name!r} begins at {at}, not at {begin}")
        _require(end <= len(tensors[name]), f"its part of {name!r} ends behind the tensor")
        taken[name] = end
        return tensors[name][begin:end]

    operations: list[Operation] = []
    for i, record in enumerate(records.tolist()):
        row = dict(zip(COLUMNS, record, strict=True))
        _require(0 <= row["kind"] < len(KINDS), f"operation {i}: kind {row['kind']} is unknown")
        kind = KINDS[row["kind"]]
        try:
            operations.append(_operation(kind, row, channels, take))
        except OnebitError as error:
            raise OnebitError(f"operation {i} ({kind.__name__.lower()}): {error}") from None
    for name in ("logits", "table", "norms", "averages", "bits"):
        left = len(tensors[name]) - taken[name]
        _require(left == 0, f"{left} rows of {name!r} belong to no operation")
    third = tensors["norms"][:, 2:]
    _require(not third.shape[1] or bool(third.any()), "tensor 'norms' has a third column that is 0 throughout")
    return operations


def _operation(kind: type, row: Row, channels: list[int], take: Callable[..., NDArray[Any]]) -> Operation:
    """The operation of one record; `channels` gains those of its value."""
    for name in COLUMNS[1:]:
        _require(name in USED[kind] or row[name] == 0, f"column {name} is {row[name]} and means nothing here")
    source, kernel = row["source"], (row["height"], row["width"])
    incoming = 0
    if kind is not Table:
        _require(0 <= source < len(channels), f"reads value {source}, which is not an earlier one")
        incoming = channels[source]
    channels.append(row["channels"] if "channels" in USED[kind] else incoming)
    _require(channels[-1] > 0, f"{channels[-1]} channels")
    if kind is Norm:
        part = take("norms", incoming, row["at"])
        offset = part[:, 2] if part.shape[1] == 3 else np.zeros(incoming, np.int16)
        return Norm(source, part[:, 0], part[:, 1], offset, row["zero"], row["limit"])
    _require(kernel[0] > 0 and kernel[1] > 0, f"height and width are {kernel}")
    if kind is Table:
        return Table(*kernel, take("table", row["channels"]))
    padding = (row["padding"] & 255, row["padding"] >> 8 & 255, row["padding"] >> 16 & 255, row["padding"] >> 24 & 255)
    if kind is Max:
        return Max(source, kernel, row["stride"], padding)
    if kind is Average:
        part = take("averages", math.prod(kernel), row["at"])
        return Average(source, row["channels"], kernel, row["stride"], padding, part[:, 0], part[:, 1])
    row_bytes = -(-math.prod(kernel) * incoming // 8)
    bits = take("bits", row["channels"] * row_bytes, row["at"]).reshape(row["channels"], row_bytes)
    if kind is Conv:
        return Conv(source, bits, kernel, row["shift"], row["stride"], padding, row["base"])
    part = take("logits", row["channels"])
    return Logits(source, bits, kernel, row["shift"], part[:, 0], part[:, 1], row["zero"], row["limit"])


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise OnebitError(message)
