"""``onebit train RECIPE --out RUN``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from onebit import recipe as recipes
from onebit.recipe import Recipe


@click.command("train")
@click.argument("recipe")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to make.")
@click.option(
    "--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Change a field: --set width=4 (repeatable)."
)
@click.option(
    "--data",
    "root",
    type=click.Path(path_type=Path),
    help="Folder of the data sets, or of your pictures. Default: $ONEBIT_DATA.",
)
@click.option("--size", type=int, help="Side of the pictures in pixels (your own pictures).")
@click.option("--grey", is_flag=True, help="One channel (your own pictures).")
@click.option("--seed", type=int, help="Seed of weights, data order and augmentation.")
@click.option(
    "--from",
    "start",
    type=click.Path(path_type=Path),
    help="Start from the weights of this run, checkpoint or packed model (a name of `onebit models`, too).",
)
@click.option("--device", help="cpu, cuda, mps. Default: the best one present.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    recipe: str, out: Path, settings: tuple[str, ...], root: Path | None, size: int | None, grey: bool, seed: int | None,
    start: Path | None, device: str | None, threads: int | None, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Train RECIPE (a name from `onebit recipes`, or a TOML file) into the folder RUN.

    Ctrl-C saves; `onebit resume RUN` goes on. Several processes: torchrun --nproc-per-node 2 -m onebit train ...
    """
    chosen = with_options(recipes.load(recipe), settings, size, grey, seed)
    from onebit.train.trainer import train

    result = train(chosen, out, root=root, device=device, threads=threads, start=start, quiet=quiet or as_json)
    finish(result, out, as_json)


def with_options(recipe: Recipe, settings: tuple[str, ...], size: int | None, grey: bool, seed: int | None) -> Recipe:
    """The recipe with the options that are short forms of fields, then ``--set``."""
    short = [f"size={size}"] * (size is not None) + ["grey=true"] * grey + [f"seed={seed}"] * (seed is not None)
    return recipe.replace([*short, *settings])


def finish(result: dict[str, object], out: Path, as_json: bool) -> None:
    """Curves beside the result; the result on stdout where a script wants it."""
    if not result:  # not the first of several processes
        return
    from onebit.report.plots import curves

    curves([out], out / "curves.png")
    if as_json:
        click.echo(json.dumps(result))
