"""``onebit data``: what there is, and how to get it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click


@click.group("data")
def command() -> None:
    """The data sets: list them, fetch one, look at one."""


@command.command("list")
def list_sets() -> None:
    """Every set of the catalog."""
    from onebit.data.catalog import ENTRIES

    for name, entry in ENTRIES.items():
        click.echo(f"{name:12} {entry.title}")


@command.command("fetch")
@click.argument("name")
@click.option("--root", type=click.Path(path_type=Path), help="Where to put it. Default: $ONEBIT_DATA.")
def fetch_set(name: str, root: Path | None) -> None:
    """Download set NAME: resumes, checks, unpacks. Where the publisher demands a login, says what to put where."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from onebit.data.fetch import fetch
    from onebit.errors import OnebitError

    place = root or (Path(os.environ["ONEBIT_DATA"]) if os.environ.get("ONEBIT_DATA") else None)
    if place is None:
        raise OnebitError("data fetch: say where with --root DIR, or set ONEBIT_DATA")
    with Progress(
        "{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    ) as bars:
        tasks: dict[str, object] = {}

        def progress(file: str, done: int, total: int | None) -> None:
            task = tasks.setdefault(file, bars.add_task(file, total=total) if file not in tasks else None)
            bars.update(task, completed=done, total=total)  # type: ignore[arg-type]

        fetch(name, place, progress)


@command.command("show")
@click.argument("name")
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the data sets. Default: $ONEBIT_DATA.")
@click.option("--size", type=int, default=0, help="Side in pixels (folders of pictures).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(name: str, root: Path | None, size: int, as_json: bool) -> None:
    """Read set NAME and say what is in it: images, size, classes."""
    from onebit.data.catalog import load

    d = load(name, root, size=size)
    about = {
        "name": d.name,
        "train": len(d.train),
        "test": len(d.test),
        "size": d.size,
        "channels": d.channels,
        "classes": list(d.classes),
    }
    if as_json:
        click.echo(json.dumps(about))
    else:
        click.echo(
            f"{d.name}: {len(d.train):,} training and {len(d.test):,} test images of {d.size}x{d.size}x{d.channels}, "
            f"{len(d.classes)} classes: {', '.join(d.classes[:12])}{' ...' if len(d.classes) > 12 else ''}"
        )
