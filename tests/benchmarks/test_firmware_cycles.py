"""The model of a Cortex-M4's cycles, on a listing whose cycles are counted by hand."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LISTING = """
00000100 <kernel>:
     100:\tpush\t{r4, r5, r6, r7, lr}
     102:\tldr.w\tr4, [r0, #4]
     106:\tldrh\tr5, [r1, #0]
     108:\tldrd\tr2, r3, [r4, #128]\t; 0x80
     10c:\tbic.w\tr5, r5, r2
     110:\tstr\tr5, [r0, #0]
     112:\tldmia.w\tr0!, {r1, r2, r8, r9, sl}
     116:\tsmlad\tr1, r2, r3, r1
     11a:\tblt.n\t102 <kernel+0x2>
     11c:\tudiv\tr0, r1, r2
     120:\tpop\t{r4-r7, pc}

00000122 <test>:
     122:\tldr\tr0, [pc, #4]\t; (128 <test+0x6>)
     128:\t.word\t0x20000000
"""
BY_HAND = {
    0x100: 6, 0x102: 2, 0x106: 1, 0x108: 3, 0x10C: 1, 0x110: 1, 0x112: 6, 0x116: 1, 0x11A: 2, 0x11C: 12, 0x120: 8,
}  # fmt: skip

pytestmark = pytest.mark.skipif(
    not (ROOT / "results" / "firmware").is_dir(), reason="results are in the repository, not in the sdist"
)


def test_cycles_are_those_counted_by_hand() -> None:
    costs = runpy.run_path(str(ROOT / "benchmarks" / "firmware" / "cycles.py"))["costs"]
    assert costs(LISTING.splitlines(), ["test"]) == BY_HAND
    assert costs(LISTING.splitlines()) == BY_HAND | {0x122: 2}
