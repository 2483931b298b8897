"""``onebit pack RUN``."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("pack")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="File to write. Default: model.onebit in the run folder."
)
@click.option(
    "--bits",
    type=click.Choice(["8", "4"]),
    default="8",
    show_default=True,
    help="Of activations trained in float.",
)
@click.option(
    "--data",
    "root",
    type=click.Path(path_type=Path),
    help="Folder of the data sets. Default: the run's own, else $ONEBIT_DATA.",
)
@click.option("--no-temperature", is_flag=True, help="Leave the probabilities as they are; needs no training pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(run: Path, out: Path | None, bits: str, root: Path | None, no_temperature: bool, as_json: bool) -> None:
    """Pack the 1-bit network of RUN (a run folder or its model.pt) into one file of bits and integers.

    Equal checkpoints give equal bytes. The temperature of the probabilities is fitted on training pictures; the logits
    stay as they are.
    """
    import dataclasses

    from onebit.cli.progress import busy
    from onebit.train.pack import pack_run

    with busy("packing"):
        packing = pack_run(run, root=root, bits=int(bits), temperature=not no_temperature)
    path = out or (run if run.is_dir() else run.parent) / "model.onebit"
    count = packing.save(path)
    program = packing.packed.program
    weights = sum(program.weights(op) for _, op in program.convolutions())
    if as_json:
        fitted = packing.calibration and dataclasses.asdict(packing.calibration)
        facts = {
            "file": str(path),
            "bytes": count,
            "one_bit_weights": weights,
            "notes": packing.notes,
            "calibration": fitted,
        }
        click.echo(json.dumps(facts))
        return
    click.echo(
        f"{path}: {count:,} bytes, {4 * weights / count:.1f} times smaller than its {weights:,} weights as float32"
    )
    for line in packing.lines():
        click.echo(line)
