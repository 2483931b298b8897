"""The C core's loader on hostile files, watched for every step beyond its memory and everything C leaves undefined."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings

from onebit.errors import OnebitError
from onebit.packed import file
from support import ccore, hostile
from support.programs import programs

pytestmark = pytest.mark.target("sanitizers")

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
WATCHED = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cc = ccore.compiler()
    if not cc or not ccore.accepts(cc, *WATCHED):
        pytest.skip("needs a C compiler with the sanitizers address and undefined")
    program = tmp_path_factory.mktemp("check") / "check"
    return ccore.build([ccore.CORE / "tests" / "check.c", *ccore.LOADER], WATCHED, program, shared=False)


def test_hostile_files(check: Path, tmp_path: Path) -> None:
    verdicts: dict[bytes, bool] = {}

    def see(content: bytes, decode: hostile.Decode) -> file.Packed:
        verdicts[content] = False
        packed = decode(content)
        verdicts[content] = True
        return packed

    hostile.visit(see)
    for content in [path.read_bytes() for path in GOLDEN.glob("*.onebit")]:
        verdicts |= {content: True, content[:-1]: False, content[: len(content) // 2]: False, content[:900]: False}
    agree(check, verdicts, tmp_path)


def test_programs(check: Path, tmp_path: Path) -> None:
    verdicts: dict[bytes, bool] = {}

    @settings(max_examples=100, database=None)
    @given(programs())
    def collect(program: file.Program) -> None:
        content = file.encode(program, [str(k) for k in range(program.classes)])
        for changed in (content, content[:-1] + bytes([content[-1] ^ 1]), content[: len(content) * 2 // 3]):
            try:
                file.decode(changed)
                verdicts[changed] = True
            except OnebitError:
                verdicts[changed] = False

    collect()
    agree(check, verdicts, tmp_path)


def agree(check: Path, verdicts: dict[bytes, bool], folder: Path) -> None:
    """The watched loader takes the files that it must take, and no other; a finding of a sanitizer ends it with an error."""
    assert len(set(verdicts.values())) == 2
    contents = list(verdicts)
    for i, content in enumerate(contents):
        (folder / str(i)).write_bytes(content)
    for begin in range(0, len(contents), 500):
        numbers = range(begin, min(begin + 500, len(contents)))
        lines = ccore.run(check, *(folder / str(i) for i in numbers)).splitlines()
        assert [line.split()[-2] == "OB_OK" for line in lines] == [verdicts[contents[i]] for i in numbers]
