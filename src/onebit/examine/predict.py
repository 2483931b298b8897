"""From picture files to classes. The model's card says how pictures are fitted (`fit`) and what ground it knows (`ground`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onebit import zoo
from onebit.data.pictures import border, check_fit, expand, fitted
from onebit.errors import OnebitError
from onebit.model import Model
from onebit.packed.calibration import softmax

PACKED = "model.onebit"  # the packed file of a run folder
BRIGHT = 127.5  # the middle of 0..255
BATCH = 8  # pictures at a time: results appear while others are computed


@dataclass(frozen=True)
class Prediction:
    """What a model says about a picture: logits and probabilities float64 [classes].

    `bright` where the picture has a bright border and the model expects light strokes on a dark ground.
    """

    file: Path
    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    bright: bool

    def top(self, count: int) -> list[int]:
        """The `count` likeliest classes, the likeliest first; of equals, the first."""
        return [int(k) for k in np.argsort(-self.logits, kind="stable")[:count]]


@dataclass(frozen=True)
class Failure:
    """A file that gave no picture, and the line that says why."""

    file: Path
    error: str


def find(path: Path) -> Path:
    """The packed file that `path` names: itself, model.onebit in a run folder, or a model that comes with onebit.

    Raises OnebitError for a folder without one, and for a name that is nothing.
    """
    path = zoo.find(path)
    if not path.is_dir():
        return path
    if not (path / PACKED).is_file():
        raise OnebitError(f"{path}: holds no {PACKED}; make it with `onebit pack {path}`, or name a packed file")
    return path / PACKED


def read_picture(model: Model, path: Path, invert: bool = False) -> NDArray[np.uint8]:
    """The picture in a file as `model` takes it: uint8 [H, W, C]; with `invert` 255 minus that.

    Raises OnebitError that names the file, as `onebit.data.pictures.fitted` does.
    """
    pixels = fitted(path, model.shape, model.about.get("fit", "square"))
    return 255 - pixels if invert else pixels


def is_bright(model: Model, pixels: NDArray[np.uint8]) -> bool:
    """Has a picture [H, W, C] a bright border, though the model expects light strokes on a dark ground?"""
    return model.about.get("ground") == "dark" and border(pixels) > BRIGHT


def bright_note(files: Sequence[Path], inverted: bool) -> str:
    """What to tell about files for which `is_bright` holds.

    >>> bright_note([Path("7.png"), Path("8.png"), Path("9.png")], inverted=False)
    '7.png and 2 more: the border is bright, and the model expects light strokes on a dark ground; try --invert'
    """
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    state, remedy = (" once inverted", "leave --invert out") if inverted else ("", "try --invert")
    return (
        f"{files[0]}{more}: the border is bright{state}, and the model expects light strokes on a dark ground; {remedy}"
    )


def predict(model: Model, paths: Iterable[Path], invert: bool = False) -> Iterator[Prediction | Failure]:
    """What `model` says about each picture file, folders expanded to theirs, in order.

    Files that are no pictures give a Failure and do not keep the others from being done. Raises OnebitError where the
    model itself takes no picture files.
    """
    check_fit(model.shape, model.about.get("fit", "square"))
    waiting: list[tuple[Path, NDArray[np.uint8]] | Failure] = []
    for found in _pictures(model, paths, invert):
        waiting.append(found)
        if len(waiting) == BATCH:
            yield from _predict(model, waiting)
            waiting = []
    yield from _predict(model, waiting)


def _pictures(model: Model, paths: Iterable[Path], invert: bool) -> Iterator[tuple[Path, NDArray[np.uint8]] | Failure]:
    for path in paths:
        try:
            files = expand([path])
        except OnebitError as error:
            yield Failure(path, str(error))
            continue
        for file in files:
            try:
                yield file, read_picture(model, file, invert)
            except OnebitError as error:
                yield Failure(file, str(error))


def _predict(model: Model, waiting: list[tuple[Path, NDArray[np.uint8]] | Failure]) -> Iterator[Prediction | Failure]:
    images = [found[1] for found in waiting if not isinstance(found, Failure)]
    logits = iter(model.logits(np.stack(images)) if images else np.zeros((0, len(model.classes))))
    for found in waiting:
        if isinstance(found, Failure):
            yield found
        else:
            row = next(logits)
            yield Prediction(found[0], row, softmax(row[None] / model.temperature)[0], is_bright(model, found[1]))
