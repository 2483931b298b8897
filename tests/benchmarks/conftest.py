"""The scripts of benchmarks/, which import each other from their own folder."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark_script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A script by its name."""
    if not BENCHMARKS.is_dir():
        pytest.skip("benchmarks are in the repository, not in the sdist")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module
