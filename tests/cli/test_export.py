"""export, and verify of what it made, as a person types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from onebit.export.targets import TARGETS
from onebit.packed import file
from support.command import call
from support.models import left_or_right

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "tests" / "golden" / "digits.onebit"

Capture = pytest.CaptureFixture[str]
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.mark.parametrize("arguments", [("export", "--list"), ("export",)])
def test_it_says_what_each_target_is_for(arguments: tuple[str, ...], capsys: Capture) -> None:
    code, said, _ = call(capsys, *arguments)
    assert code == 0 and all(target.name in said and target.use[:30] in said for target in TARGETS.values())


def test_every_target_has_a_command_a_module_and_a_page(capsys: Capture) -> None:
    for name, target in TARGETS.items():
        code, said, _ = call(capsys, "export", name, "--help")
        assert code == 0 and "MODEL" in said
        assert (ROOT / target.page).is_file(), target.page


def test_a_target_that_is_none(capsys: Capture) -> None:
    code, _, err = call(capsys, "export", "onxn", DIGITS, "-o", "x")
    assert code == 2 and "no target 'onxn': did you mean 'onnx'?" in err


@needs_cc
def test_firmware_is_made_and_verified(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "fw"
    code, said, _ = call(capsys, "export", "firmware", DIGITS, "-o", out, "--name", "digits", "--low-memory")
    assert code == 0 and "flash" in said and f"onebit verify {DIGITS} {out}" in said and (out / "digits.c").is_file()
    code, said, _ = call(capsys, "verify", DIGITS, out)
    assert code == 0 and "all 360 x 10 logits are equal, to the last bit" in said and said.endswith("verified\n")
    facts = json.loads(call(capsys, "verify", out, DIGITS, "--images", 7, "--json")[1])
    assert facts["equal"] and facts["exact"] and facts["images"] == 7
    # one constant of the C that differs
    text = (out / "digits.c").read_text()
    start = text.index("logits[20] = {\n") + len("logits[20] = {\n")
    end = text.index(",", start)
    (out / "digits.c").write_text(text[:start] + str(int(text[start:end]) + 1) + text[end:])
    code, said, _ = call(capsys, "verify", DIGITS, out)
    assert code == 1 and "NOT verified: both compute with integers" in said


@needs_cc
def test_an_export_beside_another(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("onnxruntime")
    assert call(capsys, "export", "onnx", DIGITS, "-o", tmp_path / "m.onnx")[0] == 0
    assert call(capsys, "export", "firmware", DIGITS, "-o", tmp_path / "fw")[0] == 0
    code, said, _ = call(capsys, "verify", tmp_path / "fw", tmp_path / "m.onnx", "--images", 50)
    assert code == 0 and "ONNX Runtime" in said and "compiled for this machine" in said


def test_pictures_of_a_self_test(tmp_path: Path, capsys: Capture) -> None:
    from PIL import Image

    picture = tmp_path / "left.png"
    Image.fromarray(np.tile(np.array([255] * 4 + [0] * 4, np.uint8), (8, 1))).save(picture)
    file.save(tmp_path / "sides.onebit", left_or_right())
    out = tmp_path / "fw"
    code, _, _ = call(capsys, "export", "firmware", tmp_path / "sides.onebit", "-o", out, "--picture", picture)
    assert code == 0 and "255,255,255,255,0,0,0,0" in (out / "selftest_data.h").read_text()
    code, _, err = call(capsys, "export", "firmware", tmp_path / "gone.onebit", "-o", out)
    assert code == 2 and "gone.onebit: cannot be read" in err


def test_what_a_microcontroller_needs(capsys: Capture) -> None:
    code, said, _ = call(capsys, "inspect", DIGITS, "--firmware")
    assert code == 0 and "cortex-m0plus" in said and "low memory" in said
    rows = json.loads(call(capsys, "inspect", DIGITS, "--firmware", "--json")[1])["firmware"]
    assert len(rows) == 12 and all(row["flash"] == row["constants"] + row["code"] for row in rows)
