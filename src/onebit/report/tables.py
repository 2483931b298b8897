"""Tables over run folders: mean and spread over seeds, beside what was published."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from onebit import recipe as recipes
from onebit.errors import OnebitError
from onebit.recipe import Recipe
from onebit.report.published import published_error
from onebit.train.progress import Metrics


def result(run: Path) -> dict[str, Any]:
    """result.json of a finished run; OnebitError when the run has none."""
    try:
        content: dict[str, Any] = json.loads((run / "result.json").read_text(encoding="utf-8"))
        float(content["error"])
    except FileNotFoundError:
        if not run.is_dir():
            raise OnebitError(f"{run}: there is no such folder; name run folders that `onebit train` made") from None
        raise OnebitError(f"{run}: has no result.json; finish it first with `onebit resume {run}`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OnebitError(f"{run / 'result.json'}: damaged ({error}); `onebit resume {run}` writes it anew") from error
    return content


def run_recipe(run: Path) -> Recipe:
    """The recipe that a run folder was trained with; OnebitError when the folder holds none."""
    name = run.name
    if (run / "result.json").exists():
        name = result(run)["recipe"]
    try:
        return recipes.parse((run / "recipe.toml").read_text(encoding="utf-8"), name)
    except OSError as error:
        raise OnebitError(
            f"{run}: is not a run folder ({error.strerror}: recipe.toml); name folders that `onebit train` made"
        ) from error


def under_way(run: Path) -> str | None:
    """How far a run is that has epochs but no result yet, None for every other folder.

    "epoch 12 of 30" says nothing of whether a process is at work on it.
    """
    if (run / "result.json").exists() or not (run / "metrics.jsonl").exists():
        return None
    done = sum(1 for line in Metrics(run / "metrics.jsonl").read() if line.get("kind") == "epoch")
    return f"epoch {done} of {run_recipe(run).training.epochs}" if done else None


def spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1), None for fewer than two values.

    >>> spread([1.0, 3.0]) == 2 ** 0.5
    True
    """
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))


def collect(runs: Iterable[Path]) -> list[dict[str, Any]]:
    """One row an experiment, in the order first seen: mean, spread and every seed's error (percent).

    Runs are of one experiment when their recipes differ in the seed alone.
    """
    groups: dict[str, list[tuple[Recipe, dict[str, Any]]]] = {}
    for run in map(Path, runs):
        found = result(run)
        recipe = run_recipe(run)
        groups.setdefault(f"{recipe.name}\n{recipe.replace(['seed=0']).to_toml()}", []).append((recipe, found))
    rows = []
    for members in groups.values():
        recipe, first = members[0]
        errors = [float(found["error"]) for _, found in members]
        rows.append(
            {
                "recipe": recipe.name,
                "label": first["label"],
                "data": first["data"],
                "epochs": first["epochs"],
                "runs": len(members),
                "seeds": [found["seed"] for _, found in members],
                "errors": errors,
                "error": math.fsum(errors) / len(errors),
                "spread": spread(errors),
                "params": first["params"],
                "bytes": deployed_bytes(first),
                "published": published_error(recipe),
            }
        )
    return rows


def deployed_bytes(r: dict[str, Any]) -> int:
    """Bytes of the weights as deployed: packed bits, or 4 bytes each for a float network."""
    return int(r["packed_bytes"] if r["weights"] == "1bit" else r["float_bytes"])


def to_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """`collect`'s rows as a Markdown table."""
    lines = [
        "| recipe | network | data | epochs | runs | test error % | spread | published % | weights |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        sd = "-" if r["spread"] is None else f"± {r['spread']:.2f}"
        published = "-" if r["published"] is None else f"{r['published']:.2f}"
        lines.append(
            f"| {r['recipe']} | {r['label']} | {r['data']} | {r['epochs']} | {r['runs']} "
            f"| {r['error']:.2f} | {sd} | {published} | {kilobytes(r['bytes'])} |"
        )
    return "\n".join(lines)


def kilobytes(count: int) -> str:
    """
    >>> kilobytes(39174), kilobytes(3_400_000)
    ('39.2 kB', '3.40 MB')
    """
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def comparison(runs: Sequence[Path]) -> str:
    """The demo's table: each run's test error, size and time, aligned for a terminal."""
    rows = [["", "test error", "weights", "training"]]
    for run in runs:
        r = result(run)
        rows.append(
            [
                r["label"],
                f"{r['error']:.2f} % ({r['wrong']} of {r['test_images']})",
                kilobytes(deployed_bytes(r)),
                f"{r['seconds']:.0f} s",
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
