"""The packed file: `docs/format.md` is the norm, this writes and reads it.

A safetensors file with one tensor a kind of number, records of twelve int32 that say which operation owns which part of
them, and a CRC-32 in the last four bytes. Equal programs with equal metadata give equal bytes. Reading trusts nothing:
`decode` checks the container, `program.Program` the operations.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError, reason
from onebit.files import atomic_write
from onebit.packed.program import Average, Conv, Logits, Max, Norm, Operation, Program, Table

FORMAT = "onebit 1"
MAX_HEADER = 1 << 20
KINDS: tuple[type, ...] = (Table, Conv, Norm, Average, Max, Logits)  # the number of an operation is its place here
COLUMNS = ("kind", "source", "base", "channels", "height", "width", "stride", "padding", "shift", "zero", "limit", "at")
# name -> type and columns, in the order of the file: wide numbers first, so that all lie aligned
TENSORS: dict[str, tuple[str, np.dtype[Any], int]] = {
    "program": ("I32", np.dtype("<i4"), len(COLUMNS)),
    "logits": ("I32", np.dtype("<i4"), 2),  # gain, offset of a class
    "table": ("I16", np.dtype("<i2"), 256),
    "norms": ("I16", np.dtype("<i2"), 0),  # mean, multiplier[, offset] of a channel
    "averages": ("I16", np.dtype("<i2"), 2),  # shift, multiplier for each number of positions
    "bits": ("U8", np.dtype("u1"), 1),
    "crc": ("U8", np.dtype("u1"), 1),
}


class Packed(NamedTuple):
    """What a file holds: the program, a name a class, and what else is known about the model, as text."""

    program: Program
    classes: tuple[str, ...]
    about: dict[str, str]


def encode(program: Program, classes: Sequence[str], about: Mapping[str, str] = {}) -> bytes:
    """The bytes of a packed file. Raises OnebitError where `classes` are not as many names as there are logits."""
    _check_about(program, classes, about)
    records, parts = [], {name: [] for name in TENSORS}  # type: ignore[var-annotated]
    sizes = dict.fromkeys(TENSORS, 0)

    def place(name: str, array: NDArray[Any]) -> int:
        parts[name].append(array)
        at, sizes[name] = sizes[name], sizes[name] + len(array)
        return at

    offsets = any(isinstance(op, Norm) and op.offset.any() for op in program.operations)
    for op in program.operations:
        row = dict.fromkeys(COLUMNS, 0)
        row["kind"] = KINDS.index(type(op))
        if isinstance(op, Table):
            row |= {"channels": len(op.values), "height": op.height, "width": op.width}
            place("table", op.values)
        else:
            row["source"] = op.source
        if isinstance(op, Conv | Average | Max | Logits):
            row["height"], row["width"] = op.kernel
        if isinstance(op, Conv | Average | Max):
            row |= {"stride": op.stride, "padding": sum(p << 8 * i for i, p in enumerate(op.padding))}
        if isinstance(op, Conv | Logits):
            row |= {"channels": len(op.bits), "shift": op.shift, "at": place("bits", op.bits.reshape(-1))}
        if isinstance(op, Conv):
            row["base"] = op.base
        if isinstance(op, Norm):
            columns = [op.mean, op.multiplier, op.offset][: 3 if offsets else 2]
            row |= {"zero": op.zero, "limit": op.limit, "at": place("norms", np.stack(columns, 1))}
        if isinstance(op, Average):
            row |= {"channels": op.channels, "at": place("averages", np.stack([op.shift, op.multiplier], 1))}
        if isinstance(op, Logits):
            row |= {"zero": op.fraction, "limit": op.sharpness}
            place("logits", np.stack([op.gain, op.offset], 1))
        records.append(list(row.values()))
    parts["program"] = [np.array(records, np.int32)]
    data = {name: np.concatenate(arrays) for name, arrays in parts.items() if arrays}
    data["crc"] = np.zeros(4, np.uint8)
    header: dict[str, Any] = {
        "__metadata__": {**about, "classes": json.dumps(list(classes), ensure_ascii=False), "format": FORMAT}
    }
    end = 0
    for name, array in data.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": TENSORS[name][0], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise OnebitError(f"class names and notes take {len(text)} bytes; shorten them to below {MAX_HEADER}")
    body = b"".join(
        [
            struct.pack("<Q", len(text)),
            text,
            *(a.astype(TENSORS[n][1]).tobytes() for n, a in data.items() if n != "crc"),
        ]
    )
    return body + struct.pack("<I", zlib.crc32(body))


def decode(content: bytes) -> Packed:
    """Read the bytes of a packed file; OnebitError with the reason where anything about them is not as it must be."""
    tensors, metadata = _container(content)
    program = Program(_operations(tensors))
    about = {key: text for key, text in metadata.items() if key not in ("classes", "format")}
    classes = _json(metadata.get("classes", ""), "class names")
    _require(isinstance(classes, list), "class names are not a list")
    _check_about(program, classes, about)
    return Packed(program, tuple(classes), about)


def save(path: Path, packed: Packed) -> int:
    """Write a packed file, whole or not at all; returns its bytes."""
    content = encode(*packed)
    atomic_write(path, lambda file: file.write(content))
    return len(content)


def load(path: Path) -> Packed:
    """Read a packed file; OnebitError that names it where it is missing, damaged, newer or no such file."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise OnebitError(f"{path}: cannot be read ({reason(error)}); name a file that `onebit pack` wrote") from None
    try:
        return decode(content)
    except OnebitError as error:
        raise OnebitError(f"{path}: not a valid packed model: {error}") from None


def is_packed(path: Path) -> bool:
    """Does the file look like a safetensors file (which `load` then checks), and not like a checkpoint or anything else?"""
    try:
        with open(path, "rb") as opened:
            start = opened.read(9)
    except OSError:
        return False
    return len(start) == 9 and int.from_bytes(start[:8], "little") <= MAX_HEADER and start[8:] == b"{"


def _container(content: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The tensors and the metadata, everything checked that needs no knowledge of the operations."""
    _require(len(content) >= 16, "it is too short")
    (length,) = struct.unpack_from("<Q", content)
    _require(
        length <= min(MAX_HEADER, len(content) - 12), "its header is longer than the file, or it is no safetensors file"
    )
    (crc,) = struct.unpack_from("<I", content, len(content) - 4)
    _require(
        crc == zlib.crc32(memoryview(content)[:-4]), "its checksum does not fit: it is damaged, copy or fetch it again"
    )
    header = _json(content[8 : 8 + length], "header")
    _require(isinstance(header, dict), "its header is not an object")
    metadata = header.pop("__metadata__", None)
    _require(
        isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values()),
        "its metadata are not texts",
    )
    found = metadata.get("format", "")
    _require(found.startswith("onebit "), "it is a safetensors file, but no packed model of onebit")
    _require(found == FORMAT, f"its format is {found!r}, this version reads {FORMAT!r}; update onebit")
    for name in header:
        _require(name in TENSORS, f"tensor {name!r} is unknown")
    data, end = memoryview(content)[8 + length :], 0
    _require((8 + length) % 8 == 0, "its data do not begin at a multiple of 8")
    tensors: dict[str, NDArray[Any]] = {}
    for name, (code, dtype, columns) in TENSORS.items():
        if name not in header and name in ("norms", "averages"):
            tensors[name] = np.zeros((0, 2), dtype)
            continue
        _require(name in header, f"tensor {name!r} is missing")
        entry = header[name]
        _require(
            isinstance(entry, dict) and set(entry) == {"dtype", "shape", "data_offsets"},
            f"tensor {name!r}: its entry is not a tensor's",
        )
        shape, offsets = entry["shape"], entry["data_offsets"]
        _require(entry["dtype"] == code, f"tensor {name!r}: its type is {entry['dtype']!r}, not {code}")
        _require(
            _whole(shape) and _whole(offsets) and len(offsets) == 2,
            f"tensor {name!r}: its shape or place is not whole numbers",
        )
        wide = (2, 3) if name == "norms" else (columns,)
        good = len(shape) == 1 if columns == 1 else len(shape) == 2 and shape[1] in wide
        _require(good and shape[0] > 0, f"tensor {name!r}: its shape is {shape}")
        begin, end_before = offsets[0], end
        end = begin + math.prod(shape) * dtype.itemsize
        _require(
            begin == end_before and offsets[1] == end,
            f"tensor {name!r}: its place is {offsets}, not {[end_before, end]}",
        )
        _require(end <= len(data), f"tensor {name!r}: it ends behind the file")
        tensors[name] = np.frombuffer(data[begin:end], dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)
    _require(end == len(data), "bytes follow the last tensor")
    _require(tensors["crc"].shape == (4,), "tensor 'crc' is not four bytes")
    return tensors, metadata


def _operations(tensors: dict[str, NDArray[Any]]) -> list[Operation]:
    """The operations that the records describe, their parts of the tensors in turn and without a gap."""
    taken = dict.fromkeys(TENSORS, 0)
    channels: list[int] = []  # of the values so far

    def take(name: str, count: int, at: int) -> NDArray[Any]:
        begin = taken[name]
        _require(at == begin, f"its part of {name!r} begins at {at}, not at {begin}")
        _require(begin + count <= len(tensors[name]), f"its part of {name!r} ends behind the tensor")
        taken[name] = begin + count
        return tensors[name][begin : begin + count]

    operations: list[Operation] = []
    for i, record in enumerate(tensors["program"].tolist()):
        row = dict(zip(COLUMNS, record, strict=True))
        try:
            _require(0 <= row["kind"] < len(KINDS), f"kind {row['kind']} is unknown")
            operations.append(_operation(row, channels, take))
        except OnebitError as error:
            raise OnebitError(f"operation {i}: {error}") from None
    for name in ("logits", "table", "norms", "averages", "bits"):
        _require(
            taken[name] == len(tensors[name]),
            f"{len(tensors[name]) - taken[name]} rows of {name!r} belong to no operation",
        )
    offsets = tensors["norms"][:, 2:]
    _require(not offsets.shape[1] or bool(offsets.any()), "tensor 'norms' has a third column that is 0 throughout")
    return operations


def _operation(row: dict[str, int], channels: list[int], take: Any) -> Operation:
    kind = KINDS[row["kind"]]
    used = {
        Table: {"channels", "height", "width"},
        Conv: {"source", "base", "channels", "height", "width", "stride", "padding", "shift", "at"},
        Norm: {"source", "zero", "limit", "at"},
        Average: {"source", "channels", "height", "width", "stride", "padding", "at"},
        Max: {"source", "height", "width", "stride", "padding"},
        Logits: {"source", "channels", "height", "width", "shift", "zero", "limit", "at"},
    }[kind]
    for name in COLUMNS[1:]:
        _require(name in used or row[name] == 0, f"column {name} is {row[name]} and means nothing here")
    source, kernel = row["source"], (row["height"], row["width"])
    if kind is Table:
        _require(not channels, "only the first can be a table")
        channels.append(row["channels"])
        return Table(*kernel, take("table", row["channels"], 0))
    _require(0 <= source < len(channels), f"reads value {source}, which is not an earlier one")
    incoming = channels[source]
    channels.append(row["channels"] if kind in (Conv, Average, Logits) else incoming)
    _require(channels[-1] >= 1, f"{channels[-1]} channels")
    if kind is Norm:
        part = take("norms", incoming, row["at"])
        offset = part[:, 2] if part.shape[1] == 3 else np.zeros(incoming, np.int16)
        return Norm(source, part[:, 0], part[:, 1], offset, row["zero"], row["limit"])
    _require(kernel[0] > 0 and kernel[1] > 0, f"kernel {kernel}")
    padding = tuple(row["padding"] >> 8 * i & 255 for i in range(4))
    assert len(padding) == 4
    if kind is Max:
        return Max(source, kernel, row["stride"], padding)
    if kind is Average:
        part = take("averages", math.prod(kernel), row["at"])
        return Average(source, row["channels"], kernel, row["stride"], padding, part[:, 0], part[:, 1])
    row_bytes = -(-math.prod(kernel) * incoming // 8)
    bits = take("bits", row["channels"] * row_bytes, row["at"]).reshape(row["channels"], row_bytes)
    if kind is Conv:
        return Conv(source, bits, kernel, row["shift"], row["stride"], padding, row["base"])
    part = take("logits", row["channels"], 0)
    return Logits(source, bits, kernel, row["shift"], part[:, 0], part[:, 1], row["zero"], row["limit"])


def _check_about(program: Program, classes: Sequence[str], about: Mapping[str, str]) -> None:
    _require(len(classes) == program.classes, f"{len(classes)} class names for {program.classes} logits")
    _require(all(isinstance(c, str) and c for c in classes), "a class name is not text, or empty")
    _require(len(set(classes)) == len(classes), "two classes have one name")
    for key, text in about.items():
        _require(
            key not in ("classes", "format") and isinstance(text, str), f"metadata {key!r} is reserved, or not text"
        )


def _json(text: str | bytes, what: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _require(len({key for key, _ in pairs}) == len(pairs), f"{what}: a key occurs twice")
        return dict(pairs)

    try:
        return json.loads(text if isinstance(text, str) else text.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise OnebitError(f"{what}: not valid JSON ({reason(error)})") from None


def _whole(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(n) is int and n >= 0 for n in numbers)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise OnebitError(message)
