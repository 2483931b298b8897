"""Splits against largest remainders computed with fractions, and greyness against Pillow."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from onebit.data import dataset, readers
from onebit.data.dataset import Arrays, DataSet, Files, split_holdout, stratified
from onebit.errors import OnebitError


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 150), st.integers(0, 2**32), st.randoms())
def test_stratified_takes_the_largest_remainders(sizes: list[int], count: int, seed: int, shuffler: object) -> None:
    labels = np.repeat(np.arange(len(sizes)) * 3, sizes)  # names of classes need not be 0, 1, 2
    labels = labels[np.random.default_rng(seed).permutation(len(labels))]
    assume(count <= len(labels) - len(sizes))
    mask = stratified(labels, count, seed)
    assert mask.dtype == bool and mask.shape == labels.shape and mask.sum() == count
    taken = [int(mask[labels == 3 * c].sum()) for c in range(len(sizes))]
    assert all(t < n for t, n in zip(taken, sizes, strict=True))
    exact = [Fraction(n * count, len(labels)) for n in sizes]
    order = sorted(range(len(sizes)), key=lambda c: (int(exact[c]) - exact[c], c))
    expected = [int(e) for e in exact]
    for c in order[: count - sum(expected)]:
        expected[c] += 1
    if all(e < n for e, n in zip(expected, sizes, strict=True)):  # else a class would be emptied
        assert taken == expected
    assert np.array_equal(stratified(labels, count, seed), mask)


def test_stratified_is_uniform_within_a_class() -> None:
    labels = np.repeat([0, 1], [6, 4])
    taken = sum(stratified(labels, 5, seed).astype(int) for seed in range(4000))
    p = np.repeat([3 / 6, 2 / 4], [6, 4])
    assert np.abs(taken / 4000 - p).max() < 5 * (0.25 / 4000) ** 0.5


@pytest.mark.parametrize("count", [-1, 0, 9, 10, 11])
def test_stratified_leaves_every_class_something(count: int) -> None:
    with pytest.raises(OnebitError, match="between 1 and 8"):
        stratified(np.repeat([0, 1], [9, 1]), count, 0)
    assert not stratified(np.repeat([0, 1], [9, 1]), 8, 0)[-1]
    with pytest.raises(OnebitError, match="at least 2"):
        stratified(np.repeat([0, 1], [9, 1]), 2, 0, least=1)


@pytest.mark.parametrize("kind", ["arrays", "files"])
def test_holdout_is_stratified_and_disjoint(kind: str) -> None:
    labels = np.repeat(np.arange(4), [10, 20, 30, 40])
    every = (
        Arrays(np.arange(100, dtype=np.uint8)[:, None, None, None], labels)
        if kind == "arrays"
        else Files(tuple(Path(str(i)) for i in range(100)), labels)
    )

    def members(part: Arrays | Files) -> list[int]:
        return part.images.ravel().tolist() if isinstance(part, Arrays) else [int(p.name) for p in part.paths]

    small, held = split_holdout(DataSet("x", tuple("abcd"), 1, 1, every, every), 10, seed=3)
    assert np.bincount(held.labels).tolist() == [1, 2, 3, 4] and small.test is every
    assert sorted(members(small.train) + members(held)) == list(range(100))
    for part in (small.train, held):
        assert part.labels.tolist() == labels[members(part)].tolist()
    other = split_holdout(DataSet("x", tuple("abcd"), 1, 1, every, every), 10, seed=4)[1]
    assert members(other) != members(held)


def test_the_stored_split_of_the_digits_is_the_one_that_seed_0_draws() -> None:
    with np.load(Path(dataset.__file__).with_name("digits.npz"), allow_pickle=False) as file:
        labels, test = file["labels"], file["test"]
    assert np.array_equal(np.sort(test), np.flatnonzero(stratified(labels, 360, 0)))
    train, held = readers.digits()
    assert np.bincount(train.labels).tolist() == (np.bincount(labels) - np.bincount(held.labels)).tolist()


def test_grey_is_the_one_of_pillow() -> None:
    images = np.random.default_rng(0).integers(0, 256, (10_003, 3, 2, 2), dtype=np.uint8)
    images[:3] = [[[[255] * 2] * 2] * 3, [[[0] * 2] * 2] * 3, [[[1] * 2] * 2] * 3]
    grey = Arrays(images, np.arange(10_003)).grey()
    wide = Image.fromarray(np.ascontiguousarray(images.transpose(0, 2, 3, 1)).reshape(-1, 4, 3))
    assert grey.images.dtype == np.uint8 and np.array_equal(grey.images.reshape(-1, 4), np.asarray(wide.convert("L")))
    assert grey.grey() is grey and grey.labels[-1] == 10_002
