"""Plans are proved byte by byte; these tests see that the proof can fail, and that plans are as small as they can be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings

from onebit.export.firmware.footprint import CORES, families
from onebit.export.firmware.layers import fuse
from onebit.export.firmware.plan import plan
from onebit.export.firmware.proof import prove
from onebit.packed import file
from onebit.packed.program import Conv, Logits, Program
from support.models import left_or_right, wide
from support.programs import programs

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


def golden(name: str) -> Program:
    return file.load(GOLDEN / f"{name}.onebit").program


@settings(max_examples=60)
@given(programs())
def test_every_program_gets_a_plan_that_holds(program: Program) -> None:
    for low_memory in (False, True):
        found = plan(program, low_memory=low_memory)
        prove(found)
        assert not low_memory or found.arena <= plan(program).arena
        assert found.arena >= found.bound
        # every operation with weights is some layer's, once
        layers = [layer.operation for layer in found.layers.layers]
        assert layers == sorted(set(layers))
        weighted = {i for i, op in enumerate(program.operations) if isinstance(op, Conv | Logits)}
        assert weighted <= set(layers)
        # segments cover the layers in order
        assert [k for segment in found.segments for k in segment] == list(range(len(layers)))


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("low_memory", [False, True])
def test_cifar10_on_a_microcontroller(core: str, low_memory: bool) -> None:
    """CIFAR-10 20-1: the stream has 32,768 bytes; all the rest fits into 26 kB, row by row into 8 kB."""
    found = plan(golden("cifar10-20-1"), families(core), low_memory)
    prove(found)
    assert found.arena <= (41_200 if low_memory else 59_000)
    assert found.arena <= 1.025 * found.bound  # no arrangement of these buffers needs less than the bound


def test_low_memory_pays_where_pictures_are_large() -> None:
    program = wide(1, 1, size=96).program
    fast, low = (plan(program, low_memory=low).arena for low in (False, True))
    assert low < 0.7 * fast


def test_batch_norms_are_fused_into_what_reads_or_writes() -> None:
    """Of a residual network only the stream and a map a block are kept."""
    layers = fuse(golden("cifar10-20-1"))
    assert [layer.kind for layer in layers.layers].count("copy") == 0
    assert len(layers.maps) == 1 + len(layers.layers) - 1  # the picture, and what each layer but the classifier makes
    assert sum(layer.read is not None for layer in layers.layers) == 9  # the first convolution of each block
    assert sum(layer.write is not None for layer in layers.layers) == 10  # between the two, and before the classifier


@pytest.mark.parametrize("what", ["at", "askew", "scratch_at", "rows", "segments"])
def test_the_proof_finds_what_is_wrong(what: str) -> None:
    """A map moved over another, scratch over a map that is needed, a row too few, layers together without room for it."""
    found = plan(golden("cifar10-20-1"), low_memory=what == "rows")
    if what == "at":
        at = list(found.at)
        at[2] = at[1]
        wrong = dataclasses.replace(found, at=tuple(at))
    elif what == "askew":  # the first sum begins a row after its base, which it is written over
        at = list(found.at)
        at[3] += found.layers.maps[3].row_bytes
        wrong = dataclasses.replace(found, at=tuple(at), arena=found.arena + found.layers.maps[3].row_bytes)
    elif what == "scratch_at":
        wrong = dataclasses.replace(found, scratch_at=tuple(found.at[1] for _ in found.scratch_at))
    elif what == "rows":
        ring = next(m for m, rows in enumerate(found.rows) if 1 < rows < found.layers.maps[m].height)
        rows = list(found.rows)
        rows[ring] -= 1
        wrong = dataclasses.replace(found, rows=tuple(rows))
    else:
        first, second, *rest = found.segments[1:]
        rows = list(found.rows)
        rows[2] = 2
        together = range(first.start, second.stop)
        at_once = (found.together[0], 1, *found.together[3:])
        segments = (found.segments[0], together, *rest)
        wrong = dataclasses.replace(found, segments=segments, together=at_once, rows=tuple(rows))
    prove(found)
    with pytest.raises(AssertionError):
        prove(wrong)


def test_a_network_of_two_operations() -> None:
    found = plan(left_or_right().program)
    prove(found)
    assert [layer.kind for layer in found.layers.layers] == ["logits"] and found.layers.layers[0].table
