"""What a data set is once read: pictures as uint8 arrays, or paths of picture files, with integer labels. No torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError


@dataclass(frozen=True)
class Arrays:
    """Pictures in memory: images uint8 [N, C, H, W], labels int64 [N].

    >>> Arrays(np.zeros((5, 1, 8, 8), np.uint8), np.arange(5)).take(np.array([4, 0])).labels
    array([4, 0])
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64]) -> Arrays:
        """The pictures of `index`, in its order."""
        return Arrays(self.images[index], self.labels[index])

    def grey(self) -> Arrays:
        """The same pictures with one channel: the brightness of R, G, B as Pillow (ITU-R 601) computes it."""
        if self.images.shape[1] == 1:
            return self
        out = np.empty((len(self), 1, *self.images.shape[2:]), np.uint8)
        for start in range(0, len(self), 10_000):  # a part at a time: the sums are four times as large as the pictures
            red, green, blue = self.images[start : start + 10_000].astype(np.uint32).transpose(1, 0, 2, 3)
            out[start : start + 10_000, 0] = (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16
        return Arrays(out, self.labels)


@dataclass(frozen=True)
class Files:
    """Pictures on disk, decoded when needed: N paths, labels int64 [N].

    >>> Files((Path("a.png"), Path("b.png")), np.array([0, 1])).take(np.array([1])).paths[0].name
    'b.png'
    """

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64]) -> Files:
        """The pictures of `index`, in its order."""
        return Files(tuple(self.paths[i] for i in index), self.labels[index])


@dataclass(frozen=True)
class DataSet:
    """A data set with its published split. `size` is the side in pixels."""

    name: str
    classes: tuple[str, ...]
    channels: int
    size: int
    train: Arrays | Files
    test: Arrays | Files


def aligned(dataset: DataSet, classes: tuple[str, ...]) -> tuple[Arrays | Files, str | None]:
    """The test half with labels in the order of a model's `classes`, and a note where the names of the classes differ.

    >>> half = Arrays(np.zeros((2, 1, 8, 8), np.uint8), np.array([0, 1]))
    >>> test, note = aligned(DataSet("toy", ("a", "b"), 1, 8, half, half), ("b", "a"))
    >>> test.labels, note
    (array([1, 0]), 'classes matched by name')
    """
    if dataset.classes == classes:
        return dataset.test, None
    if sorted(dataset.classes) == sorted(classes):
        place = np.array([classes.index(c) for c in dataset.classes])
        return dataclasses.replace(dataset.test, labels=place[dataset.test.labels]), "classes matched by name"
    return dataset.test, f"class names differ ({dataset.classes[0]!r} for {classes[0]!r}, ...): matched by position"


def stratified(labels: NDArray[np.int64], count: int, seed: int, *, least: int = 0) -> NDArray[np.bool_]:
    """A mask bool [N] that picks `count` items, every class in proportion (largest remainder), drawn with `seed`.

    No class is emptied: one item of each stays unpicked. With ``least`` 1 every class is picked from at least once,
    which may pick a few items more than `count`.

    Raises OnebitError where the classes are too small for that.

    >>> mask = stratified(np.array([0, 0, 1, 1, 1, 1]), 3, seed=0)
    >>> mask[:2].sum(), mask[2:].sum()
    (np.int64(1), np.int64(2))
    """
    n = len(labels)
    classes, sizes = np.unique(labels, return_counts=True)
    room = n - len(classes)
    if not 0 < count <= room:
        raise OnebitError(
            f"cannot set aside {count} of {n} pictures: every class must keep one to train on, so choose between 1 and {room}"
        )
    if least and sizes.min() <= least:
        raise OnebitError(
            f"cannot set aside {least} of {sizes.min()} pictures of a class: it needs at least {least + 1}"
        )
    random = np.random.Generator(np.random.PCG64(seed))
    share, remainder = np.divmod(sizes * count, n)  # whole numbers: no rounding decides a tie
    for i in np.argsort(-remainder, kind="stable"):
        if share.sum() < count and share[i] < sizes[i] - 1:
            share[i] += 1
    while share.sum() < count:  # only where tiny classes could not give their part
        share[np.argmax(sizes - share)] += 1
    share = np.maximum(share, least)
    mask = np.zeros(n, dtype=bool)
    for c, k in zip(classes, share, strict=True):
        mask[random.permutation(np.flatnonzero(labels == c))[:k]] = True
    return mask


def split_holdout(dataset: DataSet, count: int, seed: int) -> tuple[DataSet, Arrays | Files]:
    """Set `count` training pictures aside for selection (stratified, drawn with `seed`); the test set stays as it is.

    Returns the data set with the smaller training split, and the pictures set aside. Raises OnebitError where `count`
    would leave a class without training pictures.

    >>> every = Arrays(np.zeros((6, 1, 8, 8), np.uint8), np.array([0, 0, 0, 1, 1, 1]))
    >>> smaller, held = split_holdout(DataSet("toy", ("a", "b"), 1, 8, every, every), 2, seed=0)
    >>> len(smaller.train), len(smaller.test), held.labels
    (4, 6, array([0, 1]))
    """
    mask = stratified(dataset.train.labels, count, seed)
    held = dataset.train.take(np.flatnonzero(mask))
    return dataclasses.replace(dataset, train=dataset.train.take(np.flatnonzero(~mask))), held
