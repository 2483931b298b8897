"""``onebit evaluate RUN``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from onebit.errors import OnebitError


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
@click.option("--images", type=click.IntRange(1), help="Packed models: only so many test pictures, the first ones.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    checkpoint: Path,
    name: str | None,
    root: Path | None,
    crops: str | None,
    device: str | None,
    out: Path | None,
    images: int | None,
    as_json: bool,
) -> None:
    """Test error of CHECKPOINT and its confusion matrix as a picture.

    CHECKPOINT is a run folder or a .pt file (float32, on the device), or a packed model (integers, without torch).
    """
    from onebit import zoo
    from onebit.packed.file import is_packed

    checkpoint = zoo.find(checkpoint)

    if is_packed(checkpoint):
        result = _packed(checkpoint, name, root, images)
    else:
        from onebit.train.evaluate import evaluate
        from onebit.train.trainer import pick_device

        if images is not None:
            raise OnebitError("--images is for packed models")
        result = evaluate(checkpoint, data=name, root=root, crops=crops, device=pick_device(device))
    picture = _picture(result, out or (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "confusion.png")
    if as_json:
        click.echo(json.dumps(result))
        return
    if result["note"]:
        click.echo(f"note: {result['note']}", err=True)
    top5 = f", top-5 error {result['top5_error']:.2f} %" if len(result["classes"]) > 10 else ""
    click.echo(f"{result['data']}: test error {result['error']:.2f} % ({result['wrong']} of {result['images']}){top5}")
    if "calibration" in result:
        click.echo(
            f"calibration error {result['calibration']:.1f} % with temperature {result['temperature']:.3g} "
            f"({result['calibration_plain']:.1f} % without)"
        )
    if picture:
        click.echo(f"confusion: {picture}")


def _packed(path: Path, name: str | None, root: Path | None, images: int | None) -> dict[str, Any]:
    from onebit.cli.progress import counting
    from onebit.examine.evaluate import evaluate

    with counting("testing") as progress:
        return evaluate(path, data=name, root=root, images=images, progress=progress)


def _picture(result: dict[str, Any], path: Path) -> Path | None:
    """Draw the confusion matrix, where matplotlib is installed."""
    from onebit.report.plots import confusion

    try:
        confusion(
            result["confusion"], result["classes"], path, title=f"{result['data']}: {result['error']:.2f} % error"
        )
    except ModuleNotFoundError:
        return None
    return path
