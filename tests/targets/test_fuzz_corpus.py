"""Every file that fuzzing found worth keeping, again, under sanitizers: core/fuzz says what a target looks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import ccore

pytestmark = pytest.mark.target("fuzz corpus")

FUZZ = ccore.CORE / "fuzz"
WATCHED = ["-std=c11", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.mark.parametrize("target", ["load", "run"])
def test_the_corpus_runs_without_a_finding(target: str, tmp_path: Path) -> None:
    cc = ccore.compiler()
    if not cc or not ccore.accepts(cc, *WATCHED):
        pytest.skip("needs a C compiler with the sanitizers address and undefined")
    sources = ccore.LOADER if target == "load" else ccore.sources()
    own = [FUZZ / "replay.c", FUZZ / f"fuzz_{target}.c"]
    replay = ccore.build([*own, *sources], WATCHED, tmp_path / "replay", shared=False)
    corpus = sorted((FUZZ / "corpus" / target).iterdir())
    assert len(corpus) > 50
    assert ccore.run(replay, *corpus).endswith(f"{len(corpus)} files\n")
