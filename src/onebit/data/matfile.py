"""Arrays of numbers out of MATLAB 5 files (SVHN is published so), a part at a time.

Not with scipy: its reader ends the whole process with a segmentation fault on some damaged files, and needs all of an
array in memory twice. The format: "MAT-File Format", The MathWorks. 128 bytes of header, then elements of a tag (kind,
length) and a content; kind 15 is another element, deflated; kind 14 is an array: flags, dimensions, name, numbers.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

ARRAY, DEFLATED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMBERS = range(6, 16)  # array classes: double, single, and the integers
COMPLEX = 0x800
CHUNK = 1 << 16


@dataclass(frozen=True)
class Variable:
    """One array of a file: its numbers come in Fortran order (the first index runs fastest)."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]  # as stored, which may be narrower than what MATLAB shows
    stream: _Stream

    def read(self, count: int) -> NDArray[Any]:
        """The next `count` numbers, one-dimensional and read-only."""
        return np.frombuffer(self.stream.read(count * self.dtype.itemsize), self.dtype)


def variables(path: Path) -> Generator[Variable, None, None]:
    """The arrays of numbers in a file, each to be read before the next one is asked for; others are passed over.

    Raises OSError, ValueError, EOFError, struct.error or zlib.error: not such a file, or damaged.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write(b"MATLAB 5.0".ljust(124) + b"\\0\\1IM")  # version 1.0, little-endian, nothing in it
    ...     file.flush()
    ...     list(variables(Path(file.name)))
    []
    """
    with open(path, "rb") as file:
        header = file.read(128)
        order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(header[124:])
        if order is None:
            raise ValueError("its header is not that of a MATLAB 5 file")
        size = os.fstat(file.fileno()).st_size
        while tag := file.read(8):
            kind, length = struct.unpack(f"{order}II", tag)
            end = file.tell() + length
            if end > size:
                raise EOFError("it is cut short")
            stream = _Stream(file, length, order, packed=kind == DEFLATED)
            if kind == DEFLATED:
                kind, _ = stream.tag()
            if kind == ARRAY and (found := _variable(stream)) is not None:
                yield found
            file.seek(end)


class _Stream:
    """The bytes of one element, inflated if they are packed."""

    def __init__(self, file: IO[bytes], length: int, order: str, packed: bool) -> None:
        self.file, self.left, self.order = file, length, order
        self.inflate = zlib.decompressobj() if packed else None
        self.ahead = b""  # of a small element: its content lies in its tag

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes; EOFError where there are fewer."""
        parts, self.ahead = [self.ahead[:count]], self.ahead[count:]
        count -= len(parts[0])
        while count:
            part = self._some(min(count, CHUNK))
            if not part:
                raise EOFError("it is cut short")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _some(self, most: int) -> bytes:
        if self.inflate is None:
            part = self._raw(most)
        else:
            part = self.inflate.decompress(self.inflate.unconsumed_tail or self._raw(CHUNK), most)
            while not part and self.left and not self.inflate.eof:  # what came in was not enough to give anything
                part = self.inflate.decompress(self._raw(CHUNK), most)
        return part

    def _raw(self, most: int) -> bytes:
        part = self.file.read(min(most, self.left))
        self.left -= len(part)
        return part

    def tag(self) -> tuple[int, int]:
        """Kind and length of the element that follows."""
        kind, length = struct.unpack(f"{self.order}II", self.read(8))
        if kind >> 16:  # a small one: both in the first word, up to four bytes of content in the second
            self.ahead = struct.pack(f"{self.order}I", length)[: kind >> 16]
            return kind & 0xFFFF, kind >> 16
        return kind, length

    def element(self, most: int) -> bytes:
        """The content of the element that follows, which has no more than `most` bytes."""
        _, length = self.tag()
        if length > most:
            raise ValueError(f"it announces {length:,} bytes where at most {most} are meant")
        small = bool(self.ahead)
        content = self.read(length)
        if not small:
            self.read(-length % 8)
        return content

    def finish(self) -> None:
        """Read the end of a packed element, where zlib compares its checksum."""
        while self.inflate is not None and not self.inflate.eof:
            if not self._some(CHUNK) and not self.left:
                break
        if self.inflate is not None and not self.inflate.eof:
            raise EOFError("it is cut short")


def _variable(stream: _Stream) -> Variable | None:
    """What an array says of itself; None if its content is not plain numbers."""
    flags = struct.unpack(f"{stream.order}II", stream.element(8))[0]
    shape = tuple(np.frombuffer(stream.element(128), f"{stream.order}i4").tolist())
    name = stream.element(64).decode("ascii", "replace")
    if flags & 0xFF not in NUMBERS or flags & COMPLEX:
        return None
    kind, length = stream.tag()
    if kind not in STORED:
        raise ValueError(f"{name!r} is stored as unknown kind {kind}")
    dtype = np.dtype(stream.order + STORED[kind])
    if min(shape, default=-1) < 0 or math.prod(shape) * dtype.itemsize != length:
        raise ValueError(f"{name!r} announces {shape} but {length:,} bytes")
    return Variable(name, shape, dtype, stream)
