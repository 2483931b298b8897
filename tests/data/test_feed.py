"""Batches: every image once an epoch, and the same ones whatever the ranks, the workers, and where an epoch begins."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from onebit.data import photos
from onebit.data.augment import Augment
from onebit.data.dataset import Arrays, Files
from onebit.data.feed import Batch, Feed, make_feed, share, test_batches
from onebit.errors import OnebitError

COUNT = 13  # not a multiple of the batches below
FULL = Augment(flip=True, pad=2, cutout=4)


def numbered(count: int = COUNT) -> Arrays:
    """Images whose every pixel is their number, labels too."""
    numbers = np.arange(count)
    return Arrays(np.broadcast_to(numbers.astype(np.uint8)[:, None, None, None], (count, 1, 6, 6)).copy(), numbers)


@pytest.fixture(scope="module")
def photo_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    root, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(COUNT):
        pixels = random.integers(0, 256, (12 + i, 25 - i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.png")
    return Files(tuple(root / f"{i}.png" for i in range(COUNT)), np.arange(COUNT))


def feed_of(split: Arrays | Files, **options: Any) -> Feed:
    channels, size = (1, 6) if isinstance(split, Arrays) else (3, 8)
    return make_feed(
        split,
        **{"device": "cpu", "batch": 5, "augment": FULL, "seed": 1, "size": size, "channels": channels, **options},
    )


def assert_same(a: list[Batch], b: list[Batch]) -> None:
    assert len(a) == len(b) > 0
    for one, other in zip(a, b, strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
        assert one.total == other.total


def numbers(batches: list[Batch]) -> list[int]:
    return torch.cat([b.labels for b in batches]).tolist()


@pytest.mark.parametrize("kind", ["arrays", "files"])
@pytest.mark.parametrize("world", [2, 3, 4])  # 4 ranks share a last mini-batch of 3
def test_ranks_train_on_the_same_pictures(kind: str, world: int, photo_files: Files) -> None:
    split = numbered() if kind == "arrays" else photo_files
    alone = list(feed_of(split).epoch(2))
    ranks = [list(feed_of(split, rank=r, world=world).epoch(2)) for r in range(world)]
    for step, whole in enumerate(alone):
        parts = [batches[step] for batches in ranks]
        assert torch.equal(torch.cat([p.images for p in parts]), whole.images)
        assert torch.equal(torch.cat([p.labels for p in parts]), whole.labels)
        assert {p.total for p in parts} == {len(whole.labels)}
        sizes = [len(p.labels) for p in parts]
        assert max(sizes) - min(sizes) <= 1


def test_workers_do_not_change_the_pictures(photo_files: Files) -> None:
    alone = list(feed_of(photo_files, workers=0).epoch(1))
    for workers in (1, 2):
        assert_same(list(feed_of(photo_files, workers=workers).epoch(1)), alone)
    for crops in ("centre", "25"):
        options = {"device": "cpu", "batch": 4, "size": 8, "channels": 3, "crops": crops, "seed": 3}
        one, two = (list(test_batches(photo_files, workers=w, **options)) for w in (0, 2))
        for (x, y), (a, b) in zip(one, two, strict=True):
            assert torch.equal(x, a) and torch.equal(y, b)


@pytest.mark.parametrize("kind", ["arrays", "files"])
def test_an_epoch_goes_on_in_the_middle(kind: str, photo_files: Files) -> None:
    split = numbered() if kind == "arrays" else photo_files
    whole = list(feed_of(split).epoch(3))
    for start in (1, 2):
        assert_same(list(feed_of(split).epoch(3, start)), whole[start:])
    assert list(feed_of(split).epoch(3, 3)) == []


@pytest.mark.parametrize("kind", ["arrays", "files"])
def test_nothing_global_is_drawn_from(kind: str, photo_files: Files) -> None:
    split = numbered() if kind == "arrays" else photo_files
    state, ours = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    list(feed_of(split).epoch(0))
    assert torch.equal(torch.get_rng_state(), state) and np.array_equal(np.random.get_state()[1], ours)  # type: ignore[index]


def test_every_image_comes_once_in_another_order_each_epoch_and_seed() -> None:
    feed = feed_of(numbered(), augment=Augment())
    orders = []
    for epoch in range(3):
        batches = list(feed.epoch(epoch))
        assert [len(b.labels) for b in batches] == [5, 5, 3] and feed.steps == 3
        for b in batches:  # each image keeps its label
            assert b.images.dtype == torch.uint8 and b.labels.dtype == torch.int64
            assert torch.equal(b.images, b.labels[:, None, None, None].expand(-1, 1, 6, 6).byte())
        orders.append(tuple(numbers(batches)))
        assert sorted(orders[-1]) == list(range(COUNT))
    orders += [tuple(numbers(list(feed_of(numbered(), seed=2).epoch(0))))]
    assert len(set(orders)) == 4
    dropped = feed_of(numbered(), augment=Augment(), last="drop")
    assert dropped.steps == 2 and tuple(numbers(list(dropped.epoch(0)))) == orders[0][:10]


def test_every_step_and_epoch_is_augmented_anew() -> None:
    same = Arrays(np.zeros((10, 1, 6, 6), np.uint8), np.zeros(10, np.int64))
    feed = feed_of(same, augment=Augment(cutout=11))  # noise everywhere or nearly so
    seen = [b.images.numpy().tobytes() for epoch in range(3) for b in feed.epoch(epoch)]
    assert len(set(seen)) == 6


def test_photos_are_flipped_once_and_cropped_anew_each_epoch(tmp_path: Path) -> None:
    """Left half dark, right half bright: a flip is what makes the left brighter than the right."""
    ramp = np.broadcast_to(np.linspace(50, 255, 64).astype(np.uint8)[None, :], (64, 64))
    Image.fromarray(ramp).save(tmp_path / "a.png")
    files = Files((tmp_path / "a.png",) * 100, np.arange(100))
    for flip, low, high in ((False, 0, 0), (True, 25, 75)):  # 5 standard deviations
        images = next(feed_of(files, batch=100, augment=Augment(flip=flip), channels=1).epoch(0)).images
        assert images.shape == (100, 1, 8, 8)
        assert low <= int((images[..., 0].float().mean((1, 2)) > images[..., 7].float().mean((1, 2))).sum()) <= high
    # The crop of a picture depends on seed, epoch and picture, and on nothing else.
    by_number = []
    for epoch, batch in ((0, 100), (0, 30), (1, 100)):
        batches = list(feed_of(files, batch=batch, augment=Augment(flip=True), channels=1).epoch(epoch))
        by_number.append(torch.cat([b.images for b in batches])[torch.tensor(numbers(batches)).argsort()])
    assert torch.equal(by_number[0], by_number[1])
    assert int((by_number[0] != by_number[2]).flatten(1).any(1).sum()) > 90
    assert len(by_number[0].flatten(1).unique(dim=0)) > 30
    padded = next(feed_of(files, batch=100, augment=Augment(pad=8, pad_fill="zero"), channels=1).epoch(0)).images
    assert int((padded.flatten(1) == 0).any(1).sum()) > 90  # padding and cutout follow for photos too


@given(st.integers(0, 300), st.integers(1, 12))
def test_shares_are_those_of_array_split(count: int, world: int) -> None:
    parts = np.array_split(np.arange(count), world)
    assert [list(range(count))[share(count, r, world)] for r in range(world)] == [p.tolist() for p in parts]


def test_test_images_come_in_their_order(photo_files: Files) -> None:
    batches = list(test_batches(numbered(), device="cpu", batch=5, size=6, channels=1))
    assert [len(y) for _, y in batches] == [5, 5, 3]
    assert torch.cat([x for x, _ in batches])[:, 0, 0, 0].tolist() == list(range(COUNT))
    for x, y in test_batches(photo_files, device="cpu", batch=5, size=8, channels=3, crops="25"):
        assert x.shape == (len(y), 25, 3, 8, 8)
    with pytest.raises(OnebitError, match="photographs"):
        test_batches(numbered(), device="cpu", batch=5, size=6, channels=1, crops="25")
    with pytest.raises(OnebitError, match="'10'"):
        test_batches(numbered(), device="cpu", batch=5, size=6, channels=1, crops="10")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_is_one_line_from_any_worker(workers: int, tmp_path: Path, photo_files: Files) -> None:
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    files = Files((*photo_files.paths, tmp_path / "damaged.jpg"), np.arange(COUNT + 1))
    with pytest.raises(OnebitError, match=r"damaged\.jpg: not a readable picture") as caught:
        list(feed_of(files, workers=workers).epoch(0))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="the patch reaches forked workers only")
def test_a_worker_that_is_killed_is_one_line(photo_files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "decode", lambda *_, **__: os._exit(9))  # as the kernel does when memory runs out
    with pytest.raises(OnebitError, match=r"data\.workers") as caught:
        list(feed_of(photo_files, workers=1).epoch(0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "training.batch: 0"),
        ({"last": "pad"}, "'pad'"),
        ({"batch": 14, "last": "drop"}, "lower the batch"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OnebitError, match=words):
        feed_of(numbered(), **options)


def test_no_images_is_an_error_and_read_only_ones_are_not() -> None:
    with pytest.raises(OnebitError, match="there are none"):
        feed_of(numbered(0))
    split = numbered()
    split.images.flags.writeable = False
    assert len(list(feed_of(split).epoch(0))) == 3
