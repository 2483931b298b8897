"""Measure packed models beside the networks they were made from, for docs/results.md.

    python tools/measure_packed.py RUN...               pack, verify and test run folders
    python tools/measure_packed.py --mat FILE.mat...    import, verify and test networks of the paper's author

Writes results/packed/NAME.json; ONEBIT_DATA names the folder of the data sets. A measurement that is stopped goes on
where it was: logits are kept in chunks in the folder of --work, those of the packed model until its bytes change.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from onebit import __version__
from onebit.cli.progress import counting
from onebit.data.dataset import Arrays, Files
from onebit.examine.compare import Progress, activation_bits, compare, score
from onebit.examine.evaluate import open_split
from onebit.machine import cpu_model
from onebit.model import load
from onebit.packed.file import encode
from onebit.train.evaluate import run_root
from onebit.train.pack import import_author, pack_run
from onebit.verify.sides import open_side

RESULTS = Path(__file__).resolve().parent.parent / "results" / "packed"
CHUNK, STEP = 250, 25  # pictures kept in one file, and computed at a time


@click.command()
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--mat", is_flag=True, help="SOURCES are .mat files of the paper's author.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("packed-work"), help="Folder of chunks.")
def main(sources: tuple[Path, ...], mat: bool, work: Path) -> None:
    """Pack, verify and test SOURCES."""
    torch.set_num_threads(1)
    for source in sources:
        facts = measured(source, mat, work)
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{facts['name']}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        click.echo(
            f"{facts['name']}: {facts['float_error']:.2f} -> {facts['packed_error']:.2f} %, {facts['bytes']:,} bytes"
        )


def measured(source: Path, mat: bool, work: Path) -> dict[str, Any]:
    """Everything about one model."""
    name = source.stem.removeprefix("Trained") if mat else source.name
    chunks = work / name
    chunks.mkdir(parents=True, exist_ok=True)
    path = chunks / "model.onebit"
    packing = import_author(source) if mat else pack_run(source)
    if path.exists() and path.read_bytes() != encode(*packing.packed):
        for old in chunks.glob("packed-*.npy"):
            old.unlink()
    count = packing.save(path)
    model = load(path)
    split, data, _ = open_split(model, path, None, None if mat else run_root(source), None)
    side = open_side(source)
    with counting(name) as progress:
        floats = in_chunks(split, chunks / "float", lambda images: side.logits(images.transpose(0, 2, 3, 1)), progress)
        integers = in_chunks(split, chunks / "packed", lambda images: model.integers(images, "NCHW"), progress)
    logits = integers * model.scale
    tested = score(model, logits, split.labels)
    verb = f"onebit import {source.name} -o {name}.onebit" if mat else f"onebit pack {source.name} -o {name}.onebit"
    return {
        "name": name, "commands": [verb, f"onebit verify {source.name} {name}.onebit"], "data": data, "bytes": count,
        "one_bit_weights": sum(model.program.weights(op) for _, op in model.program.convolutions()),
        **compare(floats, logits, split.labels, activation_bits(model.program)).facts(), "temperature": model.temperature,
        "calibration_plain": 100 * tested.calibration_plain, "calibration": 100 * tested.calibration,
        "about": model.about, "cpu": cpu_model(), "torch": str(torch.__version__), "numpy": np.__version__, "onebit": __version__,
    }  # fmt: skip


def in_chunks(split: Arrays | Files, name: Path, run: Callable[[Any], Any], progress: Progress) -> Any:
    """What `run` makes of the pictures of a split; chunks that are on the disk are read."""
    if isinstance(split, Files):
        raise SystemExit("only data sets in memory are measured here")
    found = []
    for start in range(0, len(split), CHUNK):
        images = split.images[start : start + CHUNK]
        saved = name.with_name(f"{name.name}-{start}.npy")
        if not saved.exists():
            with open(saved.with_suffix(".tmp"), "wb") as file:
                np.save(file, np.concatenate([run(images[i : i + STEP]) for i in range(0, len(images), STEP)]))
            saved.with_suffix(".tmp").rename(saved)
        found.append(np.load(saved))
        progress(start + len(images), len(split))
    return np.concatenate(found)


if __name__ == "__main__":
    main()
