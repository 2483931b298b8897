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
    """Mean and spread of the test error over the seeds of each recipe, beside the published number; curves as PNG.

    Runs that are still under way are drawn, and named, but not counted.
    """
    from onebit.report.plots import curves
    from onebit.report.tables import collect, to_markdown, under_way

    unfinished = {run: state for run in runs if (state := under_way(run)) is not None}
    rows = collect(run for run in runs if run not in unfinished)
    curves(list(runs), out)
    if as_json:
        click.echo(json.dumps({"rows": rows, "unfinished": [str(run) for run in unfinished], "curves": str(out)}))
        return
    if rows:
        click.echo(to_markdown(rows) + "\n")
    for run, state in unfinished.items():
        click.echo(f"not counted: {run}, {state}")
    click.echo(f"curves: {out}")
