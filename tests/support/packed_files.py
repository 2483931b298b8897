"""Packed files for tests: the one that docs/format.md prints, and a way to make slightly wrong files of a right one."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.packed.file import COLUMNS, TENSORS, Packed
from onebit.packed.program import Average, Conv, Logits, Max, Norm, Program, Table

PICTURE = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)[None, :, :, None]


def example() -> Packed:
    """Every operation, every tensor, pad bits, a base, a zero point, windows of 4 and 2 positions: docs/format.md."""
    table = (np.arange(256) - 128).astype(np.int16)[None]
    operations = [
        Table(2, 3, table),
        Conv(0, _rows("b701 5200"), (3, 3), 1, padding=(1, 1, 1, 1)),
        Norm(1, _numbers(-20, 15), _numbers(20000, -12000), _numbers(0, 9), zero=32, limit=255),
        Conv(2, _rows("9c3a02 63d501"), (3, 3), 2, padding=(1, 1, 1, 1), base=1),
        Average(3, 3, (2, 2), 2, (0, 0, 0, 1), _numbers(0, 1, 1, 2), _numbers(16384, 16384, 10923, 16384)),
        Norm(4, _numbers(-50, 0, -4), _numbers(2048, 3000, 32767), _numbers(0, 7, 0), limit=15),
        Max(5, (1, 2), 1, (0, 0, 0, 1)),
        Logits(6, _rows("05 06"), (1, 1), 0, _numbers(300, -280).astype(np.int32), np.array([-70, 4000], np.int32), 10),
    ]
    return Packed(Program(operations), ("ant", "Käfer"), {"data": "example"})  # type: ignore[arg-type]


def _rows(text: str) -> NDArray[np.uint8]:
    return np.stack([np.frombuffer(bytes.fromhex(row), np.uint8) for row in text.split()])


def _numbers(*numbers: int) -> NDArray[np.int16]:
    return np.array(numbers, np.int16)


class Opened:
    """The header and the tensors of a packed file, to be changed; `close` makes a file of them with a fitting CRC."""

    def __init__(self, content: bytes) -> None:
        (length,) = struct.unpack_from("<Q", content)
        self.header: dict[str, Any] = json.loads(content[8 : 8 + length])
        self.tensors: dict[str, NDArray[Any]] = {}
        for name, (_, dtype, _) in TENSORS.items():
            if name in self.header:
                begin, end = (8 + length + offset for offset in self.header[name]["data_offsets"])
                array = np.frombuffer(content[begin:end], dtype).reshape(self.header[name]["shape"]).copy()
                self.tensors[name] = array

    @property
    def metadata(self) -> dict[str, Any]:
        return self.header["__metadata__"]

    def cell(self, operation: int, column: str) -> tuple[int, int]:
        """Where a number of a record is."""
        return operation, COLUMNS.index(column)

    def set(self, operation: int, **columns: int) -> None:
        for column, number in columns.items():
            self.tensors["program"][self.cell(operation, column)] = number

    def lay_out(self) -> None:
        """Say in the header what shapes and places the tensors have now."""
        end = 0
        for name, array in self.tensors.items():
            begin, end = end, end + array.nbytes
            self.header[name] = {"dtype": TENSORS[name][0], "shape": list(array.shape), "data_offsets": [begin, end]}

    def close(self, edit: Callable[[str], str] = str) -> bytes:
        """The file, its header's text changed by `edit`."""
        text = edit(json.dumps(self.header, separators=(",", ":"))).encode("utf-8", "surrogatepass")
        text += b" " * (-len(text) % 8)
        data = b"".join(array.tobytes() for array in self.tensors.values())
        return sealed(struct.pack("<Q", len(text)) + text + data)


def sealed(content: bytes) -> bytes:
    """The same with its last four bytes made the CRC of those before."""
    return content[:-4] + struct.pack("<I", zlib.crc32(content[:-4]))
