"""From a trained network to a packed model: the end of every 1-bit training, and `onebit pack`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from onebit import __version__
from onebit import recipe as recipes
from onebit.data import catalog
from onebit.data.augment import Augment
from onebit.data.dataset import DataSet, Files
from onebit.data.feed import make_feed
from onebit.errors import OnebitError
from onebit.graph import author
from onebit.graph.nodes import Graph
from onebit.graph.trace import trace
from onebit.model import Model
from onebit.packed import calibration, file, lower
from onebit.packed.file import Packed
from onebit.packed.program import Logits, Program
from onebit.packed.ranges import measure
from onebit.recipe import TABLES, Recipe
from onebit.train.evaluate import load_data, load_model, run_root

EFFORT = 2e11  # multiply-accumulates to spend on pictures for the temperature
FEWEST, MOST = 250, 2000  # of them
RANGE_PICTURES = 250  # for networks without batch-norm
PHOTOGRAPHS = ("imagenet", "folder")  # tested on a crop of the scaled picture
DARK_GROUND = ("mnist", "digits")  # light strokes on a dark ground

Pictures = Iterable[tuple[NDArray[np.uint8], NDArray[np.int64]]]


@dataclass(frozen=True)
class Calibration:
    """What the temperature does to training pictures: expected calibration error and cross-entropy, before and after."""

    images: int
    temperature: float
    error_before: float
    error_after: float
    entropy_before: float
    entropy_after: float


@dataclass(frozen=True)
class Packing:
    """A packed model, what its user should know, and how its probabilities were fitted (None: no pictures)."""

    packed: Packed
    notes: list[str]
    calibration: Calibration | None

    def save(self, path: str | Path) -> int:
        """Write the packed file, whole or not at all; returns its bytes."""
        return file.save(Path(path), self.packed)

    def lines(self) -> list[str]:
        """What to tell the user besides the bytes."""
        lines = [f"note: {note}" for note in self.notes]
        if c := self.calibration:
            lines.append(
                f"temperature {c.temperature:.3g} from {c.images} training pictures: calibration error "
                f"{100 * c.error_before:.1f} -> {100 * c.error_after:.1f} %, cross-entropy {c.entropy_before:.3f} -> {c.entropy_after:.3f}"
            )
        return lines


def pack(
    net: nn.Module, classes: Iterable[str], *, channels: int, size: int | tuple[int, int], about: dict[str, str] | None = None,
    pictures: Pictures | None = None, bits: int = 8,
) -> Packing:  # fmt: skip
    """Pack a network of yours, or of `onebit.networks`.

    Args:
        net: binarized (`onebit.binarize`) and trained; takes raw pixels, gives logits [N, classes].
        classes: a name for each logit.
        channels, size: of the pictures; `size` is the side, or (height, width).
        about: what else to keep in the file, as text: data set, error, how it was trained.
        pictures: batches of training pictures uint8 [N, C, H, W] and labels int64 [N], augmented as in training, never
            test pictures. They fit the temperature; without batch-norms they also show the ranges of activations.
        bits: width of activations that were trained in float: 8 or 4.

    Raises OnebitError that names the layer which a packed model cannot express, and why.

    >>> from onebit import binarize
    >>> net = binarize(nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten()))
    >>> pack(net, ["cat", "dog"], channels=1, size=8).packed.classes
    ('cat', 'dog')
    """
    return pack_graph(trace(net, channels=channels, size=size), classes, about or {}, pictures, bits)


def pack_graph(
    graph: Graph, classes: Iterable[str], about: Mapping[str, str], pictures: Pictures | None, bits: int
) -> Packing:
    """`pack` of a graph."""
    source = iter(pictures) if pictures is not None else iter(())
    ranges = None
    if lower.needs_ranges(graph):
        seen = take(source, RANGE_PICTURES)
        ranges = measure(graph, seen[0]) if seen else None
    program, notes = lower.lower(graph, bits=bits, ranges=ranges)
    macs = sum(program.macs(i) for i, _ in program.convolutions())
    found = take(source, int(np.clip(EFFORT / macs, FEWEST, MOST)))
    fitted = None
    packed = Packed(program, tuple(classes), dict(about))
    if found:
        packed, fitted = _with_temperature(packed, *found)
    else:
        notes.append("no training pictures: probabilities have temperature 1")
    return Packing(packed, notes, fitted)


def pack_run(path: Path, *, root: Path | None = None, bits: int = 8, temperature: bool = True) -> Packing:
    """Pack the network of a run folder (or its model.pt), with its card.

    Args:
        root: folder of the data sets; None: the one that the run was trained from, or ONEBIT_DATA.
        temperature: fit it on the training pictures; False needs no data (but for networks without batch-norm).
    """
    net, recipe, content = load_model(path)
    check(recipe, path)
    pictures = None
    if temperature or recipe.network.norm == "none":
        data = load_data(recipe.replace([f"size={content['size']}"]), root or run_root(path))
        pictures = training_pictures(recipe, data)
    folder = path if path.is_dir() else path.parent
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        result = {}
    about = card(recipe, result)
    return pack(
        net,
        content["classes"],
        channels=content["channels"],
        size=content["size"],
        about=about,
        pictures=pictures,
        bits=bits,
    )


def import_author(path: Path, *, root: Path | None = None, bits: int = 8) -> Packing:
    """Pack a network that the paper's author published as a .mat file.

    Training pictures for the temperature, and class names, come from CIFAR-10 or CIFAR-100 below `root` (None:
    ONEBIT_DATA) where they are at hand.
    """
    imported = author.read(path)
    name = {10: "cifar10", 100: "cifar100"}.get(len(imported.classes), "")
    about = {"onebit": __version__, "source": imported.layout, "fit": "square"}
    if imported.accuracy is not None:
        about["published"] = f"{100 - imported.accuracy:.2f}"
    classes, pictures, notes = imported.classes, None, []
    if name:
        about["data"] = name
        try:
            data = catalog.load(name, root)
            classes, pictures = data.classes, training_pictures(recipes.load("cifar10-20-10-cutout-1bit"), data)
        except OnebitError as error:
            notes = [str(error)]
    packing = pack_graph(imported.graph, classes, about, pictures, bits)
    return dataclasses.replace(packing, notes=notes + packing.notes)


def check(recipe: Recipe, path: Path) -> None:
    """Refuse what was not trained for one bit before anything else is done."""
    if recipe.network.weights != "1bit":
        raise OnebitError(
            f"{path}: its weights are float; only 1-bit networks can be packed: train one with --set weights=1bit"
        )


def card(recipe: Recipe, result: dict[str, Any]) -> dict[str, str]:
    """What the file says about the model: the recipe as JSON of the fields that differ from their defaults."""
    plain = Recipe(name="", title="")
    fields: dict[str, Any] = {"name": recipe.name}
    for table in TABLES:
        own, default = dataclasses.asdict(getattr(recipe, table)), dataclasses.asdict(getattr(plain, table))
        if changed := {key: value for key, value in own.items() if value != default[key]}:
            fields[table] = changed
    for table, field in (("training", "seed"), ("data", "name")):
        fields.get(table, {}).pop(field, None)
    about = {
        "data": recipe.data.name,
        "fit": "crop" if recipe.data.name in PHOTOGRAPHS else "square",
        "onebit": __version__,
        "recipe": json.dumps(fields, separators=(",", ":")),
        "seed": str(recipe.training.seed),
    }
    if recipe.data.name in DARK_GROUND:
        about["ground"] = "dark"
    if "error" in result:
        about["error"] = f"{result['error']:.2f}"
        about["torch"] = str(result.get("torch", ""))
    return about


def training_pictures(recipe: Recipe, data: DataSet) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Batches of training pictures in the order and with the augmentation of the epoch after the last."""
    d = recipe.data
    feed = make_feed(
        data.train, device=torch.device("cpu"), batch=recipe.training.batch, seed=recipe.training.seed, last="keep",
        augment=Augment(flip=d.flip, pad=d.pad, pad_fill=d.pad_fill, cutout=d.cutout, cutout_fill=d.cutout_fill),
        size=data.size, channels=data.channels, workers=d.workers if isinstance(data.train, Files) else 0, rank=0, world=1,
    )  # fmt: skip
    for batch in feed.epoch(recipe.training.epochs):
        yield batch.images.numpy(), batch.labels.numpy()


def take(
    pictures: Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]], count: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """At least `count` pictures (whole batches) as one; None where there are none."""
    images, labels, have = [], [], 0
    for x, y in pictures:
        images.append(x)
        labels.append(y)
        have += len(y)
        if have >= count:
            break
    return (np.concatenate(images), np.concatenate(labels)) if have else None


def _with_temperature(
    packed: Packed, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> tuple[Packed, Calibration]:
    program = packed.program
    logits = Model(packed).logits(images, "NCHW")
    sharpness = calibration.fit_sharpness(logits, labels)
    before, after = calibration.softmax(logits), calibration.softmax(logits * sharpness)
    last: Logits = dataclasses.replace(program.logits, sharpness=round(sharpness * 65536))
    return packed._replace(program=Program([*program.operations[:-1], last])), Calibration(
        len(labels), 1 / sharpness, calibration.calibration_error(before, labels), calibration.calibration_error(after, labels),
        calibration.cross_entropy(before, labels), calibration.cross_entropy(after, labels),
    )  # fmt: skip
