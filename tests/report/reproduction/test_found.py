"""Which runs count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onebit.errors import OnebitError
from onebit.report.reproduction.found import search
from support.runs import write_run

NAME = "cifar10-20-10-cutout-1bit"


@pytest.mark.parametrize(
    ("settings", "options", "remark"),
    [
        ([], {}, ""),
        (["seed=7", "precision=float32", "compile=true"], {}, ""),  # how it was computed, not what
        (["epochs=62"], {}, "62 of 254 epochs"),
        (["epochs=300"], {}, "300 epochs, not 254"),
        (["width=0.25", "lr=0.05"], {}, "width 0.25 instead of 10.0; lr 0.05 instead of 0.1"),
        (["epochs=6", "cutout=0"], {}, "6 of 254 epochs; cutout 0 instead of 18"),
        ([], {"test_images": 1000}, "tested on 1,000 of 10,000 pictures"),
        ([], {"done": 12}, "under way: epoch 12 of 254"),
        (["epochs=14"], {"done": 0}, "under way: epoch 0 of 14; 14 of 254 epochs"),
    ],
)
def test_what_is_not_the_whole_experiment_says_why(
    tmp_path: Path, settings: list[str], options: dict[str, int], remark: str
) -> None:
    write_run(tmp_path / "run", NAME, 4.0, *settings, **options)
    (found,) = search([tmp_path], [NAME])
    assert found.remark == remark and (found.result is None) == ("under way" in remark)


def test_a_fine_tuned_run_does_not_count(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", NAME, 4.0)
    (run / "run.json").write_text(json.dumps({"recipe": NAME, "start": "elsewhere"}))
    assert search([tmp_path], [NAME])[0].remark == "started from other weights"


def test_a_run_is_counted_once_and_the_finished_one(tmp_path: Path) -> None:
    write_run(tmp_path / "own" / "a", NAME, 9.0, done=3)
    write_run(tmp_path / "published" / "a", NAME, 4.0)
    write_run(tmp_path / "later" / "a", NAME, 5.0)
    write_run(tmp_path / "later" / "b", "digits", 1.0)
    (found,) = search([tmp_path / "own", tmp_path / "published", tmp_path / "later", tmp_path / "none"], [NAME])
    assert found.error() == (4.0, 2.0)


def test_25_crops_and_single_epochs_are_found_only_where_measured(tmp_path: Path) -> None:
    name = "imagenet-18-2.5-1bit"
    run = write_run(tmp_path / "run", name, 31.0)
    (found,) = search([tmp_path], [name])
    assert found.error(crops="25") is None
    (run / "crops-25.json").write_text('{"error": 26.0, "top5_error": 8.0}')
    assert found.error(crops="25") == (26.0, 8.0) and found.error() == (31.0, 15.5)
    assert found.error(after=60) == (33.0, None) and found.error(after=63) is None
    (run / "crops-25.json").write_text("{")
    with pytest.raises(OnebitError, match=r"crops-25\.json: cannot be read"):
        found.error(crops="25")
