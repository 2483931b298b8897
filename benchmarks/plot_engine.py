"""Draw docs/engine-NAME.png from results/engine/NAME.json: milliseconds a picture, batch 1, one thread, every engine.

python benchmarks/plot_engine.py NAME ...
"""

from __future__ import annotations

import sys

from matplotlib.figure import Figure
from summary import find, ratio
from tables_engine import NAMES, OURS, ROOT, TIERS, load, ms, networks


def draw(name: str) -> None:
    data = load(name)
    tier = next(t for t in TIERS if any(table.endswith(f" {t}") for table in data["tables"]))  # the CPU's best
    shown = [m for m in networks(data) if f"{m} {tier}" in data["tables"]]
    engines = [e for e in NAMES if any(find(data["tables"][f"{m} {tier}"], engine=e) for m in shown)]
    figure = Figure(figsize=(3.4 * len(shown) + 1.4, 0.36 * len(engines) + 1.1), dpi=120, layout="constrained")
    figure.set_facecolor("white")  # also on a dark page
    for axes, model in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        table = data["tables"][f"{model} {tier}"]
        rows = [find(table, engine=e) for e in engines]
        ours = next(row for row, e in zip(rows, engines, strict=True) if row and e in OURS)
        times = [row["median_ms"] if row else 0.0 for row in rows]
        axes.barh(range(len(rows)), times, color=["#1a7f5a" if e in OURS else "#8fa3b5" for e in engines])
        for y, row in enumerate(rows):
            beside = f"  ({ratio(row, ours):.1f}x)" if row and row is not ours else ""
            axes.text(
                0 if not row else row["median_ms"],
                y,
                f" {ms(row['median_ms'])}{beside}" if row else " -",
                va="center",
                fontsize=8,
            )
        axes.set_yticks(
            range(len(engines)), [NAMES[e] for e in engines] if axes.get_subplotspec().is_first_col() else []
        )
        axes.invert_yaxis()
        axes.set_xlim(0, 1.35 * max(times))
        weights = "" if data["models"][model]["weights"] == "trained" else ", random weights"
        axes.set_title(f"{model}{weights}", fontsize=10)
        axes.set_xlabel("ms a picture", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{data['cpu']['name']}, one thread, one picture at a time", fontsize=11)
    figure.savefig(ROOT / "docs" / f"engine-{name}.png", metadata={"Software": None})


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        draw(argument)
