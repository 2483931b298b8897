"""``onebit predict`` as printed, and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onebit.packed.file import save
from support.command import call
from support.models import left_or_right


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save(tmp_path / "run" / "model.onebit", left_or_right(about={"ground": "dark"}))
    return tmp_path / "run"


def picture(path: Path, *, paper: bool = False) -> Path:
    """A light stroke on the left of a dark ground, or a dark one on paper."""
    pixels = np.zeros((40, 60), np.uint8)
    pixels[8:32, 14:20] = 250
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(255 - pixels if paper else pixels).save(path)
    return path


def test_classes_with_bars(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = picture(tmp_path / "1.png"), picture(tmp_path / "f" / "2.jpg")
    code, out, err = call(capsys, "predict", model, one, tmp_path / "f")
    lines = out.splitlines()
    assert (code, err) == (0, "") and lines[0] == str(one) and lines[3] == str(two) and len(lines) == 6
    assert lines[1].split()[:1] == ["left"] and lines[2].split()[:1] == ["right"] and "█" in lines[1]
    shares = [float(line.split()[1]) for line in lines[1:3]]
    assert shares[0] > 60 and sum(shares) == pytest.approx(100, abs=0.2)
    code, out, _ = call(capsys, "predict", model, one, "--top", 1)
    assert code == 0 and out == f"{one}: left {shares[0]} %\n"


def test_damaged_files_leave_the_others(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = picture(tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes(b"damaged")
    code, out, err = call(capsys, "predict", model, tmp_path / "a.png", good, tmp_path / "gone.png")
    assert code == 2 and out.splitlines()[0] == str(good)
    first, second = err.splitlines()
    assert first.startswith(f"onebit: {tmp_path / 'a.png'}: not a readable picture") and "gone.png" in second
    code, out, _ = call(capsys, "predict", model, tmp_path / "a.png", good, "--json")
    found = json.loads(out)
    assert code == 2 and [p["file"] for p in found["predictions"]] == [str(good)]
    assert found["predictions"][0]["class"] == "left" and found["model"] == str(model / "model.onebit")
    assert [e["file"] for e in found["errors"]] == [str(tmp_path / "a.png")] and "readable" in found["errors"][0][
        "error"
    ]


def test_paper_is_noticed_and_inverted(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paper, night = picture(tmp_path / "paper.png", paper=True), picture(tmp_path / "night.png")
    code, _, err = call(capsys, "predict", model, paper, night)
    assert code == 0 and err.startswith(f"note: {paper}: the border is bright") and "--invert" in err
    code, out, err = call(capsys, "predict", model, paper, "--invert", "--json")
    inverted = json.loads(out)["predictions"][0]
    assert (code, err) == (0, "") and inverted["class"] == "left" and not inverted["bright_border"]
    code, _, err = call(capsys, "predict", model, night, "--invert")
    assert code == 0 and "leave --invert out" in err


def test_mistakes_get_one_clear_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = picture(tmp_path / "1.png")
    for wrong, words in ((tmp_path / "no.onebit", "no.onebit"), (tmp_path, "holds no model.onebit"), (one, "1.png")):
        code, out, err = call(capsys, "predict", wrong, one)
        assert (code, out) == (2, "") and words in err and err.count("\n") == 1


@pytest.mark.parametrize("command", ["predict", "inspect"])
def test_a_terminal_without_unicode_and_an_install_without_torch(tmp_path: Path, command: str) -> None:
    save(tmp_path / "m.onebit", left_or_right()._replace(classes=("猫", "狗")))
    image = [str(picture(tmp_path / "1.png"))] if command == "predict" else []
    code = "import sys; sys.modules['torch'] = None; from onebit.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, command, str(tmp_path / "m.onebit"), *image],
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and ("###" if image else "8x8x1 -> 1x1x2") in done.stdout, done.stderr
