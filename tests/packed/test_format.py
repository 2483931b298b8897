"""docs/format.md: its example is what the code writes and computes, its tables are the code's."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from onebit.model import Model
from onebit.packed import file, reference
from onebit.packed.program import Average, Conv, Logits, Max, Norm, Operation, Table, pack_bits
from support.packed_files import PICTURE, example

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
SECTION = TEXT[TEXT.index("## Example") : TEXT.index("## Why so")]
BLOCKS = re.findall(r"(?:^    .+\n)+", SECTION, re.M)  # operations, dump, values, answer


def dump(content: bytes) -> str:
    """As `xxd -g 1` prints it, indented."""
    lines = []
    for at in range(0, len(content), 16):
        part = content[at : at + 16]
        seen = "".join(chr(b) if 32 <= b < 127 else "." for b in part)
        lines.append(f"    {at:08x}: {part.hex(' '):<47}  {seen}\n")
    return "".join(lines)


def describe(op: Operation) -> str:
    """An operation in one line."""
    name = type(op).__name__.lower()
    if isinstance(op, Table):
        return f"{name:<8} of {op.height} x {op.width} pixels, {len(op.values)} channel: pixel - 128"
    text = f"{name:<8} of {op.source}"
    if isinstance(op, Norm):
        arrays = f"mean {op.mean.tolist()}, multiplier {op.multiplier.tolist()}, offset {op.offset.tolist()}"
        return f"{text}: {arrays}, zero {op.zero}, limit {op.limit}"
    text += f", {op.kernel[0]} x {op.kernel[1]}"
    if isinstance(op, Conv | Average | Max):
        text += f", stride {op.stride}, padding {list(op.padding)}"
    if isinstance(op, Average):
        return f"{text}, {op.channels} channels: shift {op.shift.tolist()}, multiplier {op.multiplier.tolist()}"
    if isinstance(op, Conv | Logits):
        text += f", shift {op.shift}" + (f", base {op.base}" if isinstance(op, Conv) and op.base >= 0 else "")
        text += f": rows {' '.join(bytes(row).hex() for row in op.bits)}"
    if isinstance(op, Logits):
        text += f", gain {op.gain.tolist()}, offset {op.offset.tolist()}, fraction {op.fraction}"
    return text


def test_the_operations_of_the_example() -> None:
    operations = example().program.operations
    assert BLOCKS[0] == "".join(f"    {i} {describe(op)}\n" for i, op in enumerate(operations))


def test_the_bytes_of_the_example() -> None:
    written = file.encode(*example())
    assert BLOCKS[1] == dump(written)
    read = bytes.fromhex("".join(line.partition(":")[2].strip()[:47] for line in BLOCKS[1].splitlines()))
    assert read == written and file.encode(*file.decode(read)) == written
    assert f"{len(written)} bytes" in SECTION


def test_the_values_of_the_example() -> None:
    program = example().program
    lines = []

    def watch(i: int, x: reference.Map) -> None:
        value = program.values[i]
        numbers = " | ".join(" / ".join(" ".join(map(str, row)) for row in c) for c in x[0].transpose(2, 0, 1).tolist())
        facts = f"{value.kind}, {value.low}..{value.high}, zero {value.zero}" if value.kind != "i32" else "i32"
        lines.append(f"    {i} {facts}: {numbers}\n")

    reference.run(program, PICTURE, watch=watch)
    assert BLOCKS[2] == "".join(lines)


def test_the_answer_of_the_example() -> None:
    model = Model(example())
    logits = " ".join(f"{x:.10g}" for x in model.logits(PICTURE)[0])
    shares = " ".join(f"{x:.4f}" for x in model.probabilities(PICTURE)[0])
    assert (
        BLOCKS[3]
        == f"    logits          {logits}\n    probabilities   {shares}\n    class           {model.predict(PICTURE)[0]}\n"
    )


def test_the_row_of_weights() -> None:
    weights = np.array([[[[1, -1, 1], [1, 1, -1]]]])
    assert pack_bits(weights > 0).tolist() == [[0x1D]] and "= 0x1d." in TEXT


def test_the_checksum() -> None:
    assert zlib.crc32(b"123456789") == 0xCBF43926 and "0xCBF43926" in TEXT


def table_after(heading: str) -> list[list[str]]:
    rows = TEXT[TEXT.index(heading) :].partition("\n\n|")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]


def test_the_columns_of_a_record() -> None:
    head, _, *rows = table_after("## Records")
    assert head[1:] == [kind.__name__.lower() for kind in file.KINDS]
    assert [row[0] for row in rows] == [f"{i} {name}" for i, name in enumerate(file.COLUMNS)]
    assert rows[0][1:] == [str(i) for i in range(len(file.KINDS))]
    for place, kind in enumerate(file.KINDS, 1):
        assert {row[0].split()[1] for row in rows[1:] if row[place] != "0"} == file.USED[kind], kind


def test_the_tensors() -> None:
    _, _, *rows = table_after("These tensors are")
    assert [(row[0], row[1]) for row in rows] == [(name, code) for name, (code, _, _) in file.TENSORS.items()]


@pytest.mark.parametrize("name", ["MAX_CHANNELS", "MAX_SIDE", "MAX_OPERATIONS", "TABLE_LIMIT"])
def test_a_limit_is_that_of_the_code(name: str) -> None:
    from onebit.packed import program

    assert re.search(rf"\b{getattr(program, name)}\b", TEXT)


def test_further_limits_are_those_of_the_code() -> None:
    from onebit.packed.program import MAX_MAP

    assert (file.MAX_HEADER, file.MAX_FILE, MAX_MAP) == (2**20, 2**31 - 1, 2**26)
    assert f"`{file.FORMAT}`" in TEXT
