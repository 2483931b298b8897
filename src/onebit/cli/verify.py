"""``onebit verify A B``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command("verify")
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@click.option("--data", "name", metavar="NAME|DIR", help="Data set. Default: the one it was trained on.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="Folder of the data sets. Default: the run's own, else $ONEBIT_DATA.",
)
@click.option("--images", type=click.IntRange(1), help="Only so many test pictures, the first ones.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(first: Path, second: Path, name: str | None, root: Path | None, images: int | None, as_json: bool) -> None:
    """Run two forms of a network, A and B, on the same test pictures, and say whether they are the same network.

    Each is a run folder, a model.pt, an author's .mat, a packed model, or what `onebit export` made: ONNX, QONNX, a
    firmware folder (compiled for this machine), a web folder (run by node).

    Packed models, firmware and web pages compute with the same integers: one logit that differs fails. Where one of the
    two computes in real numbers, exit status 1 means that the errors differ by more than two deviations of a random walk
    of as many steps as there are pictures whose verdict changed (at least 0.05 points), or the logits by more than 3 % of
    their deviation (8.5 % with activations of 4 bits, whose levels are 8 times as coarse).
    """
    from onebit.cli.progress import counting
    from onebit.verify import verify

    with counting("verifying") as progress:
        verdict = verify(first, second, data=name, root=root, images=images, progress=progress)
    if as_json:
        click.echo(json.dumps(verdict.facts()))
        sys.exit(0 if verdict.good else 1)
    result = verdict.comparison
    for side, error, wrong in zip(
        verdict.sides,
        (result.float_error, result.packed_error),
        (result.float_wrong, result.packed_wrong),
        strict=True,
    ):
        path = click.format_filename(side.path)
        click.echo(f"{path} ({side.kind}): test error {error:.2f} % ({wrong} of {result.images})")
    if verdict.equal:
        click.echo(f"all {result.images} x {len(verdict.sides[0].card.classes)} logits are equal, to the last bit")
    else:
        click.echo(
            f"same class on {result.agreement:.2f} %; {result.changed} verdicts changed"
            + (f", which allows {result.bound:.2f} points" if not verdict.exact else "")
        )
        click.echo(
            f"logits differ by {100 * result.rms:.2f} % of their deviation (rms), at most by {result.largest:.3g}"
        )
    if verdict.good:
        click.echo("verified")
    elif verdict.exact:
        click.echo("NOT verified: both compute with integers, so that every logit must be equal")
    else:
        click.echo("NOT verified: they differ by more than rounding explains")
    sys.exit(0 if verdict.good else 1)
