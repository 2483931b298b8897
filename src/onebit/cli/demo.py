"""``onebit demo``: real digits, one bit and float, side by side, and the packed model."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("demo")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder of results."
)
@click.option("--epochs", type=click.IntRange(1), help="Epochs of each of the two networks. Default: the recipes' 30.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def command(out: Path, epochs: int | None, seed: int) -> None:
    """Train a 1-bit network and its float twin on 1437 real handwritten digits, test both on 360 others.

    Packs the 1-bit network and verifies the packed model on the test pictures. Leaves it, a comparison, the training
    curves and a sheet of test pictures with predictions in the folder OUT.
    """
    import shutil

    from onebit import recipe as recipes
    from onebit.report.plots import curves, predictions
    from onebit.report.tables import comparison
    from onebit.train.trainer import train
    from onebit.verify import verify

    runs = []
    for name in ("digits", "digits-float"):
        folder = out / name
        if (folder / "run.json").exists():  # of an earlier demo; nothing else is deleted
            shutil.rmtree(folder)
        settings = [f"seed={seed}", *([f"epochs={epochs}"] if epochs else [])]
        # One thread: pictures of 8x8 pixels leave nothing to share, and two threads on a busy machine wait for each other.
        train(recipes.load(name).replace(settings), folder, threads=1)
        runs.append(folder)
    curves(runs, out / "curves.png")
    predictions(runs[0], out / "predictions.png")
    click.echo("\n" + comparison(runs))
    packed = runs[0] / "model.onebit"
    verdict = verify(runs[0], packed)
    check = verdict.comparison
    small, large = (
        packed.stat().st_size,
        json.loads((runs[1] / "result.json").read_text(encoding="utf-8"))["float_bytes"],
    )
    click.echo(
        f"\npacked: {packed} holds all of the 1-bit network in {small:,} bytes, {large / small:.1f} times less than {large:,}"
    )
    click.echo(
        f"verified: in integers {check.packed_error:.2f} % error, in float32 {check.float_error:.2f} %, "
        f"the same class on {check.agreed} of {check.images} pictures"
        if verdict.good
        else f"NOT verified: {check.packed_error:.2f} % error in integers, {check.float_error:.2f} % in float32"
    )
    click.echo(f"\ncurves: {out / 'curves.png'}\npictures: {out / 'predictions.png'}")
