"""``onebit verify CHECKPOINT FILE``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command("verify")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("packed", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--data", "name", metavar="NAME|DIR", help="Data set. Default: the one it was trained on.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="Folder of the data sets. Default: the run's own, else $ONEBIT_DATA.",
)
@click.option("--images", type=click.IntRange(1), help="Only so many test pictures, the first ones.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    checkpoint: Path, packed: Path, name: str | None, root: Path | None, images: int | None, as_json: bool
) -> None:
    """Run CHECKPOINT (a run folder, a model.pt, or an author's .mat) in float32 beside the packed FILE on test pictures.

    Exit status 1 where they differ by more than rounding explains: the errors by more than two deviations of a random
    walk of as many steps as there are pictures whose verdict changed (at least 0.05 points), or the logits by more than
    3 % of their deviation (8.5 % with activations of 4 bits, whose levels are 8 times as coarse).
    """
    from onebit.cli.progress import counting
    from onebit.train.verify import verify

    with counting("verifying") as progress:
        result = verify(checkpoint, packed, data=name, root=root, images=images, progress=progress)
    if as_json:
        click.echo(json.dumps(result.facts()))
    else:
        click.echo(f"float32: test error {result.float_error:.2f} % ({result.float_wrong} of {result.images})")
        click.echo(f"packed:  test error {result.packed_error:.2f} % ({result.packed_wrong} of {result.images})")
        click.echo(
            f"same class on {result.agreement:.2f} %; {result.changed} verdicts changed, which allows {result.bound:.2f} points"
        )
        click.echo(
            f"logits differ by {100 * result.rms:.2f} % of their deviation (rms), at most by {result.largest:.3g}"
        )
        click.echo("verified" if result.good else "NOT verified: they differ by more than rounding explains")
    sys.exit(0 if result.good else 1)
