"""The C library as a CMake package: configured, built, installed, and used by the C++ example from where it was installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.target("cmake package")

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
MODEL = GOLDEN / "digits.onebit"


def run(*command: str | Path, cwd: Path) -> str:
    """What the command printed; its whole output is in the failure if it fails."""
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}"
    return done.stdout


def cmake(source: Path, build: Path, *options: str) -> None:
    run("cmake", "-S", source, "-B", build, *options, cwd=build.parent)
    run("cmake", "--build", build, "--parallel", "2", cwd=build.parent)


@pytest.fixture(scope="module", params=["static", "shared"])
def classify(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's program, linked with the installed library; neither knows the source tree of the other."""
    if not shutil.which("cmake"):
        pytest.skip("needs cmake")
    if not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("needs a C++ compiler")
    home = tmp_path_factory.mktemp(request.param)
    shared = "ON" if request.param == "shared" else "OFF"
    cmake(ROOT / "core", home / "core", f"-DBUILD_SHARED_LIBS={shared}")
    run("cmake", "--install", home / "core", "--prefix", home / "first", cwd=home)
    (home / "first").rename(home / "moved")  # the package finds itself wherever it lies
    shutil.rmtree(home / "core")
    shutil.copytree(ROOT / "examples" / "cpp", home / "cpp")
    cmake(home / "cpp", home / "classify", f"-DCMAKE_PREFIX_PATH={home / 'moved'}")
    return home / "classify" / "classify"


def test_the_example_gives_the_recorded_logits(classify: Path, tmp_path: Path) -> None:
    pixels = np.load(GOLDEN / "digits-made-64.npy")[:3, :, :, 0]
    recorded = np.load(GOLDEN / "digits-logits.npy")[360:363]
    for picture, logits in zip(pixels, recorded, strict=True):
        (tmp_path / "raw").write_bytes(picture.tobytes())
        (tmp_path / "picture.pgm").write_bytes(b"P5\n# a comment\n8 8\n255\n" + picture.tobytes())
        outputs = {run(classify, MODEL, tmp_path / name, cwd=tmp_path) for name in ("raw", "picture.pgm")}
        (output,) = outputs
        assert [int(line.split()[3]) for line in output.splitlines()] == logits.tolist()


def test_mistakes_get_one_line(classify: Path, tmp_path: Path) -> None:
    (tmp_path / "wide.pgm").write_bytes(b"P5 9 8 255\n" + bytes(72))
    (tmp_path / "short").write_bytes(bytes(63))
    (tmp_path / "bad.onebit").write_bytes(MODEL.read_bytes()[:-1])
    for model, picture, message in (
        (MODEL, "wide.pgm", "not a picture of 8x8 with 1 channels"),
        (MODEL, "short", "has 63 bytes of pixels, the model takes 64"),
        (MODEL, "gone", "cannot be read"),
        (tmp_path / "bad.onebit", "short", "bad.onebit: "),
    ):
        done = subprocess.run([classify, model, tmp_path / picture], capture_output=True, text=True)
        assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_only_the_interface_is_exported(classify: Path, tmp_path: Path) -> None:
    (library,) = [
        p for p in (classify.parents[1] / "moved").rglob("libonebit.*") if p.suffix in (".a", ".so", ".dylib")
    ]
    shared = library.suffix != ".a"
    symbols = run("nm", "-D" if shared else "-g", "--defined-only", library, cwd=tmp_path)
    names = {line.split()[-1] for line in symbols.splitlines() if len(line.split()) == 3}
    header = (ROOT / "core" / "include" / "onebit.h").read_text(encoding="utf-8")
    interface = set(re.findall(r"^OB_API [\w *]*?\b(ob_\w+)\(", header, re.M))
    # A static library shows its insides too, under names that are ours.
    assert names == interface if shared else names > interface and all(name.startswith("ob_") for name in names)
