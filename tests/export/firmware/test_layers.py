"""How maps lie: quarters of a row."""

from __future__ import annotations

import pytest

from onebit.export.firmware.layers import fuse
from support.models import wide


@pytest.mark.parametrize(
    ("side", "quarters"),
    {
        32: {32: 8, 16: 4, 8: 2},
        28: {28: 8, 14: 4, 7: 2},  # 28 pixels take 4 * 8, so that two tuples become one
        24: {24: 6, 12: 3, 6: 2},  # 4 * 4 for 12 would be too much
        8: {8: 2, 4: 1, 2: 1},
    }.items(),
)
def test_quarters_of_maps(side: int, quarters: dict[int, int]) -> None:
    layers = fuse(wide(1, 1, size=side).program)
    assert {m.quarter for m in layers.maps} == {0}  # channels lie together unless a plan wants tuples
    maps = layers.in_tuples().maps
    assert maps[0].quarter == 0  # the picture
    assert {m.shape[2]: m.quarter for m in maps[1:]} == quarters
    for m in maps[1:]:
        assert m.row_bytes == m.shape[0] * 4 * quarters[m.shape[2]] * (2 if m.type == "i16" else 1)
