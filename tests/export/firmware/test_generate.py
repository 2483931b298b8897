"""Constants of generated C: what is stored in fewer bytes must say the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onebit.export.firmware.generate import LINE, line, usual
from onebit.packed import file
from onebit.packed.program import Norm, Table

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
NUMBERS = st.integers(-32768, 32767)


def values(found: tuple[int, int, int, int]) -> np.ndarray:
    """What numbers.c makes of them."""
    slope, offset, lowest, highest = found
    return np.clip(slope * np.arange(256) + offset >> LINE, lowest, highest)


@given(st.integers(-(1 << 22), 1 << 22), st.integers(-(1 << 30), 1 << 30), NUMBERS, NUMBERS)
def test_a_line_between_bounds_is_found(slope: int, offset: int, one: int, other: int) -> None:
    table = np.clip(slope * np.arange(256) + offset >> LINE, min(one, other), max(one, other)).astype(np.int16)
    found = line(table)
    assert found is not None
    np.testing.assert_array_equal(values(found), table)
    assert abs(found[0]) * 255 + abs(found[1]) < 2**31


@given(st.lists(NUMBERS, min_size=256, max_size=256))
def test_what_is_no_line_is_not_taken_for_one(table: list[int]) -> None:
    found = line(np.array(table, np.int16))
    assert found is None or values(found).tolist() == table


def test_pixels_of_trained_networks_are_lines() -> None:
    for name in ("cifar10-20-1", "digits"):
        table = file.load(GOLDEN / f"{name}.onebit").program.operations[0]
        assert isinstance(table, Table)
        for row in table.values:
            found = line(row)
            assert found is not None
            np.testing.assert_array_equal(values(found), row)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_usual_batch_norms_need_no_saturation(mean: int, multiplier: int, x: int) -> None:
    """Of the difference: where it saturates, the byte that comes out is at its end either way."""
    one = np.ones(1, np.int16)
    norm = Norm(0, one * np.int16(mean), one * np.int16(multiplier), 0 * one)
    saturated = max(-32768, min(32767, x - mean)) * multiplier + 0x4000 >> 15
    plain = (x - mean) * multiplier + 0x4000 >> 15
    if usual(norm):
        assert abs((x - mean) * multiplier + 0x4000) < 2**31
        assert max(0, min(255, saturated)) == max(0, min(255, plain))
    else:
        assert 0 < abs(multiplier) < 256


def test_unusual_batch_norms() -> None:
    one = np.ones(1, np.int16)
    assert usual(Norm(0, one, 500 * one, 0 * one))
    assert not usual(Norm(0, one, 500 * one, one)) and not usual(Norm(0, one, 500 * one, 0 * one, limit=15))
    assert not usual(Norm(0, one, 500 * one, 0 * one, zero=1)) and not usual(Norm(0, one, 255 * one, 0 * one))
