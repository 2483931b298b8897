"""The tables in docs/engine.md are what results/engine/ gives, and the ratios are those of neighbouring slices."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
MEASURED = sorted(p for p in (ROOT / "results" / "engine").glob("*.json") if p.stem != "instructions")

pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="benchmarks are in the repository, not in the sdist")


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts import each other from their own folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in ("summary", "tables_engine", "instructions"):
        sys.modules.pop(name, None)


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def contender(engine: str, wall: list[float], **more: Any) -> dict[str, Any]:
    row = {"engine": engine, "model": "20-4", "isa": None, "threads": 1, "batch": 1, "disturbed": 0}
    times = {"wall_ms": wall, "cpu_ms": wall, "median_ms": sorted(wall)[len(wall) // 2], "best_ms": min(wall)}
    return row | times | more


def measured() -> dict[str, Any]:
    """As engine.py writes it, of a CPU without AMX; the third round was slow for both."""
    best = [contender("onebit", [1.0, 1.0, 8.0]), contender("openvino-int8", [2.0, 3.0, 20.0])]
    failed = {"engine": "ort", "model": "20-4", "isa": None, "threads": 1, "batch": 1, "failed": "no such package"}
    table = {"shows": "", "date": "2026-01-01", "commit": "1", "rounds": 3, "seconds": 0.3}
    names = ("20-4 avx512vnni", "20-4 avx2")
    return {
        "cpu": {"name": "A CPU", "cpus": 2}, "cost": {},
        "models": {"20-4": {"weights": "random", "bytes": {}, "versions": {"torch": "2"}}},
        "tables": {name: table | {"contenders": [*best, failed]} for name in names},
    }  # fmt: skip


def test_a_ratio_is_the_median_of_those_of_a_round() -> None:
    summary = script("summary")
    ours, peer = measured()["tables"]["20-4 avx2"]["contenders"][:2]
    assert summary.ratio(peer, ours) == 2.5  # of 2, 3 and 2.5; the quotient of the medians is 3
    assert summary.ratio(ours, ours) == 1


def test_disturbed_slices_are_counted_and_kept() -> None:
    def answer(burst: float, cpu: float) -> dict[str, Any]:
        call = {"wall": 0.01, "cpu": 0.01, "best": 0.008, "calls": 3}
        return call | {"bursts": [0.001, burst], "total_wall": 1.0, "total_cpu": cpu}

    row = script("summary").batch_times([answer(0.001, 1.0), answer(0.002, 1.0), answer(0.001, 0.5)], batch=2)
    assert row["disturbed"] == 2 and len(row["wall_ms"]) == 3
    assert row["median_ms"] == 5 and row["best_ms"] == 4 and row["calls"] == 9


def test_the_reach_table_says_what_was_not_measured() -> None:
    lines = script("tables_engine").reach(measured())
    assert "| AVX2, 20-4 | 1.00 | OpenVINO int8 | 3.00 | **2.50** | 2.50 | 2.00 | 0 of 6 |" in lines
    assert any(line.startswith("| AMX | not measured here") for line in lines)
    assert any(line.startswith("| SSE2, 20-4 | not measured here") for line in lines)
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize("what", ["reach", "peers", "cost", "machine"])
@pytest.mark.parametrize("file", MEASURED, ids=lambda file: file.stem)
def test_every_kind_of_table_can_be_made(file: Path, what: str) -> None:
    tables = script("tables_engine")
    lines = tables.WHAT[what](json.loads(file.read_text(encoding="utf-8")))
    assert lines and not any("nan" in line for line in lines)


@pytest.mark.parametrize("file", MEASURED, ids=lambda file: file.stem)
def test_a_measurement_is_the_engines_and_holds_no_path(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert not re.search(r'"/|\s/\w+/|site-packages', text), "a path of one machine"
    data = json.loads(text)
    for name, table in data["tables"].items():
        assert table["rounds"] >= 9, name
        ours = [r for r in table["contenders"] if "failed" not in r and r["engine"] == "onebit"]
        assert ours, f"{name}: ours is missing"
        for row in table["contenders"]:
            assert "failed" in row or len(row["wall_ms"]) == table["rounds"], name


@pytest.mark.parametrize("file", MEASURED, ids=lambda file: file.stem)
def test_limited_peers_used_the_kernels_that_the_limit_allows(file: Path) -> None:
    data = json.loads(file.read_text(encoding="utf-8"))
    for table in data["tables"].values():
        for row in table["contenders"]:
            if row["engine"].startswith("openvino") and row["isa"] == "avx2" and "failed" not in row:
                kernels = [k for k in row["kernels"] if k.startswith("Convolution")]
                assert kernels and all("avx2" in k for k in kernels), kernels


@pytest.mark.parametrize("page", ["docs/engine.md", "README.md"])
def test_every_table_of_the_page_is_what_its_json_gives(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "<!-- engine: " in text
    assert script("tables_engine").rewritten(text) == text, "run benchmarks/tables_engine.py"


def test_growth_of_instruction_counts_is_told() -> None:
    grown = script("instructions").grown
    assert grown({"avx2": 1010, "new": 5}, {"avx2": 1000}) == []
    assert grown({"avx2": 1020}, {"avx2": 1000}) == ["avx2: 1,020 instructions a picture, 2.0 % more than 1,000"]
