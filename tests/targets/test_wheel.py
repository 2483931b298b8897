"""The sdist and the wheel, installed without extras in an environment that has nothing else, do their base job."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.target("wheel")

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = {"darwin": "libonebit.dylib", "win32": "libonebit.dll"}.get(sys.platform, "libonebit.so")
SHIPPED = ["py.typed", "_version.py", "data/digits.npz", f"engine/{LIBRARY}"]

LOADS_DIGITS = """
import sys
import onebit
assert onebit.__version__
assert "torch" not in sys.modules
from onebit.data import catalog
digits = catalog.load("digits")
assert (len(digits.train), len(digits.test)) == (1437, 360), (len(digits.train), len(digits.test))
assert len(digits.classes) == 10 and digits.test.images.max() > 0
assert "torch" not in sys.modules
print(onebit.__version__)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """What the command printed; its whole output is in the failure if it fails."""
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel built from it."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, ROOT, cwd=out)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module", params=["sdist", "wheel"])
def environment(
    request: pytest.FixtureRequest, archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of the programs of a clean environment in which the sdist, or the wheel, is installed."""
    home = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(home, with_pip=True)
    programs = home / ("Scripts" if sys.platform == "win32" else "bin")
    run(programs / "python", "-m", "pip", "install", "-q", archives[request.param == "wheel"], cwd=home)
    return programs


def test_the_wheel_holds_every_file_of_the_package(archives: tuple[Path, Path]) -> None:
    tracked = run("git", "ls-files", "src/onebit", cwd=ROOT) if (ROOT / ".git").exists() else ""
    expected = {line.removeprefix("src/") for line in tracked.splitlines()} | {f"onebit/{name}" for name in SHIPPED}
    assert expected <= set(zipfile.ZipFile(archives[1]).namelist())


def test_one_wheel_is_for_every_python(archives: tuple[Path, Path]) -> None:
    assert archives[1].name.split("-")[2:4] == ["py3", "none"] and not archives[1].name.endswith("-any.whl")


def test_the_sdist_can_be_tested(archives: tuple[Path, Path]) -> None:
    with tarfile.open(archives[0]) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "constraints.txt", "tests/conftest.py"} <= names
    assert {"tools/make_recipes.py", "docs/training.md", "core/CMakeLists.txt", "core/include/onebit.h"} <= names
    assert {"examples/cpp/classify.cpp", "core/cmake/onebit-config.cmake.in"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_the_base_install_works_without_torch(environment: Path, tmp_path: Path) -> None:
    packages = run(environment / "python", "-m", "pip", "list", "--format=freeze", cwd=tmp_path).lower()
    assert "torch==" not in packages and "scipy==" not in packages
    version = run(environment / "python", "-I", "-c", LOADS_DIGITS, cwd=tmp_path).strip()
    assert version in run(environment / "onebit", "--version", cwd=tmp_path)
    assert "train" in run(environment / "onebit", "--help", cwd=tmp_path)
    assert "digits" in run(environment / "onebit", "recipes", cwd=tmp_path)


def test_training_without_torch_names_the_extra(environment: Path, tmp_path: Path) -> None:
    command = [environment / "onebit", "train", "digits", "--out", "run"]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2 and "onebit[train]" in refused.stderr


ANSWERS = """
import sys
import numpy as np
import onebit
from onebit.data import catalog
folder = sys.argv[1]
model = onebit.load(f"{folder}/digits.onebit")
images = catalog.load("digits").test.images
assert np.array_equal(model.integers(images, "NCHW"), np.load(f"{folder}/digits-logits.npy")[:360])
assert model.engine is not None and "torch" not in sys.modules
"""


def test_packed_models_answer_without_torch(environment: Path, tmp_path: Path) -> None:
    """The recorded logits, in an environment that has NumPy and Pillow only."""
    golden = ROOT / "tests" / "golden"
    model = golden / "digits.onebit"
    run(environment / "python", "-I", "-c", ANSWERS, golden, cwd=tmp_path)
    assert "268,048 one-bit weights" in run(environment / "onebit", "inspect", model, cwd=tmp_path)
    assert "test error 1.94 % (7 of 360)" in run(environment / "onebit", "evaluate", model, cwd=tmp_path)
    picture = tmp_path / "grey.png"
    make = f"from PIL import Image; Image.new('L', (40, 30), 9).save({str(picture)!r})"
    run(environment / "python", "-c", make, cwd=tmp_path)
    assert "%" in run(environment / "onebit", "predict", model, picture, "--top", "3", cwd=tmp_path)
    run(environment / "onebit", "trace", model, picture, "-o", "steps", cwd=tmp_path)
    assert (tmp_path / "steps" / "trace.json").exists()
