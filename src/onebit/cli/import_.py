"""``onebit import FILE.mat``."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Packed file to write.")
@click.option("--bits", type=click.Choice(["8", "4"]), default="8", show_default=True, help="Width of the activations.")
@click.option(
    "--data",
    "root",
    type=click.Path(path_type=Path),
    help="Folder of the data sets: temperature, class names. Default: $ONEBIT_DATA.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(file: Path, out: Path, bits: str, root: Path | None, as_json: bool) -> None:
    """Pack a network that the paper's author published (a MATLAB file of his Keras or MATLAB code).

    With CIFAR at hand the temperature of its probabilities is fitted on training pictures.
    """
    from onebit.cli.progress import busy
    from onebit.train.pack import import_author

    with busy("importing"):
        packing = import_author(file, root=root, bits=int(bits))
    count = packing.save(out)
    program = packing.packed.program
    weights = sum(program.weights(op) for _, op in program.convolutions())
    if as_json:
        click.echo(
            json.dumps(
                {
                    "file": str(out),
                    "bytes": count,
                    "one_bit_weights": weights,
                    "notes": packing.notes,
                    **packing.packed.about,
                }
            )
        )
        return
    click.echo(f"{file}: {packing.packed.about['source']}")
    click.echo(
        f"{out}: {count:,} bytes, {4 * weights / count:.1f} times smaller than its {weights:,} weights as float32"
    )
    for line in packing.lines():
        click.echo(line)
