"""``onebit recipes [NAME]``."""

from __future__ import annotations

import json
from typing import Any

import click

from onebit import recipe as recipes
from onebit.recipe import Recipe

HEADINGS = {
    "": "To start with",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10 (cutout: the columns marked ++)",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "imagenet32": "ImageNet32",
    "imagenet": "ImageNet",
    "ablation": "Ablations on CIFAR-100: warm restarts, learned batch-norm, BWN scales",
    "plain": "Plain networks, without skip connections",
    "shifted": "Shifted ReLU in place of batch-norm (2019)",
}


@click.command("recipes")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(name: str | None, as_json: bool) -> None:
    """List the recipes, those whose name holds NAME, or show recipe NAME with every field.

    What `onebit recipes NAME` prints is a recipe file: redirect it into one of your own and train that.
    """
    known = recipes.names()
    if name and (name in known or not any(name in n for n in known)):
        chosen = recipes.load(name)
        click.echo(json.dumps(_about(chosen)) if as_json else chosen.to_toml(), nl=as_json)
        return
    listed = {n: recipes.load(n) for n in known if not name or name in n}
    if as_json:
        click.echo(json.dumps({n: _about(r) for n, r in listed.items()}))
        return
    width = max(map(len, listed))
    for key, heading in HEADINGS.items():
        members = [n for n in listed if _section(n) == key]
        if members:
            click.secho(f"\n{heading}", bold=True)
        for n in members:
            r = listed[n]
            error = r.published.get("error")
            paper = "" if error is None else f"  published {error:5.2f} %"
            click.echo(f"  {n:{width}}  {r.title}, {r.training.epochs} epochs{paper}")


def _section(name: str) -> str:
    first = name.split("-")[0]
    return first if first in HEADINGS else ""


def _about(r: Recipe) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "title": r.title,
        "published": dict(r.published),
        **{table: asdict(getattr(r, table)) for table in recipes.TABLES},
    }
