"""``onebit report RUN...``."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("report")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=Path("report.png"), show_default=True, help="Curves as PNG."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(runs: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Mean and spread of the test error over the seeds of each recipe, beside the published number; curves as PNG."""
    from onebit.report.plots import curves
    from onebit.report.tables import collect, to_markdown

    rows = collect(runs)
    curves(list(runs), out)
    click.echo(json.dumps({"rows": rows, "curves": str(out)}) if as_json else f"{to_markdown(rows)}\n\ncurves: {out}")
