"""``onebit data``: what there is, how to get it, what it looks like."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from onebit.data.dataset import DataSet

FOLDER_SIZE = 64  # pixels, for a look at pictures of any size


@click.group("data")
def command() -> None:
    """The data sets: list them, fetch one, look at one."""


@command.command("list")
def list_sets() -> None:
    """Every set of the catalog, and how to get it (ROOT: what --data or ONEBIT_DATA names)."""
    from onebit.data.catalog import ENTRIES
    from onebit.data.fetch import SOURCES

    for name, entry in ENTRIES.items():
        fetched = f"`onebit data fetch {name}`, or " if name in SOURCES else ""
        click.echo(f"{name:12} {entry.title}\n{'':12} {fetched}{entry.get}")


@command.command("fetch")
@click.argument("name")
@click.option("--root", type=click.Path(path_type=Path), help="Where to put it. Default: $ONEBIT_DATA.")
def fetch_set(name: str, root: Path | None) -> None:
    """Download set NAME: resumes, checks, unpacks. Where the publisher demands a login, says what to put where."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TimeRemainingColumn, TransferSpeedColumn

    from onebit.data.fetch import SOURCES, fetch
    from onebit.errors import OnebitError

    place = root or Path(os.environ.get("ONEBIT_DATA", ""))
    if name in SOURCES and place == Path():
        raise OnebitError(f"data set {name}: say where to put it with --root DIR, or set ONEBIT_DATA")
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=Console(stderr=True))
    tasks: dict[str, TaskID] = {}

    def progress(file: str, done: int, total: int | None) -> None:
        if file not in tasks:
            bars.start()
            tasks[file] = bars.add_task(file, total=total)
        bars.update(tasks[file], completed=done, total=total)

    try:
        fetch(name, place, progress)
    finally:
        if tasks:
            bars.stop()
    click.echo(f"{name}: complete" + (f" in {place}" if name in SOURCES else ", it is in the package"))


@command.command("show")
@click.argument("name")
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the data sets. Default: $ONEBIT_DATA.")
@click.option(
    "--size", type=click.IntRange(1), help=f"Side in pixels (photographs). Default: {FOLDER_SIZE}; imagenet: 224."
)
@click.option("--grey", is_flag=True, help="One channel instead of three.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Draw a sheet of pictures of each class, as PNG.")
@click.option("--recipe", help="Show the pictures of the sheet augmented, as this recipe does in training.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(
    name: str, root: Path | None, size: int | None, grey: bool, out: Path | None, recipe: str | None, as_json: bool
) -> None:
    """Read set NAME, or the folder NAME of your pictures, and say what is in it: images, size, classes."""
    import numpy as np

    from onebit.data.catalog import ENTRIES, load

    if name not in ENTRIES and Path(name).is_dir():
        name, root = "folder", Path(name)
    d = load(name, root, size=size or (FOLDER_SIZE if name == "folder" else 0), grey=grey)
    counts = np.bincount(d.train.labels, minlength=len(d.classes)).tolist()
    about = {
        "name": d.name,
        "train": len(d.train),
        "test": len(d.test),
        "size": d.size,
        "channels": d.channels,
        "classes": list(d.classes),
        "train_per_class": counts,
    }
    if out is not None:
        _draw(d, out, recipe)
    if as_json:
        click.echo(json.dumps(about))
    else:
        each = f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
        click.echo(
            f"{d.name}: {len(d.train):,} training and {len(d.test):,} test images of {d.size}x{d.size}x{d.channels}, "
            f"{len(d.classes)} classes of {each} training images: "
            f"{', '.join(d.classes[:12])}{' ...' if len(d.classes) > 12 else ''}"
        )


def _draw(dataset: DataSet, out: Path, recipe: str | None) -> None:
    from onebit.data.sheet import draw_sheet

    if recipe is None:
        draw_sheet(dataset, out)
        return
    from onebit import recipe as recipes
    from onebit.data.augment import Augment

    d = recipes.load(recipe).data
    spec = Augment(flip=d.flip, pad=d.pad, pad_fill=d.pad_fill, cutout=d.cutout, cutout_fill=d.cutout_fill)
    draw_sheet(dataset, out, spec)
