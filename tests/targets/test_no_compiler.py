"""On a machine without a C compiler the package installs all the same, says that it is slow, and gives the same numbers."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.target("no compiler")

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
MODEL = GOLDEN / "digits.onebit"

ANSWERS = """
import sys, warnings
import numpy as np
import onebit
warnings.simplefilter("ignore", onebit.OnebitWarning)
folder = sys.argv[1]
model = onebit.load(f"{folder}/digits.onebit")
assert model.engine is None
assert np.array_equal(model.integers(np.load(f"{folder}/digits-made-64.npy")), np.load(f"{folder}/digits-logits.npy")[360:])
"""


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The finished command; its whole output is in the failure if it fails."""
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, env=env)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment with onebit, installed where PATH is empty and CC names nothing.

    CMake and Ninja are then fetched as wheels. CMake looks into the folders of the system whatever PATH is, so that only
    CC keeps it from the compiler there.
    """
    home = tmp_path_factory.mktemp("bare")
    run(sys.executable, "-m", "build", "--sdist", "--outdir", home, ROOT, cwd=home)
    (sdist,) = home.glob("*.tar.gz")
    venv.create(home / "venv", with_pip=True)
    found = home / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ONEBIT_", "CMAKE"))}
    env |= {"PATH": str(home / "nothing"), "CC": "no-such-compiler"}
    run(found / "python", "-m", "pip", "install", "-q", sdist, cwd=home, env=env)
    return found


def test_there_is_no_library(programs: Path, tmp_path: Path) -> None:
    listed = run(programs / "python", "-m", "pip", "show", "-f", "onebit", cwd=tmp_path).stdout
    assert "onebit/engine/library.py" in listed and "libonebit" not in listed


def test_the_numbers_are_the_same(programs: Path, tmp_path: Path) -> None:
    run(programs / "python", "-I", "-c", ANSWERS, GOLDEN, cwd=tmp_path)


def test_predict_works_and_says_that_it_is_slow(programs: Path, tmp_path: Path) -> None:
    for i, picture in enumerate(np.load(GOLDEN / "digits-made-64.npy")[:2, :, :, 0]):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    done = run(programs / "onebit", "predict", MODEL, tmp_path, "--top", "1", cwd=tmp_path)
    logits = np.load(GOLDEN / "digits-logits.npy")[360:362]
    for i, row in enumerate(logits):
        assert f"{i}.png: {row.argmax()} " in done.stdout
    assert done.stderr.count("note: packed models run in NumPy") == 1
    assert "100 times slower" in done.stderr and "install a C compiler" in done.stderr
