"""What the package promises before anything is trained."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest

import onebit

ROOT = Path(__file__).resolve().parents[1]

NO_TORCH = [
    "onebit",
    "onebit.cli",
    "onebit.errors",
    "onebit.files",
    "onebit.recipe",
    "onebit.data.dataset",
    "onebit.data.readers",
    "onebit.data.catalog",
    "onebit.data.fetch",
    "onebit.data.folder",
    "onebit.data.pictures",
    "onebit.packed.program",
    "onebit.packed.reference",
    "onebit.packed.file",
    "onebit.engine.engine",
    "onebit.machine",
    "onebit.model",
    "onebit.patches",
    "onebit.packed.calibration",
    "onebit.graph.nodes",
    "onebit.packed.lower",
    "onebit.examine.inspect",
    "onebit.examine.predict",
    "onebit.examine.record",
    "onebit.verify",
    "onebit.zoo",
    "onebit.report.tables",
]


def test_version_is_the_same_everywhere() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z.]+\d+)?", onebit.__version__)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (\S+)$", citation, re.M)[1] == onebit.__version__
    assert f"## {onebit.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    try:
        installed = metadata.version("onebit")
    except metadata.PackageNotFoundError:
        pytest.skip("onebit is not installed, only on the path")
    assert installed == onebit.__version__


@pytest.mark.parametrize("module", NO_TORCH)
def test_importing_it_does_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'scipy', 'matplotlib'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_it_is_typed() -> None:
    assert resources.files("onebit").joinpath("py.typed").is_file()


def test_the_base_install_asks_for_no_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not any(re.match(r"(torch|scipy|matplotlib|onnx)\b", need) for need in project["dependencies"])
    assert any(need.startswith("torch") for need in project["optional-dependencies"]["train"])
