"""``onebit recipes [NAME]``."""

from __future__ import annotations

import json

import click

from onebit import recipe as recipes


@click.command("recipes")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(name: str | None, as_json: bool) -> None:
    """List the recipes, or show recipe NAME with every field (a start for a recipe file of your own)."""
    if name:
        click.echo(recipes.load(name).to_toml(), nl=False)
        return
    loaded = {n: recipes.load(n) for n in recipes.names()}
    if as_json:
        click.echo(json.dumps({n: {"title": r.title, "published": dict(r.published)} for n, r in loaded.items()}))
        return
    for n, r in loaded.items():
        published = r.published.get("error")
        click.echo(f"{n:32} {r.title}" + (f"  (published: {published} %)" if published is not None else ""))
