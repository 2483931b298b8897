"""Arrays out of MATLAB 5 files: of numbers, a part at a time (SVHN), or whole, also in cells (published networks).

Not with scipy: its reader ends the whole process with a segmentation fault on some damaged files, and needs all of an
array in memory twice. The format: "MAT-File Format", The MathWorks. 128 bytes of header, then elements of a tag (kind,
length) and a content; kind 15 is another element, deflated; kind 14 is an array: flags, dimensions, name, numbers, or
for a cell array, arrays.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

ARRAY, DEFLATED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CELL, OBJECTS = 1, 16  # array classes; from 16 on: function handles and the like, laid out in another way
NUMBERS = range(6, 16)  # double, single, and the integers
COMPLEX = 0x800
CHUNK = 1 << 16
MOST_CELLS = 10_000


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


@dataclass(frozen=True)
class Cell:
    """A cell array: its items come in Fortran order; None is an item that is no array of real numbers."""

    shape: tuple[int, ...]
    items: tuple[NDArray[Any] | None, ...]


Value = NDArray[Any] | Cell | None


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
    for stream in _arrays(path):
        head = _head(stream)
        if head.is_numbers:
            yield _variable(stream, head)


def load(path: Path, wanted: Callable[[str], object]) -> dict[str, Value]:
    """The arrays of a file whose names are `wanted`, whole: numbers as stored (logical as uint8), read-only, or cells.

    The value is None where an array is neither: text, a structure, complex or sparse numbers. A file may unpack to 32
    times its size and 16 MiB more; that is four times what random bits do, stored as bytes. The rest is as in
    `variables`; damage that a checksum tells is noticed in the arrays that are wanted.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write(b"MATLAB 5.0".ljust(124) + b"\\0\\1IM")
    ...     file.flush()
    ...     load(Path(file.name), wanted=lambda name: True)
    {}
    """
    left: float = 32 * path.stat().st_size + (1 << 24)
    found = {}
    for stream in _arrays(path):
        stream.most = left
        head = _head(stream)
        if wanted(head.name):
            found[head.name] = _cell(stream, head) if head.kind == CELL else _whole(stream, head)
            stream.finish()
            left = stream.most
    return found


def _arrays(path: Path) -> Generator[_Stream, None, None]:
    """Every array of a file: its bytes behind the tag, to be read before the next one is asked for."""
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
            if kind == ARRAY:
                yield stream
            file.seek(end)


class _Stream:
    """The bytes of one element, inflated if they are packed."""

    def __init__(self, file: IO[bytes], length: int, order: str, packed: bool) -> None:
        self.file, self.left, self.order = file, length, order
        self.inflate = zlib.decompressobj() if packed else None
        self.ahead = b""  # of a small element: its content lies in its tag
        self.at, self.most = 0, math.inf  # bytes read, and how many more may be

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

    def skip(self, count: int) -> None:
        """Read `count` bytes and forget them, and what is left of a small element."""
        self.ahead = b""
        while count:
            count -= len(self.read(min(count, CHUNK)))

    def _some(self, most: int) -> bytes:
        if self.inflate is None:
            part = self._raw(most)
        else:
            part = self.inflate.decompress(self.inflate.unconsumed_tail or self._raw(CHUNK), most)
            while not part and self.left and not self.inflate.eof:  # what came in was not enough to give anything
                part = self.inflate.decompress(self._raw(CHUNK), most)
        self.at += len(part)
        self.most -= len(part)
        if self.most < 0:
            raise ValueError("it unpacks to far more than what it is meant to hold")
        return part

    def _raw(self, most: int) -> bytes:
        part = self.file.read(min(most, self.left))
        self.left -= len(part)
        return part

    def tag(self) -> tuple[int, int]:
        """Kind and length of the element that follows."""
        kind, length = struct.unpack(f"{self.order}II", self.read(8))
        if kind >> 16 > 4:
            raise ValueError(f"an element announces {kind >> 16} bytes in the place of 4")
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


@dataclass(frozen=True)
class _Head:
    """What an array says of itself before its content."""

    kind: int
    is_numbers: bool
    shape: tuple[int, ...]
    name: str


def _head(stream: _Stream) -> _Head:
    flags = struct.unpack(f"{stream.order}II", stream.element(8))[0]
    kind = flags & 0xFF
    if kind >= OBJECTS:
        return _Head(kind, False, (), "")
    shape = tuple(np.frombuffer(stream.element(128), f"{stream.order}i4").tolist())
    name = stream.element(64).decode("ascii", "replace")
    return _Head(kind, kind in NUMBERS and not flags & COMPLEX, shape, name)


def _variable(stream: _Stream, head: _Head) -> Variable:
    kind, length = stream.tag()
    if kind not in STORED:
        raise ValueError(f"{head.name!r} is stored as unknown kind {kind}")
    dtype = np.dtype(stream.order + STORED[kind])
    if min(head.shape, default=-1) < 0 or math.prod(head.shape) * dtype.itemsize != length:
        raise ValueError(f"{head.name!r} announces {head.shape} but {length:,} bytes")
    return Variable(head.name, head.shape, dtype, stream)


def _whole(stream: _Stream, head: _Head) -> NDArray[Any] | None:
    if not head.is_numbers:
        return None
    return _variable(stream, head).read(math.prod(head.shape)).reshape(head.shape, order="F")


def _cell(stream: _Stream, head: _Head) -> Cell:
    count = math.prod(head.shape) if min(head.shape, default=-1) >= 0 else -1
    if not 0 <= count <= MOST_CELLS:
        raise ValueError(f"{head.name!r} announces {head.shape} cells, more than {MOST_CELLS:,} or less than none")
    items: list[NDArray[Any] | None] = []
    for _ in range(count):
        kind, length = stream.tag()
        end = stream.at + length
        if kind != ARRAY:
            raise ValueError(f"{head.name!r} holds an element of unknown kind {kind}")
        # MATLAB may write [] as nothing at all
        items.append(_whole(stream, _head(stream)) if length else np.empty((0, 0)))
        if stream.at > end:
            raise ValueError(f"{head.name!r} holds an array longer than its cell")
        stream.skip(end - stream.at)
    return Cell(head.shape, tuple(items))
