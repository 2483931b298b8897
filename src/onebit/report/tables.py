"""Tables over run folders: mean and spread over seeds, beside what was published."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from onebit.errors import OnebitError


def result(run: Path) -> dict[str, Any]:
    """result.json of a finished run; OnebitError when the run has none."""
    try:
        content: dict[str, Any] = json.loads((run / "result.json").read_text(encoding="utf-8"))
        float(content["error"])
    except FileNotFoundError:
        raise OnebitError(f"{run}: has no result.json; finish it first with `onebit resume {run}`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OnebitError(f"{run / 'result.json'}: damaged ({error}); `onebit resume {run}` writes it anew") from error
    return content


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
    """One row a recipe and number of epochs, in the order first seen: mean, spread and every seed's error (percent)."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in runs:
        r = result(Path(run))
        groups.setdefault((r["recipe"], r["label"], r["data"], r["epochs"]), []).append(r)
    rows = []
    for (recipe, label, data, epochs), found in groups.items():
        errors = [float(r["error"]) for r in found]
        rows.append(
            {
                "recipe": recipe,
                "label": label,
                "data": data,
                "epochs": epochs,
                "runs": len(found),
                "seeds": [r["seed"] for r in found],
                "errors": errors,
                "error": math.fsum(errors) / len(errors),
                "spread": spread(errors),
                "params": found[0]["params"],
                "bytes": deployed_bytes(found[0]),
                "published": (found[0].get("published") or {}).get("error"),
            }
        )
    return rows


def deployed_bytes(r: dict[str, Any]) -> int:
    """Bytes of the weights as deployed: packed bits, or 4 bytes each for a float network."""
    return int(r["packed_bytes"] if r["weights"] == "1bit" else r["float_bytes"])


def to_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """`collect`'s rows as a Markdown table."""
    lines = [
        "| network | data | epochs | seeds | test error % | spread | published % | weights |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        sd = "-" if r["spread"] is None else f"± {r['spread']:.2f}"
        published = "-" if r["published"] is None else f"{r['published']}"
        lines.append(
            f"| {r['label']} | {r['data']} | {r['epochs']} | {r['runs']} "
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
