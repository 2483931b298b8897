"""``onebit resume RUN``."""

from __future__ import annotations

from pathlib import Path

import click

from onebit.cli.train import finish


@click.command("resume")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", "root", type=click.Path(path_type=Path), help="Data folder, if it moved.")
@click.option("--device", help="Another device than the run began with.")
@click.option("--threads", type=click.IntRange(1), help="Another number of CPU threads.")
@click.option("--epochs", type=click.IntRange(1), help="Train for more or fewer epochs than it was begun with.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    run: Path, root: Path | None, device: str | None, threads: int | None, epochs: int | None, as_json: bool, quiet: bool
) -> None:  # fmt: skip
    """Go on with RUN from its last checkpoint: on the same machine, to the same bytes as if never stopped.

    With --epochs a finished run goes on too: with warm restarts 30 epochs are the beginning of 62. What it ended in
    before is kept (result-30.json, model-30.onebit).
    """
    from onebit.train.trainer import resume

    result = resume(run, quiet=quiet or as_json, root=root, device=device, threads=threads, epochs=epochs)
    finish(result, run, as_json)
