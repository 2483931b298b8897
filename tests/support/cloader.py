"""The compiled loader of the C core, called from Python, and what it must agree about with the Python reader."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from onebit.errors import OnebitError
from onebit.packed import file
from onebit.packed.program import Average, Conv, Logits, Norm, Table

STATUSES = ("OK", "ARGUMENT", "MEMORY", "FORMAT", "DAMAGED", "NEWER", "HEADER", "TEXT", "PROGRAM", "ISA", "THREADS")
TYPES = ("u8", "i16", "i32")


class CValue(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("type", "channels", "height", "width", "low", "high", "zero")]


class COperation(ctypes.Structure):
    """`ob_operation` of core/src/program.h."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("kind", "source", "base", "height", "width")),
        *((name, ctypes.c_int32) for name in ("stride", "top", "left", "bottom", "right", "shift", "zero", "limit")),
        ("rows", ctypes.c_void_p),
        ("row_bytes", ctypes.c_int32),
        ("gains", ctypes.c_void_p),
        ("value", CValue),
    ]


class CProgram(ctypes.Structure):
    _fields_ = [("count", ctypes.c_int32), ("operations", ctypes.POINTER(COperation))]


class CShape(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int32)
        for name in ("channels", "height", "width", "classes", "fraction", "sharpness", "operations")
    ]


class Loader:
    """The compiled loader; `read` gives a status, the operation that is wrong, and the program."""

    def __init__(self, library: Path) -> None:
        self.c = ctypes.CDLL(str(library))
        self.c.ob_program_size.restype = ctypes.c_size_t
        self.c.ob_program_size.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.c.ob_program_read.argtypes = [
            *[ctypes.c_void_p, ctypes.c_size_t] * 2,
            ctypes.POINTER(ctypes.POINTER(CProgram)),
            ctypes.POINTER(ctypes.c_int32),
        ]
        self.c.ob_program_shape.argtypes = [ctypes.POINTER(CProgram), ctypes.POINTER(CShape)]
        self.c.ob_crc32.restype = ctypes.c_uint32
        self.c.ob_crc32.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        self.c.ob_status_name.restype = self.c.ob_status_text.restype = ctypes.c_char_p

    def read(self, content: bytes, less: int = 0, shift: int = 0) -> tuple[str, int, Any]:
        """With memory as large as asked for; or `less`, or not aligned, which `shift` says."""
        self.content = ctypes.create_string_buffer(content, len(content))  # programs point into it
        size = self.c.ob_program_size(self.content, len(content))
        self.memory = ctypes.create_string_buffer(size + 128)
        start = -ctypes.addressof(self.memory) % 64 + shift
        program, operation = ctypes.POINTER(CProgram)(), ctypes.c_int32(99)
        status = self.c.ob_program_read(
            self.content, len(content), ctypes.byref(self.memory, start), size - less, ctypes.byref(program),
            ctypes.byref(operation),
        )  # fmt: skip
        assert self.memory.raw[start + size :].count(0) == len(self.memory) - start - size, "wrote behind its memory"
        assert bool(program) == (status == 0) and (operation.value == -1 or STATUSES[status] == "PROGRAM")
        return STATUSES[status], operation.value, program


def equal(packed: file.Packed, loader: Loader, program: Any) -> None:
    """Everything that the C reader decoded is what the Python reader did."""
    mine = packed.program
    assert program.contents.count == len(mine.operations)
    for i, (op, value) in enumerate(zip(mine.operations, mine.values, strict=True)):
        c = program.contents.operations[i]
        assert c.kind == file.KINDS.index(type(op))
        assert (TYPES[c.value.type], (c.value.channels, c.value.height, c.value.width)) == (value.kind, value.shape)
        assert (c.value.low, c.value.high, c.value.zero) == (value.low, value.high, value.zero)
        names = {"source": 0, "base": -1, "stride": 0, "shift": 0, "zero": 0, "limit": 0}
        if isinstance(op, Logits):
            names |= {"zero": op.fraction, "limit": op.sharpness}
        for name, nothing in names.items():
            given = getattr(op, name, nothing)
            assert getattr(c, name) == (given if isinstance(given, int) else nothing), (i, name)
        if not isinstance(op, Norm):
            assert (c.height, c.width) == ((op.height, op.width) if isinstance(op, Table) else op.kernel)
        assert (c.top, c.left, c.bottom, c.right) == getattr(op, "padding", (0, 0, 0, 0))
        if isinstance(op, Table):
            rows = op.values
        elif isinstance(op, Norm):
            rows = np.stack([op.mean, op.multiplier, op.offset][: c.row_bytes // 2], 1)
            assert c.row_bytes == 6 or not op.offset.any()
        elif isinstance(op, Average):
            rows = np.stack([op.shift, op.multiplier], 1)
        elif isinstance(op, Conv | Logits):
            rows = op.bits
        else:
            assert c.rows is None and c.row_bytes == 0
            continue
        assert c.row_bytes == rows[0].nbytes
        assert ctypes.string_at(c.rows, rows.nbytes) == rows.astype(rows.dtype.newbyteorder("<")).tobytes()
        if isinstance(op, Logits):
            gains = np.stack([op.gain, op.offset], 1).astype("<i4")
            assert ctypes.string_at(c.gains, gains.nbytes) == gains.tobytes()
        else:
            assert c.gains is None
    shape = CShape()
    loader.c.ob_program_shape(program, ctypes.byref(shape))
    assert (shape.channels, shape.height, shape.width) == mine.input.shape
    assert (shape.classes, shape.fraction, shape.sharpness, shape.operations) == (
        mine.classes, mine.logits.fraction, mine.logits.sharpness, len(mine.operations),
    )  # fmt: skip


def same(content: bytes, loader: Loader) -> bool:
    """Do both readers take it, with the same numbers? They must be of one opinion."""
    status, _, program = loader.read(content)
    try:
        packed = file.decode(content)
    except OnebitError as error:
        assert status != "OK", f"Python refuses it: {error}"
        return False
    assert status == "OK", "Python takes it"
    equal(packed, loader, program)
    return True
