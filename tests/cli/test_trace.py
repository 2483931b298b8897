"""``onebit trace``: folders, options, mistakes; `tests/packed/test_record.py` reads the numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onebit.packed.file import save
from support.command import call
from support.models import left_or_right, wide


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / "p.png")
    return tmp_path / "p.png"


def test_trace_writes_a_folder_and_says_the_class(
    tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "model.onebit", wide(1, Fraction(1, 4), size=8))
    out_folder = tmp_path / "out"
    code, out, err = call(capsys, "trace", tmp_path, picture, "-o", out_folder)
    index = json.loads((out_folder / "trace.json").read_text())
    assert (code, err) == (0, "") and f"class: {index['class']}" in out and "README.txt" in out
    assert index["model"] == str(tmp_path / "model.onebit") and index["picture"] == str(picture)
    assert len(index["operations"]) == 18 and (out_folder / "01-conv.weights.hex").is_file()
    readme = (out_folder / "README.txt").read_text()
    assert str(picture) in readme and f"class: {index['class']}" in readme and '$readmemh("00-table.hex"' in readme
    code, _, _ = call(capsys, "trace", tmp_path, picture, "-o", out_folder, "--op", 3)
    assert code == 0 and (out_folder / "03-conv.npy").is_file() and not (out_folder / "04-norm.npy").exists()


def test_paper_is_noticed_and_inverted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "m.onebit", left_or_right(about={"ground": "dark"}))
    Image.new("L", (8, 8), 255).save(tmp_path / "w.png")
    code, _, err = call(capsys, "trace", tmp_path / "m.onebit", tmp_path / "w.png", "-o", tmp_path / "t")
    assert code == 0 and "try --invert" in err
    code, _, err = call(capsys, "trace", tmp_path / "m.onebit", tmp_path / "w.png", "-o", tmp_path / "t", "--invert")
    assert (code, err) == (0, "") and np.load(tmp_path / "t" / "input.npy").max() == 0
    assert "(inverted)" in (tmp_path / "t" / "README.txt").read_text()


def test_mistakes_get_one_clear_line(tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "m.onebit", left_or_right())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").touch()
    before = sorted(tmp_path.iterdir())
    for model, image, out, op, words in (
        ("gone.onebit", "p.png", "t", 0, "gone.onebit"),
        ("m.onebit", "gone.png", "t", 0, "gone.png"),
        ("m.onebit", "p.png", "mine", 0, "not empty"),
        ("m.onebit", "p.png", "t", 2, "operation 2: the model has 0 to 1"),
    ):
        code, printed, err = call(capsys, "trace", tmp_path / model, tmp_path / image, "-o", tmp_path / out, "--op", op)
        assert (code, printed) == (2, "") and words in err and err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_an_install_without_torch_can_trace(tmp_path: Path, picture: Path) -> None:
    save(tmp_path / "m.onebit", left_or_right())
    code = "import sys; sys.modules['torch'] = None; from onebit.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "trace", "m.onebit", "p.png", "-o", "t"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
