"""Tables over run folders: mean and sample standard deviation, damaged folders named."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebit import recipe
from onebit.errors import OnebitError
from onebit.report.tables import collect, spread, to_markdown, under_way


@given(st.lists(st.floats(0, 100), min_size=2, max_size=9))
def test_spread_is_the_sample_standard_deviation(values: list[float]) -> None:
    assert spread(values) == pytest.approx(statistics.stdev(values), abs=1e-9)


def run(folder: Path, seed: int, error: float, *settings: str, name: str = "mnist-20-4-1bit") -> Path:
    folder.mkdir()
    chosen = recipe.load(name).replace([f"seed={seed}", *settings])
    content = {
        "recipe": name, "label": "20-4 1-bit", "data": "mnist", "epochs": chosen.training.epochs, "seed": seed, "error": error,
        "weights": "1bit", "packed_bytes": 39174, "float_bytes": 1078000, "params": 268048,
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(content))
    (folder / "recipe.toml").write_text(chosen.to_toml())
    return folder


def test_seeds_of_one_recipe_become_one_row(tmp_path: Path) -> None:
    rows = collect([run(tmp_path / "a", 0, 1.0), run(tmp_path / "b", 1, 2.0)])
    assert len(rows) == 1 and rows[0]["seeds"] == [0, 1] and rows[0]["error"] == 1.5
    table = to_markdown(rows)
    assert "| 1.50 | ± 0.71 | 0.27 | 39.2 kB |" in table


def test_a_changed_recipe_is_another_row_and_has_no_published_number(tmp_path: Path) -> None:
    runs = [run(tmp_path / "a", 0, 1.0), run(tmp_path / "b", 0, 3.0, "lr=0.2"), run(tmp_path / "c", 0, 2.0, "epochs=6")]
    rows = collect(runs)
    assert [(row["error"], row["published"], row["spread"]) for row in rows] == [
        (1.0, 0.27, None), (3.0, None, None), (2.0, 0.36, None),
    ]  # fmt: skip
    assert "| 3.00 | - | - |" in to_markdown(rows)


def test_unfinished_and_damaged_runs_are_named(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OnebitError, match="onebit resume"):
        collect([tmp_path / "x"])
    (tmp_path / "x" / "result.json").write_text("{")
    with pytest.raises(OnebitError, match="damaged"):
        collect([tmp_path / "x"])


def test_a_run_under_way_says_how_far_it_is(tmp_path: Path) -> None:
    folder = run(tmp_path / "a", 0, 1.0)
    (folder / "metrics.jsonl").write_text('{"kind": "epoch", "epoch": 1}\n{"kind": "epoch", "epoch": 2}\n{"ki')
    assert under_way(folder) is None  # finished
    (folder / "result.json").unlink()
    assert under_way(folder) == "epoch 2 of 14"
    (folder / "metrics.jsonl").write_text("")
    assert under_way(folder) is None and under_way(tmp_path) is None
