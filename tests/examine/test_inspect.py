"""What a summary says against the file's bytes, the published count of weights, and counts by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings

from onebit.errors import OnebitError
from onebit.examine.inspect import Summary, describe, summary
from onebit.packed.file import Packed, encode
from onebit.packed.program import Average, Conv, Logits, Max, Norm, Program, Table, sources
from support.models import left_or_right, wide
from support.programs import programs


def of(packed: Packed) -> Summary:
    return summary(packed, len(encode(*packed)))


@settings(max_examples=60)
@given(programs())
def test_every_byte_and_operation_is_accounted_for(program: Program) -> None:
    packed = Packed(program, tuple(map(str, range(program.classes))), {"data": "noise"})
    s = of(packed)
    parts = {part.name: part for part in s.parts}
    assert sum(part.bytes for part in s.parts) == s.file_bytes
    assert parts["bits"].numbers == s.weights == sum(e.weights for e in s.operations) == s.float_bytes // 4
    kinds = ("bits", "norms", "table", "averages", "logits")
    assert sum(e.bytes for e in s.operations) == sum(parts[k].bytes for k in kinds if k in parts)
    assert [e.number for e in s.operations] == list(range(len(program.operations)))
    assert s.macs == sum(program.macs(i) for i in range(len(program.operations)))
    rows = s.layers()
    assert sorted(e.number for row in rows for e in row) == list(range(len(program.operations)))
    for row in rows:
        if len(row) == 2:
            assert row[0].kind == "norm" and row[0].number in row[1].sources
    assert json.loads(json.dumps(s.facts()))["ratio"] == s.float_bytes / s.file_bytes
    assert all(part.why and part.what for part in s.parts)


@settings(max_examples=60)
@given(programs())
def test_peak_memory_counts_what_will_be_read_again(program: Program) -> None:
    s = summary(Packed(program, ("x",) * program.classes, {}), 1 << 30)
    widths = {"u8": 1, "i16": 2, "i32": 4}
    size = [widths[v.kind] * math.prod(v.shape) for v in program.values]
    needs = []
    for i in range(len(program.operations)):
        later = {j for op in program.operations[i:] for j in sources(op) if j < i}  # read now or afterwards
        needs.append(sum(size[j] for j in later) + size[i] + (math.prod(program.input.shape) if i == 0 else 0))
    assert s.peak.bytes == max(needs) and s.peak.operation == needs.index(max(needs))
    assert s.peak.bytes == sum(math.prod(program.input.shape) if j < 0 else size[j] for j in s.peak.values)


def test_a_20_10_has_the_weights_that_the_paper_counts() -> None:
    s = of(wide(3, 10))
    assert s.weights == 26_737_120
    assert s.float_bytes == 106_948_480 and 31 < s.ratio < 32
    assert len(s.layers()) == 23  # 20 convolutions, the table and two poolings
    assert s.peak.bytes == 5 * 160 * 32 * 32  # the stream, a block's activation, and the map it becomes


def test_rows_say_what_operations_are() -> None:
    s = of(wide(1, Fraction(1, 4), size=8))
    assert [", ".join(e.text for e in row) for row in s.layers()] == [
        "table of pixels",
        "conv 3x3",
        "norm, ReLU, conv 3x3",
        "norm, ReLU, conv 3x3, add to 1",
        "norm, ReLU, conv 3x3 /2",
        "average 3x3 /2, 4 zeros",
        "norm, ReLU, conv 3x3, add to 9",
        "norm, ReLU, conv 3x3 /2",
        "average 3x3 /2, 8 zeros",
        "norm, ReLU, conv 3x3, add to 14",
        "norm, ReLU, mean, classify 1x1",
    ]
    first, last = s.layers()[1][0], s.layers()[-1]
    assert (first.input, first.output, first.reads, first.writes) == ((3, 8, 8), (4, 8, 8), "i16", "i16")
    assert (last[1].reads, last[1].writes, last[1].input) == ("u8", "i32", (16, 2, 2))


def test_other_operations_and_narrow_activations_are_named() -> None:
    table = Table(4, 4, np.zeros((1, 256), np.int16))
    one, zero = np.full(1, 5, np.int16), np.zeros(1, np.int16)
    program = Program(
        [
            table,
            Average(0, 1, (1, 1), 1, (0, 0, 0, 0), zero, one),
            Norm(1, zero, one, one, zero=3, limit=15),
            Max(2, (2, 2), 2),
            Conv(3, np.ones((1, 1), np.uint8), (1, 1), 0),
            Norm(4, zero, one, zero),
            Logits(5, np.ones((1, 1), np.uint8), (2, 2), 0, np.ones(1, np.int32), np.ones(1, np.int32), 0),
        ]
    )
    assert [describe(program, i) for i in range(7)] == [
        "table of pixels", "new step", "norm, shifted ReLU", "max 2x2 /2", "conv 1x1", "norm, ReLU", "classify 2x2"
    ]  # fmt: skip
    s = of(Packed(program, ("x",), {}))
    assert s.operations[2].writes == s.operations[3].reads == "u4" and s.operations[5].writes == "u8"
    assert next(p for p in s.parts if p.name == "norms").bytes == 2 * 3 * 2  # mean, multiplier, offset
    assert s.operations[5].bytes == 6


def test_a_file_too_small_for_its_program_is_refused() -> None:
    packed = left_or_right()
    with pytest.raises(OnebitError, match="100 bytes cannot hold"):
        summary(packed, 100)


def test_temperature_and_card_are_the_files() -> None:
    packed = left_or_right(about={"data": "mine"})
    logits = replace(packed.program.logits, sharpness=1 << 17)
    s = of(packed._replace(program=Program([packed.program.operations[0], logits])))
    assert s.temperature == 0.5 and s.about == {"data": "mine"} and s.classes == ("left", "right")
