"""A script from end to end, on digits: it plans, trains, resumes, skips, marks, and survives Ctrl-C and failures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onebit import recipe as recipes
from onebit.report.reproduction import Experiment, Row, main
from onebit.report.reproduction.plan import plan
from onebit.train import trainer

HOME = Path(__file__).resolve().parents[3] / "reproduce"
DIGITS = Experiment("tiny", "Tiny", (Row("digits-float", 1.5), Row("digits", 1.25), Row("mnist-20-1-1bit")))
QUICK = ["--epochs", "2", "--set", "width=0.25", "--set", "depth=8", "--threads", "1", "--also"]
SUFFIX = "width-0.25-depth-8"

pytestmark = pytest.mark.skipif(not HOME.is_dir(), reason="the scripts are in the repository")


def test_plan_chooses_by_name_and_seed(tmp_path: Path) -> None:
    def names(**options: object) -> list[str]:
        return [p.folder.name for p in plan(DIGITS, tmp_path, **options)]  # type: ignore[arg-type]

    assert names() == ["digits-float-s0", "digits-s0"]  # what is not in the paper only when asked for
    assert names(only=["mnist"], seeds=[1, 2]) == ["mnist-20-1-1bit-s1", "mnist-20-1-1bit-s2"]
    assert names(only=["*-float"], epochs=2, settings=["lr=0.05"]) == ["digits-float-lr-0.05-s0"]
    assert names(only=["*-float"], epochs=2) == ["digits-float-s0"]  # the beginning of the whole run
    cosine = ["schedule=cosine"]  # whose learning rate depends on the number of epochs
    assert names(only=["*-float"], epochs=2, settings=cosine) == ["digits-float-epochs-2-schedule-cosine-s0"]
    assert names(only=["*-float"], epochs=30) == ["digits-float-s0"]  # the recipe's own number
    assert main(DIGITS, HOME, ["--only", "cifar", "--out", str(tmp_path)]) == 1


def test_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    assert main(DIGITS, HOME, ["--dry-run", "--out", str(out)]) == 0 and not out.exists()
    assert "digits-s0: Handwritten digits, 20-1, 1-bit weights, 30 epochs, seed 0 (new)" in capsys.readouterr().out


def test_ctrl_c_resume_and_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--out", str(tmp_path), "--only", "digits", *QUICK]
    end_epoch = trainer.Run._end_epoch

    def interrupted(run: trainer.Run, begun: float, first: int) -> None:
        run._request_stop()
        end_epoch(run, begun, first)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Run, "_end_epoch", interrupted)
        assert main(DIGITS, HOME, arguments) == 130
    assert "**under way: epoch 1 of 2; 2 of 30 epochs" in (tmp_path / "tiny.md").read_text()
    first = tmp_path / f"digits-float-{SUFFIX}-s0"
    assert not (first / "result.json").exists() and not (tmp_path / f"digits-{SUFFIX}-s0").exists()

    assert main(DIGITS, HOME, arguments) == 0
    epochs = [json.loads(line)["epoch"] for line in (first / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2]  # resumed, not begun anew
    page = (tmp_path / "tiny.md").read_text()
    assert page.count("**2 of 30 epochs; depth 8 instead of 20; width 0.25 instead of 1.0**") == 2
    assert page.count("not yet run") == 3  # no row counts a run that was cut short
    assert (tmp_path / "tiny.png").read_bytes()[:4] == b"\x89PNG"

    capsys.readouterr()
    before = {p: p.stat().st_mtime_ns for p in first.iterdir()}
    assert main(DIGITS, HOME, arguments) == 0
    assert capsys.readouterr().err.count("done before") == 2
    assert {p: p.stat().st_mtime_ns for p in first.iterdir()} == before


def test_more_epochs_go_on_where_fewer_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def script(*epochs: str) -> list[int]:
        arguments = ["--out", str(tmp_path), "--only", "digits-float", *QUICK, *epochs]
        assert main(DIGITS, HOME, arguments) == 0
        run = tmp_path / f"digits-float-{SUFFIX}-s0"
        return [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]

    assert script() == [1, 2]
    assert script("--epochs", "3") == [1, 2, 3]
    first, second = (tmp_path / f"digits-float-{SUFFIX}-s0" / name for name in ("result-2.json", "result.json"))
    assert [json.loads(p.read_text())["epochs"] for p in (first, second)] == [2, 3]
    capsys.readouterr()
    assert script("--epochs", "2") == [1, 2, 3] and "done before" in capsys.readouterr().err
    (tmp_path / f"digits-float-{SUFFIX}-s0" / "recipe.toml").write_text(recipes.load("digits").to_toml())
    assert main(DIGITS, HOME, ["--out", str(tmp_path), "--only", "digits-float", *QUICK, "--epochs", "4"]) == 1
    assert "holds a run of other settings" in capsys.readouterr().err


def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = Experiment("two", "Two", (Row("mnist-20-1-float", 1.0), Row("digits", 1.0)))
    assert main(experiment, HOME, ["--out", str(tmp_path / "runs"), "--data", str(tmp_path / "none"), *QUICK]) == 1
    assert "not made: mnist-20-1-float" in capsys.readouterr().err
    assert (tmp_path / "runs" / f"digits-{SUFFIX}-s0" / "result.json").exists()


def test_a_folder_of_other_settings_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "digits-s0"
    run.mkdir()
    (run / "run.json").write_text('{"recipe": "digits"}')
    (run / "recipe.toml").write_text(recipes.load("digits").replace(["lr=0.01"]).to_toml())
    one = Experiment("one", "One", (Row("digits", 1.0),))
    assert main(one, HOME, ["--out", str(tmp_path), "--also"]) == 1
    assert "holds a run of other settings" in capsys.readouterr().err and len(list(run.iterdir())) == 2
