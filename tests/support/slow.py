"""The packed model a second time, slowly: loops over plain whole numbers, written from the equations in `program` alone.

It shares no code with `reference`. A map is a list [channel][row][column] of int; NumPy arrays are turned into lists
of int before anything is computed with them. Each sum, product and shift is checked to fit the 32 bits of a signed
register, and each finished number to lie within what `Program` proved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from onebit.packed.program import Average, Conv, Logits, Max, Norm, Operation, Program, Table

Map = list[list[list[int]]]


def i32(x: int) -> int:
    """x itself, which a 32-bit register must be able to hold."""
    assert -(2**31) <= x <= 2**31 - 1, f"{x} leaves int32"
    return x


def sat16(x: int) -> int:
    return 32767 if x > 32767 else -32768 if x < -32768 else x


def rsh(x: int, k: int) -> int:
    return i32(x + ((1 << k) >> 1)) >> k


def q15mulr(x: int, m: int) -> int:
    assert -32768 <= x <= 32767 and -32767 <= m <= 32767
    return i32(x * m + 0x4000) >> 15


def run_slowly(program: Program, picture: NDArray[Any]) -> list[Map]:
    """What every operation makes of one picture [H, W, C]; the last map is [class][0][0]."""
    pixels: Map = [[[int(p) for p in row] for row in plane] for plane in picture.transpose(2, 0, 1)]
    maps: list[Map] = []
    for op, value in zip(program.operations, program.values, strict=True):
        made = _operation(op, maps, pixels, program)
        shape = (len(made), len(made[0]), len(made[0][0]))
        assert shape == value.shape, f"{shape}, not {value.shape}"
        for x in (x for plane in made for row in plane for x in row):
            assert value.low <= x <= value.high, f"{x} is not within {value.low} to {value.high}"
            i32(x)
        maps.append(made)
    return maps


def _operation(op: Operation, maps: list[Map], pixels: Map, program: Program) -> Map:
    if isinstance(op, Table):
        table = op.values.tolist()
        return [[[table[c][p] for p in row] for row in plane] for c, plane in enumerate(pixels)]
    x, zero = maps[op.source], program.values[op.source].zero
    if isinstance(op, Norm):
        made: Map = []
        for plane, mean, multiplier, offset in zip(x, op.mean, op.multiplier, op.offset, strict=True):
            m, t, b = int(mean), int(multiplier), int(offset)
            make = [[op.zero + b + q15mulr(sat16(s - m), t) for s in row] for row in plane]
            made.append([[min(op.limit, max(0, q)) for q in row] for row in make])
        return made
    if isinstance(op, Logits):
        made = []
        height, width = len(x[0]), len(x[0][0])
        for bits, gain, offset in zip(_rows(op), op.gain, op.offset, strict=True):
            total = 0
            for row in range(height):
                for column in range(width):
                    place = 0 if op.kernel == (1, 1) else row * width + column
                    for c in range(len(x)):
                        total = i32(total + _sign(bits, place * len(x) + c) * (x[c][row][column] - zero))
            made.append([[i32(i32(rsh(total, op.shift) * int(gain)) + int(offset))]])
        return made
    rows, columns = _sides(op, len(x[0]), len(x[0][0]))
    if isinstance(op, Conv):
        made = []
        for o, bits in enumerate(_rows(op)):
            plane = [[0] * columns for _ in range(rows)]
            for row in range(rows):
                for column in range(columns):
                    total = 0
                    for tap, y, z in _inside(op, x, row, column):
                        for c in range(len(x)):
                            total = i32(total + _sign(bits, tap * len(x) + c) * (x[c][y][z] - zero))
                    base = maps[op.base][o][row][column] if op.base >= 0 else 0
                    plane[row][column] = sat16(base + sat16(rsh(total, op.shift)))
            made.append(plane)
        return made
    made = [[[zero] * columns for _ in range(rows)] for _ in range(op.channels if isinstance(op, Average) else len(x))]
    for c in range(len(x)):
        for row in range(rows):
            for column in range(columns):
                seen = [x[c][y][z] for _, y, z in _inside(op, x, row, column)]
                if isinstance(op, Max):
                    made[c][row][column] = max(seen)
                else:
                    d = len(seen)
                    mean = sat16(rsh(i32(sum(seen)), int(op.shift[d - 1])))
                    made[c][row][column] = q15mulr(mean, int(op.multiplier[d - 1]))
    return made


def _rows(op: Conv | Logits) -> list[bytes]:
    return [row.tobytes() for row in op.bits]


def _sign(bits: bytes, i: int) -> int:
    """Weight i of a row of bits."""
    return 1 if bits[i // 8] & (1 << (i % 8)) else -1


def _sides(op: Conv | Average | Max, height: int, width: int) -> tuple[int, int]:
    """How often the window fits below and beside itself, counted."""
    top, left, bottom, right = op.padding
    rows = sum(1 for y in range(-top, height + bottom - op.kernel[0] + 1) if (y + top) % op.stride == 0)
    return rows, sum(1 for z in range(-left, width + right - op.kernel[1] + 1) if (z + left) % op.stride == 0)


def _inside(op: Conv | Average | Max, x: Map, row: int, column: int) -> Iterator[tuple[int, int, int]]:
    """The taps of the window at (row, column) that lie in the map: which tap, and its row and column there."""
    for i in range(op.kernel[0]):
        for j in range(op.kernel[1]):
            y, z = row * op.stride - op.padding[0] + i, column * op.stride - op.padding[1] + j
            if 0 <= y < len(x[0]) and 0 <= z < len(x[0][0]):
                yield i * op.kernel[1] + j, y, z
