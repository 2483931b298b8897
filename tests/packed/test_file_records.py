"""Records and rows: what `decode` refuses about them, one attack a rule, the checksum fitting each time."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.packed import file
from onebit.packed.program import MAX_OPERATIONS, Average, Conv, Logits, Max, Norm, Operation, Table
from support.packed_files import Opened, example

GOOD = file.encode(*example())
TABLE, CONV, NORM, ADD, AVERAGE, NORM4, MAX, LOGITS = range(8)  # the operations of the example


def refused(content: bytes, words: str) -> None:
    with pytest.raises(OnebitError) as caught:
        file.decode(content)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300 and str(caught.value).isprintable()


# -- numbers of records --------------------------------------------------------------------------

RECORDS: list[tuple[int, dict[str, int], str]] = [
    # file.py
    (MAX, {"kind": 6}, "operation 6: kind 6 is unknown"),
    (MAX, {"kind": -1}, "operation 6: kind -1 is unknown"),
    (TABLE, {"channels": 0}, "operation 0 (table): 0 channels"),
    (TABLE, {"channels": -1}, "operation 0 (table): -1 channels"),
    (TABLE, {"channels": 2}, "operation 0 (table): its part of 'table' ends behind the tensor"),
    (TABLE, {"height": 0}, "operation 0 (table): height and width are (0, 3)"),
    (TABLE, {"width": -3}, "operation 0 (table): height and width are (2, -3)"),
    (CONV, {"source": -1}, "operation 1 (conv): reads value -1, which is not an earlier one"),
    (CONV, {"source": -9}, "operation 1 (conv): reads value -9, which is not an earlier one"),
    (CONV, {"source": 1}, "operation 1 (conv): reads value 1, which is not an earlier one"),
    (CONV, {"source": 7}, "operation 1 (conv): reads value 7, which is not an earlier one"),
    (CONV, {"channels": 0}, "operation 1 (conv): 0 channels"),
    (CONV, {"channels": -(2**31)}, "operation 1 (conv): -2147483648 channels"),
    (CONV, {"channels": 2**31 - 1}, "operation 1 (conv): its part of 'bits' ends behind the tensor"),
    (CONV, {"height": 0}, "operation 1 (conv): height and width are (0, 3)"),
    (CONV, {"height": -3, "width": -3}, "operation 1 (conv): height and width are (-3, -3)"),
    (CONV, {"height": 2**31 - 1, "width": 2**31 - 1}, "operation 1 (conv): its part of 'bits' ends behind"),
    (CONV, {"at": 1}, "operation 1 (conv): its part of 'bits' begins at 1, not at 0"),
    (ADD, {"at": 0}, "operation 3 (conv): its part of 'bits' begins at 0, not at 4"),
    (ADD, {"at": -1}, "operation 3 (conv): its part of 'bits' begins at -1, not at 4"),
    (NORM4, {"at": 0}, "operation 5 (norm): its part of 'norms' begins at 0, not at 2"),
    (AVERAGE, {"at": 1}, "operation 4 (average): its part of 'averages' begins at 1, not at 0"),
    (AVERAGE, {"height": 3}, "operation 4 (average): its part of 'averages' ends behind the tensor"),
    (AVERAGE, {"height": 1}, "2 rows of 'averages' belong to no operation"),
    (AVERAGE, {"channels": -1}, "operation 4 (average): -1 channels"),
    (LOGITS, {"at": 9}, "operation 7 (logits): its part of 'bits' begins at 9, not at 10"),
    (LOGITS, {"channels": 0}, "operation 7 (logits): 0 channels"),
    # program.py
    (ADD, {"base": -2}, "operation 3 (conv): base -2: a value, or -1 for none"),
    (ADD, {"base": 3}, "operation 3 (conv): reads value 3, which is not an earlier one"),
    (ADD, {"base": 2}, "its base has shape (2, 2, 3) of u8, not (2, 2, 3) of i16"),
    (ADD, {"base": 0}, "its base has shape (1, 2, 3) of i16, not (2, 2, 3) of i16"),
    (ADD, {"base": -1}, ""),
    (ADD, {"stride": 0}, "operation 3 (conv): stride 0: 1 to 255"),
    (ADD, {"stride": 256}, "operation 3 (conv): stride 256: 1 to 255"),
    (ADD, {"stride": -1}, "operation 3 (conv): stride -1: 1 to 255"),
    (MAX, {"stride": 0}, "operation 6 (max): stride 0: 1 to 255"),
    (MAX, {"stride": 2**31 - 1}, "operation 6 (max): stride 2147483647: 1 to 255"),
    (ADD, {"padding": 0x80}, "operation 3 (conv): padding (128, 0, 0, 0): 0 to 127"),
    (ADD, {"padding": -1}, "operation 3 (conv): padding (255, 255, 255, 255): 0 to 127"),
    (MAX, {"padding": -(2**31)}, "operation 6 (max): padding (0, 0, 0, 128): 0 to 127"),
    (MAX, {"padding": 0x02000000}, "operation 6 (max): a window lies in the padding alone"),
    (AVERAGE, {"padding": 0x00020000}, "operation 4 (average): a window lies in the padding alone"),
    (MAX, {"height": 2}, "operation 6 (max): a window of 2x2 does not fit into a map of 1x2"),
    (MAX, {"height": 4097}, "operation 6 (max): kernel (4097, 2): 1 to 4096"),
    (MAX, {"width": 2**31 - 1}, "operation 6 (max): kernel (1, 2147483647): 1 to 4096"),
    (ADD, {"shift": 25}, "operation 3 (conv): shift 25: 0 to 24"),
    (ADD, {"shift": -1}, "operation 3 (conv): shift -1: 0 to 24"),
    (LOGITS, {"shift": 2**31 - 1}, "operation 7 (logits): shift 2147483647: 0 to 24"),
    (NORM, {"source": 0}, "operation 5 (norm): its part of 'norms' begins at 2, not at 1"),
    (NORM4, {"limit": 0}, "operation 5 (norm): zero 0 and limit 0: 0 <= zero <= limit <= 255"),
    (NORM4, {"limit": 256}, "operation 5 (norm): zero 0 and limit 256: 0 <= zero <= limit <= 255"),
    (NORM4, {"zero": -1}, "operation 5 (norm): zero -1 and limit 15: 0 <= zero <= limit <= 255"),
    (NORM4, {"zero": 16}, "operation 5 (norm): zero 16 and limit 15: 0 <= zero <= limit <= 255"),
    (LOGITS, {"zero": -1}, "operation 7 (logits): fraction -1: 0 to 24"),
    (LOGITS, {"zero": 25}, "operation 7 (logits): fraction 25: 0 to 24"),
    (LOGITS, {"limit": 0}, "operation 7 (logits): sharpness 0 is not positive"),
    (LOGITS, {"limit": -(2**31)}, "operation 7 (logits): sharpness -2147483648 is not positive"),
    (TABLE, {"height": 4097}, "operation 0 (table): a map of 4097x3: 1 to 4096 a side"),
    (TABLE, {"width": 2**31 - 1}, "operation 0 (table): a map of 2x2147483647: 1 to 4096 a side"),
    (LOGITS, {"source": 4}, "operation 6 (max): nothing reads its value"),
]


@pytest.mark.parametrize(("operation", "columns", "words"), RECORDS)
def test_attack_on_a_record(operation: int, columns: dict[str, int], words: str) -> None:
    opened = Opened(GOOD)
    opened.set(operation, **columns)
    if words:
        refused(opened.close(), words)
    else:
        file.decode(opened.close())


def test_attack_by_numbers_without_a_meaning() -> None:
    for i, record in enumerate(Opened(GOOD).tensors["program"]):
        kind = file.KINDS[record[0]]
        for column in set(file.COLUMNS) - file.USED[kind] - {"kind"}:
            for number in (1, -1):
                opened = Opened(GOOD)
                opened.set(i, **{column: number})
                refused(opened.close(), f"({kind.__name__.lower()}): column {column} is {number} and means nothing")


# -- rows of the tensors -------------------------------------------------------------------------


def row(name: str, place: Any, number: int) -> Callable[[Opened], None]:
    def edit(opened: Opened) -> None:
        opened.tensors[name][place] = number

    return edit


def more(name: str) -> Callable[[Opened], None]:
    def edit(opened: Opened) -> None:
        opened.tensors[name] = np.concatenate([opened.tensors[name], opened.tensors[name][:1]])
        opened.lay_out()

    return edit


def operations(*order: int) -> Callable[[Opened], None]:
    def edit(opened: Opened) -> None:
        opened.tensors["program"] = opened.tensors["program"][list(order)]
        opened.lay_out()

    return edit


def no_offsets(opened: Opened) -> None:
    opened.tensors["norms"][:, 2] = 0


ROWS: dict[str, tuple[Callable[[Opened], None], str]] = {
    **{name: (more(name), f"1 rows of '{name}' belong to no") for name in ("table", "norms", "averages", "bits")},
    "logits": (more("logits"), "1 rows of 'logits' belong to no operation"),
    "a third column of nothing": (no_offsets, "tensor 'norms' has a third column that is 0 throughout"),
    "a pad bit": (row("bits", 1, 0x81), "operation 1 (conv): a pad bit is not 0"),
    "the lowest pad bit": (row("bits", 3, 0x02), "operation 1 (conv): a pad bit is not 0"),
    "a pad bit of logits": (row("bits", 11, 0x08), "operation 7 (logits): a pad bit is not 0"),
    "a pixel": (row("table", (0, 200), 8160), "operation 0 (table): an entry is beyond 8159"),
    "a dark pixel": (row("table", (0, 0), -32768), "operation 0 (table): an entry is beyond 8159"),
    "a multiplier": (row("norms", (1, 1), -32768), "operation 2 (norm): a multiplier is -32768"),
    "a shift": (row("averages", (0, 0), 16), "operation 4 (average): shifts: 0 to 15"),
    "a negative shift": (row("averages", (2, 0), -1), "operation 4 (average): shifts: 0 to 15"),
    "a negative multiplier": (row("averages", (3, 1), -1), "operation 4 (average): a multiplier is negative"),
    "a gain": (row("logits", (0, 0), 2**31 - 1), "operation 7 (logits): its logits may leave int32"),
    "an offset": (row("logits", (1, 1), -(2**31)), "operation 7 (logits): its logits may leave int32"),
    "one operation": (operations(0), "rows of 'logits' belong to no operation"),
    "no table first": (operations(1, 0), "operation 0 (conv): reads value 0, which is not an earlier one"),
    "4097 operations": (operations(*[0] * 4097), "a program has 2 to 4096 operations, not 4097"),
}


@pytest.mark.parametrize("name", ROWS)
def test_attack_on_rows(name: str) -> None:
    edit, words = ROWS[name]
    opened = Opened(GOOD)
    edit(opened)
    refused(opened.close(), words)


# -- programs that nobody may make, written by an encoder that asks no questions ------------------


def table(side: int, channels: int = 1, number: int = 8159) -> Table:
    return Table(side, side, np.full((channels, 256), number, np.int16))


def conv(source: int, rows: int, taps: int, kernel: tuple[int, int] = (1, 1), **rest: Any) -> Conv:
    return Conv(source, np.zeros((rows, -(-taps // 8)), np.uint8), kernel, **{"shift": 0, **rest})


def norm(source: int, channels: int = 1) -> Norm:
    numbers = np.ones(channels, np.int16)
    return Norm(source, numbers, numbers, numbers * np.int16(0))


def average(source: int, channels: int, side: int, stride: int = 1, multiplier: int = 1) -> Average:
    numbers = np.ones(side * side, np.int16)
    return Average(source, channels, (side, side), stride, (0, 0, 0, 0), numbers, numbers * np.int16(multiplier))


def logits(source: int, classes: int = 1, taps: int = 1, kernel: tuple[int, int] = (1, 1)) -> Logits:
    numbers = np.ones(classes, np.int32)
    return Logits(source, np.zeros((classes, -(-taps // 8)), np.uint8), kernel, 0, numbers, numbers, 0)


def unchecked(ops: list[Operation]) -> bytes:
    classes = max((len(op.gain) for op in ops if isinstance(op, Logits)), default=1)
    program: Any = SimpleNamespace(operations=ops, classes=classes)
    return file.encode(program, [str(k) for k in range(classes)])


PROGRAMS: dict[str, tuple[list[Operation], str]] = {
    "two tables": ([table(1), table(1), logits(1)], "operation 1 (table): the table comes first and only there"),
    "no logits": ([table(1), logits(0), conv(1, 1, 1)], "operation 1 (logits): logits come last and only there"),
    "two logits": ([table(1), logits(0), logits(0)], "operation 1 (logits): logits come last and only there"),
    "a value that nothing reads": ([table(1), conv(0, 1, 1), logits(0)], "operation 1 (conv): nothing reads its"),
    "a norm of activations": ([table(1), norm(0), norm(1), logits(2)], "operation 2 (norm): reads an activation"),
    "a kernel between": ([table(3), logits(0, 1, 4, (2, 2))], "kernel (2, 2) is neither 1x1 nor the map's (3, 3)"),
    "sums of a conv": (
        [table(514), conv(0, 1, 514 * 514, (514, 514)), logits(1)],
        f"operation 1 (conv): its sums may reach {514 * 514 * 8159}, beyond int32",
    ),
    "sums of logits": ([table(514), logits(0)], f"(logits): its sums may reach {514 * 514 * 8159}, beyond int32"),
    "sums of an average": (
        [table(514), average(0, 1, 514), logits(1)],
        f"operation 1 (average): its sums may reach {514 * 514 * 8159}, beyond int32",
    ),
    "a mean beyond activations": (
        [table(2), norm(0), average(1, 1, 2, multiplier=32767), logits(2)],
        "operation 2 (average): a mean of activations may reach 510, beyond 255",
    ),
    "fewer channels": (
        [table(1, 2), average(0, 1, 1), logits(1)],
        "operation 1 (average): 1 channels out of 2: only more can be made",
    ),
    "appended channels": ([table(1), average(0, 65537, 1), logits(1, 1, 65537)], "(average): 65537 channels: 1 to"),
    "channels": ([table(1), conv(0, 65537, 1), logits(1, 1, 65537)], "(conv): 65537 channels: 1 to 65536"),
    "classes": ([table(1, number=1), logits(0, 65537)], "(logits): 65537 channels: 1 to 65536"),
    "a side": (
        [table(4096), conv(0, 1, 1, padding=(1, 0, 0, 0)), logits(1)],
        "operation 1 (conv): a map of 4097x4096: 1 to 4096 a side",
    ),
    "a map": ([table(4096), conv(0, 5, 1), logits(1, 1, 5)], "a map of (5, 4096, 4096) is too large"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_attack_by_a_program(name: str) -> None:
    ops, words = PROGRAMS[name]
    refused(unchecked(ops), words)


def test_without_offsets_and_pools_there_are_no_rows_for_them() -> None:
    content = unchecked([table(2, 2), norm(0, 2), logits(1, 3, 2)])
    assert Opened(content).tensors["norms"].shape == (2, 2) and "averages" not in Opened(content).tensors
    content = unchecked([table(2, 2), logits(0, 1, 2)])
    assert not {"norms", "averages"} & Opened(content).tensors.keys()
    assert file.encode(*file.decode(content)) == content


def test_large_maps_of_a_small_file_take_no_memory_and_no_time() -> None:
    middle: list[Operation] = [norm(0)]
    for i in range(500):
        middle += [Max(2 * i + 1, (1, 1), 1), average(2 * i + 2, 1, 1)]
    content = unchecked([table(4096), *middle, Max(1001, (4096, 4096), 1), logits(1002)])
    tracemalloc.start()
    file.decode(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20  # a map of one of them would be 16


def test_as_many_operations_as_there_may_be() -> None:
    ops: list[Operation] = [
        table(1),
        *(Max(i, (1, 1), 1) for i in range(MAX_OPERATIONS - 2)),
        logits(MAX_OPERATIONS - 2),
    ]
    assert len(file.decode(unchecked(ops)).program.operations) == MAX_OPERATIONS


def test_numbers_are_read_only_and_of_this_machine() -> None:
    arrays: list[NDArray[Any]] = [
        a for op in file.decode(GOOD).program.operations for a in vars(op).values() if isinstance(a, np.ndarray)
    ]
    assert all(a.dtype.isnative and not a.flags.writeable for a in arrays if a.any())
