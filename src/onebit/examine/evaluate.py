"""Test a packed model on a data set. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from onebit.data import catalog
from onebit.data.dataset import Arrays, Files, aligned
from onebit.errors import OnebitError
from onebit.examine.compare import Progress, logits_of, score
from onebit.model import load


class Card(Protocol):
    """What a form of a network knows about its pictures: a `Model`, and what `onebit verify` compares."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, in the order of the logits."""

    @property
    def about(self) -> Mapping[str, str]:
        """Texts; ``data`` names the data set."""


def evaluate(
    path: Path, *, data: str | None = None, root: Path | None = None, images: int | None = None,
    progress: Progress = lambda done, of: None,
) -> dict[str, Any]:  # fmt: skip
    """Test a packed model on the test half of the set it was trained on, or of another one.

    Args:
        data: None (as the model's card says), a name of the catalog, or a folder of pictures, a folder a class.
        root: the folder that holds the data sets; None: ONEBIT_DATA.
        images: test only so many, the first ones.

    Returns ``error`` and ``top5_error`` (percent), ``images``, ``wrong``, ``data``, ``classes``, ``confusion`` [true]
    [predicted], ``calibration_plain`` and ``calibration`` (expected calibration errors without and with the model's
    temperature, percent), ``temperature``, and ``note`` where class names differ (else None).
    """
    model = load(path)
    split, name, note = open_split(model, path, data, root, images)
    result = score(model, logits_of(model, split, progress), split.labels)
    facts = dataclasses.asdict(result) | {
        "error": result.error,
        "top5_error": result.top5_error,
        "data": name,
        "note": note,
    }
    facts |= {"calibration_plain": 100 * result.calibration_plain, "calibration": 100 * result.calibration}
    return facts | {"classes": list(model.classes), "temperature": model.temperature}


def open_split(
    model: Card, path: Path, data: str | None, root: Path | None, images: int | None
) -> tuple[Arrays | Files, str, str | None]:
    """The pictures to test `model` on, the name of their set, and a note where its class names differ."""
    if images is not None and images < 1:
        raise OnebitError(f"images {images}: that leaves no test picture; test at least one")
    channels, size, width = model.shape
    if size != width:
        raise OnebitError(f"{path}: takes pictures of {size}x{width}, data sets hold square ones; use onebit.load")
    name = data or model.about.get("data")
    if not name:
        raise OnebitError(f"{path}: does not say what it was trained on; name a data set with --data")
    if name not in catalog.ENTRIES and Path(name).is_dir():
        name, root = "folder", Path(name)
    dataset = catalog.load(name, root, size=size, grey=channels == 1)
    if (len(dataset.classes), dataset.channels, dataset.size) != (len(model.classes), channels, size):
        raise OnebitError(
            f"{path}: takes {channels} channels and knows {len(model.classes)} classes of pictures of {size}x{size}, but "
            f"{dataset.name} has {dataset.channels} and {len(dataset.classes)} of {dataset.size}x{dataset.size}; name the "
            "data set that it was trained for with --data"
        )
    test, note = aligned(dataset, model.classes)
    return test.take(np.arange(len(test))[:images]), dataset.name, note
