"""The core as WebAssembly: what ships is what the sources make, and it computes every packed model as the reference does."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onebit.export import web
from support.ccore import CORE
from support.forms import EXTREMES, FORMS, MANY_TAPS, cases, corpus, extreme, forms, layered
from support.tiers import Case, golden

pytestmark = pytest.mark.target("wasm")

ROOT = CORE.parent
RUN = Path(__file__).parents[1] / "support" / "run_wasm.js"


def need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")


def make(*arguments: str) -> str:
    need("make", "wasm-opt")
    if not importlib.util.find_spec("ziglang"):
        pytest.skip("needs the compiler of pip install ziglang")
    command = ["make", "-s", "--no-print-directory", "-C", ROOT / "web", f"PYTHON={sys.executable}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The core, built anew from its sources."""
    out = tmp_path_factory.mktemp("wasm")
    make(f"OUT={out}")
    return out / "onebit.wasm"


@pytest.fixture(scope="module")
def everything() -> list[Case]:
    """Programs of every kind that the native kernels are tested with: random ones, all forms of layers, sums at their limits."""
    many = [extreme(c, k, sign, "i16 less", side, 3, padded=False) for c, k, side in MANY_TAPS for sign in "+0"]
    return [
        *(layered(form, seed) for seed, form in enumerate(corpus(forms(), 60))),
        *corpus(cases(), 200),
        *(layered(form) for form in FORMS),
        *(extreme(*one) for one in EXTREMES),
        *many,
        golden("digits", slice(0, 424, 20)),
        golden("cifar10-20-1", slice(0, 128)),
    ]


def run(core: Path, given: list[Case], folder: Path) -> list[str]:
    for number, one in enumerate(given):
        (folder / f"{number}.onebit").write_bytes(one.content)
        (folder / f"{number}.pixels").write_bytes(one.pictures.tobytes())
    done = subprocess.run(["node", RUN, core, folder], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def check(core: Path, given: list[Case], folder: Path) -> None:
    answers = run(core, given, folder)
    assert len(answers) == len(given)
    for one, line in zip(given, answers, strict=True):
        assert re.fullmatch(r"[-\d ]+", line), f"{one.name}: {line}"
        got = np.array(line.split(), np.int64)
        wrong = np.flatnonzero(got != one.logits.ravel())
        assert not len(wrong), f"{one.name}: {len(wrong)} of {len(got)} logits wrong, the first number {wrong[0]}"


def test_shipped_is_what_sources_make(built: Path) -> None:
    """Byte for byte with the compiler that made it; with another, of nearly its size."""
    if make("compiler") == web.WASM.with_name("onebit.wasm.compiler").read_text(encoding="utf-8"):
        assert built.read_bytes() == web.WASM.read_bytes(), "make -C web ship, and commit what it made"
    else:
        assert abs(built.stat().st_size - web.WASM.stat().st_size) < 0.15 * web.WASM.stat().st_size


def test_shipped_equals_reference(everything: list[Case], tmp_path: Path) -> None:
    need("node")
    check(web.WASM, everything, tmp_path)


def test_built_equals_reference(built: Path, everything: list[Case], tmp_path: Path) -> None:
    need("node")
    if built.read_bytes() != web.WASM.read_bytes():  # else it has just been tested
        check(built, everything, tmp_path)


def test_damage_is_refused(tmp_path: Path) -> None:
    """A damaged byte of a small model gives the name of a status, never a trap."""
    need("node")
    small = golden("digits", slice(0, 1))
    rng = np.random.default_rng(0)
    damaged = [Case("cut", small.content[: len(small.content) // 2], small.pictures, small.logits)]
    for at in rng.integers(0, len(small.content), 60):
        content = bytearray(small.content)
        content[at] ^= 1 << int(rng.integers(8))
        damaged.append(Case(f"byte {at}", bytes(content), small.pictures, small.logits))
    for one, line in zip(damaged, run(web.WASM, damaged, tmp_path), strict=True):
        assert line.startswith("OB_ERROR_"), f"{one.name}: {line}"
