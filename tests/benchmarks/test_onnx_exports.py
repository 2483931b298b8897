"""The tables in docs/export-onnx.md are what results/onnx/ gives, and hold what is claimed of them."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
MEASURED = ROOT / "results" / "onnx" / "zen5.json"

pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="benchmarks are in the repository, not in the sdist")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("onnx_exports")
    sys.modules.pop("onnx_exports", None)


@pytest.fixture
def measured() -> dict[str, Any]:
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def test_the_page_has_every_row(script: ModuleType, measured: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "export-onnx.md").read_text(encoding="utf-8").splitlines()
    assert [row for row in script.tables(measured) if row and row not in page] == []


def test_packed_weights_are_as_fast_as_plain_ones(script: ModuleType, measured: dict[str, Any]) -> None:
    """What the page claims: in either engine, within 5 %; and the 20-10's file is at most 3 % over the packed one."""
    for network in measured["networks"].values():
        for times in network["time_ms"].values():
            for engine in ("ONNX Runtime", "OpenVINO f32"):
                assert 0.95 < script.ratio(times, f"{engine}, float", f"{engine}, plain") < 1.05
        assert min(row["same"] for key, row in network["answers"].items() if key != "images") >= 99
    assert measured["networks"]["20-10"]["bytes"]["float"] <= 1.03 * measured["networks"]["20-10"]["bytes"]["packed"]


def test_the_plain_file_computes_the_same(script: ModuleType, tmp_path: Path) -> None:
    _, paths = script.exported("20-1", tmp_path)
    pixels = importlib.import_module("numpy").load(script.GOLDEN / "cifar10-test-64.npy")[:4]
    answers = [script.onnx_runtime(paths[kind])(pixels) for kind in ("float", "plain")]
    assert abs(answers[0] - answers[1]).max() <= 1e-5
    assert paths["plain"].stat().st_size > 16 * paths["float"].stat().st_size
