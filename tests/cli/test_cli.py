"""The commands as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from onebit import recipe
from onebit.cli import COMMANDS
from support.command import call


def test_help_lists_every_command_without_importing_torch() -> None:
    code = "import sys, onebit.cli\ntry: onebit.cli.main(['--help'])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "'train'"),
        (["train", "digts", "--out", "x"], "'digits'"),
        (["train", "digits", "--out", "x", "--set", "widht=2"], "'width'"),
        (["train", "mnist-20-1-1bit", "--out", "x", "--data", "no/such/place"], "no/such/place"),
        (["evaluate", "no-such-run"], "no-such-run"),
        (["evaluate", "no-such-file.onebit"], "no-such-file.onebit"),
        (["pack", "no-such-run"], "no-such-run"),
        (
            ["verify", "no-such-run", "no-such-file"],
            "no-such-run: there is no such file or run folder, and no model by that name",
        ),
        (["import", "no-such-file.mat", "-o", "x"], "no-such-file.mat"),
        (["resume", "no-such-run"], "no-such-run"),
        (["report", "no-such-run"], "no-such-run"),
        (["data", "show", "cifar11", "--root", "."], "'cifar10'"),
        (["data", "fetch", "imagenet", "--root", "."], "login"),
    ],
)
def test_mistakes_get_one_clear_line(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, *arguments)
    assert code == 2 and words in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_train_evaluate_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    small = ["--set", "width=0.25", "--set", "depth=8", "--set", "epochs=1"]
    code, out, _ = call(capsys, "train", "digits", "--out", run, "--json", *small)
    result = json.loads(out)
    assert code == 0 and result["weights"] == "1bit" and (run / "curves.png").exists()
    code, out, _ = call(capsys, "evaluate", run, "--json")
    assert code == 0 and json.loads(out)["error"] == result["error"]
    assert Image.open(run / "confusion.png").size[0] > 100
    code, out, _ = call(capsys, "report", run, "-o", tmp_path / "r.png")
    assert code == 0 and "8-0.25 1-bit" in out and f"{result['error']:.2f}" in out


def test_recipes_lists_and_shows(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "recipes")
    assert code == 0 and all(name in out for name in recipe.names())
    code, out, _ = call(capsys, "recipes", "digits")
    assert code == 0 and recipe.parse(out, "digits") == recipe.load("digits")
    code, out, _ = call(capsys, "recipes", "svhn")  # no recipe's name, but a part of two
    assert code == 0 and "svhn-20-4-float" in out and "mnist" not in out and "1.75 %" in out
    code, out, _ = call(capsys, "recipes", "--json", "mnist-20-4-1bit")
    assert json.loads(out)["published"]["error"] == 0.27 and json.loads(out)["network"]["width"] == 4
    code, _, err = call(capsys, "recipes", "minst-20-4-1bit")
    assert code == 2 and "'mnist-20-4-1bit'" in err


def test_a_recipe_file_of_ones_own_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text('base = "digits"\n[network]\nwidth = 0.25\ndepth = 8\n[training]\nepochs = 1\n')
    code, out, _ = call(capsys, "train", tmp_path / "mine.toml", "--out", tmp_path / "run", "--seed", 3, "--json")
    assert code == 0 and json.loads(out)["recipe"] == "mine" and json.loads(out)["seed"] == 3
    code, out, _ = call(capsys, "resume", tmp_path / "run", "--json")  # finished: tested once more, not trained
    assert code == 0 and json.loads(out)["recipe"] == "mine"
    code, out, _ = call(capsys, "report", tmp_path / "run", "-o", tmp_path / "r.png", "--json")
    row = json.loads(out)["rows"][0]
    assert (row["recipe"], row["seeds"], row["published"]) == ("mine", [3], None)


def test_the_demo_compares_and_deletes_nothing_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # again into the same folder
        code, out, _ = call(capsys, "demo", "--out", tmp_path / "demo", "--epochs", 1)
        assert code == 0 and "20-1 1-bit" in out and "20-1 float" in out
        packed = tmp_path / "demo" / "digits" / "model.onebit"
        size = packed.stat().st_size
        assert size < 41_000 and f"in {size:,} bytes" in out and f"{size / 1000:.1f} kB" in out
        assert "\nverified: in integers" in out
        assert Image.open(tmp_path / "demo" / "curves.png").size[0] > 100
        assert Image.open(tmp_path / "demo" / "predictions.png").size[0] > 100
    precious = tmp_path / "mine" / "digits" / "precious.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("x")
    call(capsys, "demo", "--out", tmp_path / "mine", "--epochs", 1)
    assert precious.read_text() == "x"
