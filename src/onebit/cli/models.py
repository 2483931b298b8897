"""``onebit models [NAME]``."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command("models")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(name: str | None, as_json: bool) -> None:
    """The trained models that come with onebit, or the card of model NAME.

    Wherever a command takes a packed file it takes such a name: `onebit predict cifar10-20-1 photo.jpg`.
    """
    from onebit import zoo

    cards = {n: zoo.card(n) for n in ([name] if name else zoo.names())}
    if as_json:
        click.echo(json.dumps(cards[name] if name else cards))
    elif name:
        _print_card(cards[name])
    else:
        _print_list(cards)


def _print_list(cards: dict[str, dict[str, Any]]) -> None:
    from onebit.cli.terminal import console, table

    rows = table("name", "data", "network", "test error", "bytes", "MACs", left=(0, 1, 2))
    for name, card in cards.items():
        rows.add_row(
            name, card["data"], card["network"], f"{card['packed_error']:.2f} %", f"{card['bytes']:,}",
            f"{card['macs'] / 1e6:,.1f} M",
        )  # fmt: skip
    out = console()
    out.print(rows)
    out.print("\nuse one: onebit predict NAME IMAGE...; its card: onebit models NAME")


def _print_card(card: dict[str, Any]) -> None:
    from rich.markup import escape

    from onebit.cli.terminal import console, table

    rows = table("", "", left=(0, 1), wrap=(1,))
    rows.show_header = False
    for key, text in card.items():
        rows.add_row(key.replace("_", " "), escape(_text(key, text)))
    console().print(rows)


def _text(key: str, value: Any) -> str:
    """
    >>> _text("bytes", 40852), _text("packed_error", 8.5), _text("microcontroller", {"flash": 46000})
    ('40,852', '8.50 %', 'flash 46,000')
    """
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_text(name, x)}" for name, x in value.items())
    if isinstance(value, list):
        return ", ".join(str(x) for x in value)
    if key.endswith("error") or key.startswith("calibration"):
        return f"{value:.2f} %"
    return f"{value:,}" if isinstance(value, int) and key != "seed" else str(value)
