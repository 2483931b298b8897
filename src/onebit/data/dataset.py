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
    """Pictures in memory: images uint8 [N, C, H, W], labels int64 [N]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64]) -> Arrays:
        """The pictures of `index`, in its order."""
        return Arrays(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Files:
    """Pictures on disk, decoded when needed: N paths, labels int64 [N]."""

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


def stratified(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.bool_]:
    """A mask that picks `count` items, every class in proportion (largest remainder), drawn with `seed`.

    >>> stratified(np.array([0, 0, 1, 1, 1, 1]), 3, seed=0).sum()
    np.int64(3)
    """
    n = len(labels)
    if not 0 < count < n:
        raise OnebitError(f"cannot set aside {count} of {n} pictures: choose between 1 and {n - 1}")
    random = np.random.Generator(np.random.PCG64(seed))
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * count / n
    share = np.floor(exact).astype(int)
    for i in np.argsort(share - exact, kind="stable")[: count - share.sum()]:
        share[i] += 1
    mask = np.zeros(n, dtype=bool)
    for c, k in zip(classes, share, strict=True):
        mask[random.permutation(np.flatnonzero(labels == c))[:k]] = True
    return mask


def split_holdout(dataset: DataSet, count: int, seed: int) -> tuple[DataSet, Arrays | Files]:
    """Set `count` training pictures aside for selection (stratified, drawn with `seed`); the test set stays as it is."""
    mask = stratified(dataset.train.labels, count, seed)
    held = dataset.train.take(np.flatnonzero(mask))
    return dataclasses.replace(dataset, train=dataset.train.take(np.flatnonzero(~mask))), held
