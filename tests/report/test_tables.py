"""Tables over run folders: mean and sample standard deviation, damaged folders named."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebit.errors import OnebitError
from onebit.report.tables import collect, spread, to_markdown


@given(st.lists(st.floats(0, 100), min_size=2, max_size=9))
def test_spread_is_the_sample_standard_deviation(values: list[float]) -> None:
    assert spread(values) == pytest.approx(statistics.stdev(values), abs=1e-9)


def run(folder: Path, seed: int, error: float) -> Path:
    folder.mkdir()
    content = {
        "recipe": "r", "label": "20-1 1-bit", "data": "digits", "epochs": 3, "seed": seed, "error": error, "weights": "1bit",
        "packed_bytes": 39174, "float_bytes": 1078000, "params": 268048, "published": {"error": 1.5},
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(content))
    return folder


def test_seeds_of_one_recipe_become_one_row(tmp_path: Path) -> None:
    rows = collect([run(tmp_path / "a", 0, 1.0), run(tmp_path / "b", 1, 2.0)])
    assert len(rows) == 1 and rows[0]["seeds"] == [0, 1] and rows[0]["error"] == 1.5
    table = to_markdown(rows)
    assert "| 1.50 | ± 0.71 | 1.5 | 39.2 kB |" in table


def test_unfinished_and_damaged_runs_are_named(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OnebitError, match="onebit resume"):
        collect([tmp_path / "x"])
    (tmp_path / "x" / "result.json").write_text("{")
    with pytest.raises(OnebitError, match="damaged"):
        collect([tmp_path / "x"])
