"""The tables of docs/export-firmware.md are what the stored results give."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "export-firmware.md"

pytestmark = pytest.mark.skipif(
    not (ROOT / "results" / "firmware").is_dir(), reason="results are in the repository, not in the sdist"
)


def test_every_table_is_what_its_results_give() -> None:
    tool = runpy.run_path(str(ROOT / "benchmarks" / "firmware" / "tables.py"))
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"<!-- firmware: {name} -->" in text for name in tool["TABLES"])
    assert tool["rewritten"](text) == text, "run python benchmarks/firmware/tables.py"
