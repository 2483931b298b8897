"""Publish finished runs: copy what proves them into results/, and write the tables of docs/results.md and README.md anew.

    python tools/update_results.py RUN...      add run folders (RUN.log beside a folder is its log)
    python tools/update_results.py             only write the tables anew

A table stands between `<!-- results: NAME* ... -->` and `<!-- end -->`; the names are folders of results/. Likewise
`<!-- packed: NAME* ... -->` for files of results/packed/ (`measure_packed.py` writes them), and `<!-- paired: A B ... -->`
for the differences of runs A-s0, A-s1, ... to B-s0, B-s1, ..., and `<!-- models: NAME* ... -->` for models that come with
onebit (`publish_model.py` writes them), and `<!-- overview: RECIPE* ... -->` for recipes, in this order, with the published
runs of each that leave it as it is, or ended earlier. A test checks that every table is what its folders give.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from onebit import recipe as recipes
from onebit import zoo
from onebit.report.published import author_errors, published_error
from onebit.report.tables import collect, kilobytes, result, run_recipe, spread, to_markdown
from onebit.train.progress import clock
from onebit.train.schedule import same_path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
WEIGHTS = {"1bit": "1 bit", "float": "32 bits"}
PAGES = [ROOT / "docs" / "results.md", ROOT / "docs" / "models.md", ROOT / "README.md"]
BLOCK = re.compile(r"(<!-- (overview|results|packed|paired|models): (.+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


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


def packed_table(patterns: Iterable[str], up: str) -> str:
    """What packing did to each model."""
    files = [file for pattern in patterns for file in sorted((RESULTS / "packed").glob(f"{pattern}.json"))]
    if not files:
        raise SystemExit(f"results/packed/: nothing fits {' '.join(patterns)}")
    lines = [
        "| model | float32 error % | packed error % | may differ by | same class % | rms % | bytes | temperature | calibration error % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for file in files:
        r = json.loads(file.read_text(encoding="utf-8"))
        lines.append(
            f"| [{r['name']}]({up}/packed/{file.name}) | {r['float_error']:.2f} | {r['packed_error']:.2f} | {r['bound']:.2f} "
            f"| {r['agreement']:.2f} | {100 * r['rms']:.2f} | {r['bytes']:,} | {r['temperature']:.2f} "
            f"| {r['calibration_plain']:.1f} → {r['calibration']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def paired_table(names: Iterable[str], up: str) -> str:
    """Test errors of both, and their differences, seed by seed, with the mean and its standard error; names two by two."""
    pairs = list(names)
    lines = [
        "| runs | beside | seeds | test errors, mean % | difference, points | mean | standard error |",
        "|---|---|---|---|---|---|---|",
    ]
    for one, other in zip(pairs[::2], pairs[1::2], strict=True):
        seeds = sorted(int(run.name.rpartition("-s")[2]) for run in RESULTS.glob(f"{one}-s*"))
        errors = [[result(RESULTS / f"{name}-s{k}")["error"] for k in seeds] for name in (one, other)]
        found = [a - b for a, b in zip(*errors, strict=True)]
        means = ", ".join(f"{math.fsum(e) / len(e):.2f}" for e in errors)
        deviation = spread(found)
        error = "-" if deviation is None else f"{deviation / math.sqrt(len(found)):.2f}"
        lines.append(
            f"| {one} | {other} | {', '.join(map(str, seeds))} | {means} | {', '.join(f'{d:+.2f}' for d in found)} "
            f"| {math.fsum(found) / len(found):+.2f} | {error} |"
        )
    return "\n".join(lines) + "\n"


def models_table(patterns: Iterable[str], up: str) -> str:
    """The models of the package, from their cards."""
    lines = [
        "| model | data | network | float32 error % | packed error % | bytes | MACs | flash / RAM on a Cortex-M4, bytes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in zoo.names():
        if not any(fnmatch(name, pattern) for pattern in patterns):
            continue
        c = zoo.card(name)
        m = c["microcontroller"]
        lines.append(
            f"| `{name}` | {c['data']} | {c['network']}, {c['epochs']} epochs ([log]({up}/{Path(c['log']).name})) "
            f"| {c['float_error']:.2f} | {c['packed_error']:.2f} | {c['bytes']:,} | {c['macs'] / 1e6:.1f} M "
            f"| {m['flash']:,} / {m['RAM']:,} |"
        )
    return "\n".join(lines) + "\n"


def overview(patterns: Iterable[str], up: str) -> str:
    """What a reader looks for first: recipes, ours beside the paper's and the author's."""
    lines = [
        "| data | network | weights | epochs | seeds | our test error % | paper's | author's files | deployed | trained on |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    names = recipes.names()
    for name in (name for pattern in patterns for name in names if fnmatch(name, pattern)):
        recipe = recipes.load(name)
        kind, epochs = recipe.network, str(recipe.training.epochs)
        rows = collect(runs_of(name))
        seeds, error, size, where = "-", "not yet run", "-", "-"
        if rows:
            row = rows[0]
            recipe = recipe.replace([f"epochs={row['epochs']}"])  # what others had after as many is beside it
            if str(row["epochs"]) != epochs:
                epochs = f"{row['epochs']} of {epochs}"
            seeds = str(row["runs"])
            error = f"{row['error']:.2f}" + ("" if row["spread"] is None else f" ± {row['spread']:.2f}")
            size = kilobytes(row["bytes"])
            found = [result(run) for run in runs_of(name)]
            where = ", ".join(sorted({r.get("gpu", "CPU") for r in found}))
        theirs = published_error(recipe)
        files = ", ".join(
            f"{errors[-1][1]:.2f}" for errors in author_errors(recipe).values() if "-20-10-cutout-" in name
        )
        lines.append(
            f"| {recipe.data.name} | {kind.depth}-{kind.width:g}{', cutout' if '-cutout-' in name else ''} | {WEIGHTS[kind.weights]} "
            f"| {epochs} | {seeds} | {error} | {'-' if theirs is None else f'{theirs:.2f}'} | {files or '-'} "
            f"| {size} | {where} |"
        )
    return "\n".join(lines) + "\n"


def runs_of(name: str) -> list[Path]:
    """The published runs of a shipped recipe that differ from it in nothing but the seed; where there is none, and the
    learning rate allows it, those that ended earlier, the longest ones."""
    own = recipes.load(name).replace(["seed=0"])
    found: dict[int, list[Path]] = {}
    for path in sorted(RESULTS.glob("*/result.json")):
        run = path.parent
        if result(run)["recipe"] == name and same_path(recipe := run_recipe(run).replace(["seed=0"]), own):
            found.setdefault(recipe.training.epochs, []).append(run)
    return found.get(max((n for n in found if n <= own.training.epochs), default=0), [])


TABLES = {
    "overview": overview,
    "models": models_table,
    "results": table,
    "packed": packed_table,
    "paired": paired_table,
}


def rewritten(page: Path) -> str:
    """The page with every table as its folders give it."""
    up = "results" if page.parent == ROOT else "../results"
    return BLOCK.sub(lambda m: m[1] + TABLES[m[2]](m[3].split(), up) + m[5], page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        add(Path(argument))
    for page in PAGES:
        page.write_text(rewritten(page), encoding="utf-8")
