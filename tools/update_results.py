"""Publish finished runs: copy what proves them into results/, and write the tables of docs/results.md and README.md anew.

    python tools/update_results.py RUN...      add run folders (RUN.log beside a folder is its log)
    python tools/update_results.py             only write the tables anew

A table stands between `<!-- results: NAME* ... -->` and `<!-- end -->`; the names are folders of results/. A test checks
that every table is what its folders give.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from onebit.report.tables import collect, result, to_markdown
from onebit.train.progress import clock

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
PAGES = [ROOT / "docs" / "results.md", ROOT / "README.md"]
BLOCK = re.compile(r"(<!-- results: (.+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def add(run: Path) -> None:
    """Copy the recipe, metrics, result and log of a run; run.json stays, since it names folders of one machine."""
    result(run)  # refuses an unfinished run
    target = RESULTS / run.name
    target.mkdir(parents=True, exist_ok=True)
    for name in ("recipe.toml", "metrics.jsonl", "result.json"):
        shutil.copyfile(run / name, target / name)
    log = run.with_name(run.name + ".log")
    if log.exists():
        shutil.copyfile(log, target / "log.txt")


def table(patterns: Iterable[str], up: str) -> str:
    """The report over the folders of results/ that fit, and one line on where they were run; `up` leads to results/."""
    runs = [run for pattern in patterns for run in sorted(RESULTS.glob(pattern))]
    if not runs:
        raise SystemExit(f"results/: nothing fits {' '.join(patterns)}")
    found = [result(run) for run in runs]
    machines = sorted(
        {
            f"{r['cpu']}, {r['threads']} thread{'s'[: r['threads'] - 1]}, {r['precision']}, torch {r['torch']}"
            for r in found
        }
    )
    seconds = sorted(r["seconds"] for r in found)
    folders = ", ".join(f"[{run.name}]({up}/{run.name})" for run in runs) if len(runs) <= 10 else f"[results/]({up})"
    return (
        f"{to_markdown(collect(runs))}\n\n"
        f"On {'; '.join(machines)}; training took {clock(seconds[0])} to {clock(seconds[-1])}. Logs: {folders}.\n"
    )


def rewritten(page: Path) -> str:
    """The page with every table as its folders give it."""
    up = "results" if page.parent == ROOT else "../results"
    return BLOCK.sub(lambda m: m[1] + table(m[2].split(), up) + m[4], page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        add(Path(argument))
    for page in PAGES:
        page.write_text(rewritten(page), encoding="utf-8")
