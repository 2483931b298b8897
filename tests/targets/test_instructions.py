"""The number of instructions that a picture takes does not grow unnoticed: valgrind counts them."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.target("instruction counts")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def counter() -> ModuleType:
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("benchmarks are in the repository, not in the sdist")
    for tool in ("valgrind", "cmake", "cc"):
        if not shutil.which(tool):
            pytest.skip(f"needs {tool}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("instructions")


def test_a_picture_takes_no_more_instructions_than_stored(counter: ModuleType) -> None:
    """Counts of this compiler if there are any; whatever the compiler, a wider instruction set takes fewer."""
    program, compiler, flags = counter.build()
    found = {isa: counter.instructions(program, isa) for isa in counter.ISAS}
    assert found["avx2"] < found["sse2"] < found["words"] < found["scalar"], found
    before = json.loads(counter.STORED.read_text(encoding="utf-8")).get(compiler)
    if before and before["flags"] == flags:
        lines = counter.grown(found, before["instructions"])
        update = "if it must be so: python benchmarks/instructions.py --update, and say why in the commit"
        assert not lines, "\n".join([*lines, update])
