"""A sheet of sample pictures, a row a class: what is in a data set, and what augmentation makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from onebit.data.dataset import Arrays, DataSet
from onebit.errors import OnebitError
from onebit.files import atomic_write

if TYPE_CHECKING:
    from onebit.data.augment import Augment

ROWS, COLUMNS = 20, 10  # the first classes, the first pictures of each
TILE = 64  # pixels that a picture has at least on the sheet; larger ones keep their size up to LARGEST
LARGEST = 128
NAME = 120  # pixels for the name of a class


def draw_sheet(dataset: DataSet, path: Path, augment: Augment | None = None, seed: int = 0) -> None:
    """Write training pictures of each class to a PNG; with `augment`, as training would see them.

    Raises OnebitError: a damaged picture, or a place that cannot be written to.

    >>> import tempfile; from onebit.data.catalog import load
    >>> with tempfile.TemporaryDirectory() as d:
    ...     draw_sheet(load("digits"), Path(d, "sheet.png"))
    ...     Image.open(Path(d, "sheet.png")).size
    (780, 660)
    """
    labels = dataset.train.labels
    chosen = [np.flatnonzero(labels == c)[:COLUMNS] for c in range(min(ROWS, len(dataset.classes)))]
    pictures = _pictures(dataset, np.concatenate(chosen), augment, seed)
    tile = min(LARGEST, dataset.size * -(-TILE // dataset.size))
    sheet = Image.new("RGB", (NAME + COLUMNS * (tile + 2), len(chosen) * (tile + 2)), "white")
    pen = ImageDraw.Draw(sheet)
    number = 0
    for row, indices in enumerate(chosen):
        y = row * (tile + 2)
        # Pillow's own font knows Western letters only.
        pen.text((4, y + 4), dataset.classes[row][:18].encode("latin-1", "replace").decode("latin-1"), fill="black")
        for column in range(len(indices)):
            pixels = pictures[number].transpose(1, 2, 0)
            picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
            filter = Image.Resampling.NEAREST if tile >= dataset.size else Image.Resampling.BILINEAR
            sheet.paste(picture.resize((tile, tile), filter), (NAME + column * (tile + 2), y))
            number += 1
    atomic_write(path, lambda file: sheet.save(file, format="PNG"))


def _pictures(dataset: DataSet, index: NDArray[np.int64], spec: Augment | None, seed: int) -> NDArray[np.uint8]:
    """uint8 [N, C, size, size]: the training pictures of `index`."""
    split = dataset.train.take(index)
    if isinstance(split, Arrays):
        if spec is None:
            return split.images
        import torch

        images = torch.from_numpy(split.images)
    else:
        import torch

        from onebit.data.photos import Job, PhotoBatches

        kind, flip = ("centre", False) if spec is None else ("train", spec.flip)
        decoded = PhotoBatches(split.paths, dataset.size, dataset.channels)[
            Job(tuple(range(len(split))), kind, seed, flip)
        ]
        if isinstance(decoded, str):
            raise OnebitError(decoded)
        if spec is None:
            return decoded.numpy()
        images, spec = decoded, replace(spec, flip=False)  # the photo was flipped when it was cropped
    from onebit.data.augment import augment

    return augment(images, spec, torch.Generator().manual_seed(seed)).numpy()
