"""The files of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onebit.errors import OnebitError
from onebit.recipe import load
from onebit.train.folder import RunFolder

ABOUT = {"recipe": "digits", "root": None}


def test_opening_makes_the_folder_and_clears_what_a_kill_left(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "b")
    folder.require_new()
    recipe = load("digits").replace(["epochs=4"])
    assert folder.open(recipe, ABOUT, 0) == 0.0
    assert folder.begun() == (recipe, ABOUT)
    assert folder.load_checkpoint() is None
    with pytest.raises(OnebitError, match="already holds a run"):
        folder.require_new()
    for epoch in (1, 2, 3):
        folder.metrics.append({"epoch": epoch, "seconds": 10.0 * epoch})
    folder.save_checkpoint({"epoch": 2})
    (folder.path / ".checkpoint.pt.123.tmp").write_bytes(b"half")
    again = RunFolder(folder.path)
    assert again.open(recipe, ABOUT, 2) == 20.0
    assert [line["epoch"] for line in again.metrics.read()] == [1, 2]
    saved = again.load_checkpoint()
    assert saved is not None and saved["epoch"] == 2
    assert {p.name for p in folder.path.iterdir()} == {"recipe.toml", "run.json", "metrics.jsonl", "checkpoint.pt"}


def test_results_and_models(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save_result({"error": 1.5})
    folder.save_model({"model": {}})
    assert json.loads((tmp_path / "result.json").read_text()) == {"error": 1.5}
    assert (tmp_path / "model.pt").exists()


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"recipe": 1', '{"recipe": "digits"}'])
def test_no_run_folder_is_one_clear_error(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(OnebitError, match="is not a run folder") as caught:
        RunFolder(tmp_path).begun()
    assert "\n" not in str(caught.value)


def test_a_place_where_no_folder_can_be_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OnebitError, match="cannot be made"):
        RunFolder(tmp_path / "file" / "run").open(load("digits"), ABOUT, 0)


def test_what_a_run_ended_in_before_is_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    recipe = load("digits").replace(["epochs=4"])
    for name in ("model.pt", "model.onebit"):
        (tmp_path / name).write_text("after 4")
    folder.save_result({"epochs": 4})
    folder.open(recipe, ABOUT, 4)  # the same number of epochs: nothing moves
    assert (tmp_path / "result.json").exists()
    folder.open(recipe.replace(["epochs=6"]), ABOUT, 4)
    names = {"result-4.json", "model-4.pt", "model-4.onebit", "recipe.toml", "run.json", "metrics.jsonl"}
    assert {p.name for p in tmp_path.iterdir()} == names
    assert (tmp_path / "model-4.onebit").read_text() == "after 4"
    for damaged in ("{", "[]", '{"epochs": null}'):
        (tmp_path / "result.json").write_text(damaged)
        folder.open(recipe.replace(["epochs=8"]), ABOUT, 4)
        assert (tmp_path / "result.json").read_text() == damaged
