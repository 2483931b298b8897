"""The commands as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from onebit.cli import COMMANDS, main


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return int(done.value.code or 0), printed.out, printed.err


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
    assert code == 0 and "digits" in out
    code, out, _ = call(capsys, "recipes", "digits")
    assert code == 0 and "[training]" in out and "weight_decay = 0.0005" in out
