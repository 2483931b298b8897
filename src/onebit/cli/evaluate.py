"""``onebit evaluate RUN``."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("evaluate")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", "name", metavar="NAME|DIR", help="Another data set: of the catalog, or a folder of pictures.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="Folder of the data sets. Default: the run's own, else $ONEBIT_DATA.",
)
@click.option("--crops", type=click.Choice(["centre", "25"]), help="Photo-size sets: one crop, or the mean of 25.")
@click.option("--device", help="cpu, cuda, mps. Default: the best one present.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Confusion matrix as PNG. Default: in the run folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    checkpoint: Path,
    name: str | None,
    root: Path | None,
    crops: str | None,
    device: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Test error of CHECKPOINT (a run folder or a .pt file) in float32, and its confusion matrix as a picture."""
    from onebit.report.plots import confusion
    from onebit.train.evaluate import evaluate
    from onebit.train.trainer import pick_device

    result = evaluate(checkpoint, data=name, root=root, crops=crops, device=pick_device(device))
    picture = out or (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "confusion.png"
    confusion(result["confusion"], result["classes"], picture, title=f"{result['data']}: {result['error']:.2f} % error")
    if as_json:
        click.echo(json.dumps(result))
        return
    if result["note"]:
        click.echo(f"note: {result['note']}", err=True)
    top5 = f", top-5 error {result['top5_error']:.2f} %" if len(result["classes"]) > 10 else ""
    click.echo(f"{result['data']}: test error {result['error']:.2f} % ({result['wrong']} of {result['images']}){top5}")
    click.echo(f"confusion: {picture}")
