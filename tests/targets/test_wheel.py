"""The sdist and the wheel: built, installed without extras in a clean environment, and used there."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
USE = """
import sys, onebit
from onebit.data.catalog import load
digits = load("digits")
assert len(digits.train) == 1437 and len(digits.test) == 360
assert "torch" not in sys.modules
print(onebit.__version__)
"""


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.target("wheel")
def test_wheel_built_from_the_sdist_works_without_torch(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("onebit-*.whl")
    assert list(tmp_path.glob("onebit-*.tar.gz"))
    venv.create(tmp_path / "env", with_pip=True)
    binaries = tmp_path / "env" / "bin"
    run(binaries / "pip", "install", "-q", wheel, cwd=tmp_path)
    version = run(binaries / "python", "-c", USE, cwd=tmp_path).strip()
    assert version in run(binaries / "onebit", "--version", cwd=tmp_path)
    assert "train" in run(binaries / "onebit", "--help", cwd=tmp_path)
    assert "digits" in run(binaries / "onebit", "recipes", cwd=tmp_path)
    refused = subprocess.run(
        [binaries / "onebit", "train", "digits", "--out", "run"], cwd=tmp_path, capture_output=True, text=True
    )
    assert refused.returncode == 2 and "onebit[train]" in refused.stderr
