"""Pictures: what is drawn, read back from matplotlib's own objects and from the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onebit import recipe
from onebit.errors import OnebitError
from onebit.report import plots
from onebit.train.trainer import train


def run(folder: Path, name: str, errors: list[float]) -> Path:
    folder.mkdir()
    (folder / "recipe.toml").write_text(recipe.load(name).to_toml())
    lines = [
        {"kind": "epoch", "epoch": i + 1, "step": i, "test_error": e, "train_error": e / 2}
        for i, e in enumerate(errors)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"cut sho')
    return folder


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved."""
    figures: list[Any] = []
    save = plots._save

    def keep(figure: Any, path: Path) -> None:
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "_save", keep)
    return figures


def test_curves_show_every_run_and_the_authors_points(tmp_path: Path, drawn: list[Any]) -> None:
    runs = [
        run(tmp_path / "a", "cifar10-20-1-1bit", [60.0, 40.0, 30.0]),
        run(tmp_path / "b", "digits", [5.0, 4.0]),
    ]
    plots.curves(runs, tmp_path / "c.png")
    lines = {line.get_label(): line.get_xydata().tolist() for line in drawn[0].axes[0].lines}
    assert lines["a (1-bit, seed 0)"] == [[1, 60.0], [2, 40.0], [3, 30.0]]
    assert lines["b (1-bit, seed 0)"] == [[1, 5.0], [2, 4.0]]
    # of the author's seven cycle ends only the first lies within three epochs
    assert lines["author's Keras code, 20-10 with cutout, 1-bit"] == [[2, 26.38]]
    assert Image.open(tmp_path / "c.png").size == (960, 540)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c.png"]  # no temporary file stays


def test_curves_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OnebitError, match="no finished epoch"):
        plots.curves([run(tmp_path / "a", "digits", [])], tmp_path / "c.png")
    with pytest.raises(OnebitError, match="not a run folder"):
        plots.curves([tmp_path / "none"], tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()


@pytest.mark.parametrize("classes", [3, 100])
def test_confusion_colours_the_share_of_each_row(classes: int, tmp_path: Path, drawn: list[Any]) -> None:
    matrix = np.eye(classes, dtype=int) * 9
    matrix[0, 1] = 1
    plots.confusion(matrix.tolist(), [f"c{i}" for i in range(classes)], tmp_path / "m.png", "title")
    shown = drawn[0].axes[0].images[0].get_array()
    assert shown[0, 0] == pytest.approx(np.log10(0.9)) and shown[0, 1] == pytest.approx(-1) and shown[1, 0] == -4
    texts = [text.get_text() for text in drawn[0].axes[0].texts]
    assert texts.count("9") == (classes - 1 if classes == 3 else 0) + (classes == 3)
    assert (tmp_path / "m.png").stat().st_size > 1000


def test_predictions_put_mistakes_first_in_red(tmp_path: Path, drawn: list[Any]) -> None:
    small = recipe.load("digits").replace(["width=0.25", "depth=8", "epochs=1"])
    result = train(small, tmp_path / "run", quiet=True)
    plots.predictions(tmp_path / "run", tmp_path / "p.png", count=24)
    titles = [axes.title for axes in drawn[0].axes]
    red = [t.get_color() == "r" for t in titles]
    assert len(titles) == 24 and sum(red) == min(12, result["wrong"]) and red == sorted(red, reverse=True)
    assert all(("(" in t.get_text()) == r for t, r in zip(titles, red, strict=True))
