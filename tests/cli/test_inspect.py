"""``onebit inspect`` as printed."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from onebit.packed.file import save
from support.command import call
from support.models import left_or_right, wide


def test_table_fits_100_columns_for_a_wide_and_deep_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = save(tmp_path / "model.onebit", wide(4, 10))  # a 26-10: 56 operations, the widest of the paper's on 32x32
    code, out, err = call(capsys, "inspect", tmp_path / "model.onebit")
    lines = out.splitlines()
    assert (code, err) == (0, "") and max(map(len, lines[1:])) <= 100 and "…" not in out
    assert sum("conv" in line for line in lines) == 25  # a row a convolution, none on two lines
    assert "16x16x320 → 8x8x640" in out and "norm, ReLU, conv 3x3, add to 1 " in out
    assert f"{size:,} bytes" in out and "one-bit weights" in out
    for words in ("batch-norms: means, multipliers", "input table", "logits: gains, offsets", "header", "why"):
        assert words in out
    for words in ("noise", "90.00 %", "class 0, class 1", "temperature", "Memory"):
        assert words in out


def test_json_is_all_of_it_and_a_run_folder_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = save(tmp_path / "model.onebit", wide(1, Fraction(1, 4), size=8))
    code, out, _ = call(capsys, "inspect", tmp_path, "--json")
    found = json.loads(out)
    assert code == 0 and found["file"] == str(tmp_path / "model.onebit")
    assert found["file_bytes"] == size == sum(part["bytes"] for part in found["parts"])
    assert found["weights"] == sum(op["weights"] for op in found["operations"])
    assert found["about"]["error"] == "90.00" and found["peak"]["bytes"] > 0 and found["macs"] > 0


def test_names_and_cards_of_strangers_are_printed_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "a-recipe-" * 30
    packed = left_or_right(about={"note": "[bold]not markup[/]", "recipe": long, "[red]": "x"})
    save(tmp_path / "m.onebit", packed._replace(classes=("[link]", "猫")))
    code, out, _ = call(capsys, "inspect", tmp_path / "m.onebit")
    assert code == 0 and "[bold]not markup[/]" in out and "[link], 猫" in out and "[red]" in out
    assert long in "".join(out.split())


def test_damaged_and_missing_files_give_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.onebit").write_bytes(b"no model")
    for path in (tmp_path / "bad.onebit", tmp_path / "gone.onebit", tmp_path):
        code, out, err = call(capsys, "inspect", path)
        assert (code, out) == (2, "") and str(path) in err and err.count("\n") == 1
