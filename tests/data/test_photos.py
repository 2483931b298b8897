"""Crops and mini-batches of photographs; corrupt and huge files as training meets them."""

from __future__ import annotations

import io
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from onebit.data import photos
from onebit.data.photos import Job, PhotoBatches, many_crops, mix, random_crop
from onebit.data.pictures import centre_crop, decode, scaled
from onebit.errors import OnebitError


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int, width: int) -> Image.Image:
    """A picture without fine detail, so that any good way of scaling it down gives nearly the same."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(
        np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(6 * x / width)], 2).astype(np.uint8)
    )


sides = st.integers(1, 60)


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """(shorter side, left, top) of every crop from now on; a crop is then its own numbers."""
    seen: list[tuple[int, int, int]] = []

    def record(image: Image.Image, shorter: int, left: int, top: int, size: int) -> np.ndarray:
        seen.append((shorter, left, top))
        return np.arange(size, dtype=np.uint8)[None, None].repeat(size, 1)

    monkeypatch.setattr(photos, "crop", record)
    return seen


def assert_uniform(values: list[int], low: int, high: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    counts = np.bincount(np.array(values) - low, minlength=high - low + 1)
    assert min(values) >= low and max(values) <= high
    assert stats.chisquare(counts).pvalue > 1e-6


def test_training_crops_are_uniform_over_scale_place_and_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = recorded(monkeypatch)
    image = Image.new("L", (60, 40))
    mirrored = sum(int(random_crop(image, 28, True, seed)[0, 0, 0]) == 27 for seed in range(20_000))
    assert abs(mirrored - 10_000) < 5 * 71
    assert all(int(random_crop(image, 28, False, seed)[0, 0, 0]) == 0 for seed in range(50))
    del seen[20_000:]
    assert_uniform([s for s, _, _ in seen], 32, 60)  # 256 and 480 for 224
    for shorter in (32, 45, 60):
        own = [(left, top) for s, left, top in seen if s == shorter]
        width, height = scaled(60, 40, shorter)
        assert min(left for left, _ in own) >= 0 and max(left for left, _ in own) <= width - 28
        assert min(top for _, top in own) >= 0 and max(top for _, top in own) <= height - 28
    first = [(left, top) for s, left, top in seen if s == 32]  # 48 x 32: 21 x 5 places
    assert_uniform([left for left, _ in first], 0, 20)
    assert_uniform([top for _, top in first], 0, 4)


def test_25_crops_are_five_places_at_each_published_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(noise(300, 400, 3))
    crops = many_crops(image, 32, seed=5)
    assert crops.shape == (25, 3, 32, 32) and np.array_equal(crops, many_crops(image, 32, seed=5))
    assert not np.array_equal(crops, many_crops(image, 32, seed=6))
    seen = recorded(monkeypatch)
    many_crops(image, 224, seed=5)
    assert Counter(s for s, _, _ in seen) == {224: 5, 256: 5, 384: 5, 480: 5, 640: 5}
    assert len(set(seen)) > 20


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    st.floats(0, 1),
)
def test_corrupt_pictures_never_crash(
    tmp_path_factory: pytest.TempPathFactory, kind: str, changes: list[tuple[float, int]], kept: float
) -> None:
    file = io.BytesIO()
    Image.fromarray(noise(9, 11, 3)).save(file, kind)
    body = bytearray(file.getvalue())
    for place, value in changes:
        body[int(place * len(body))] = value
    path = tmp_path_factory.getbasetemp() / f"corrupt.{kind.lower()}"
    path.write_bytes(body[: int(max(kept, 0.2) * len(body))])
    result = PhotoBatches([path], 8, 3)[Job((0,), "train", 0)]
    assert (isinstance(result, str) and "\n" not in result) or (
        isinstance(result, torch.Tensor) and result.shape == (1, 3, 8, 8)
    )


def test_large_jpeg_is_decoded_small_and_looks_the_same(tmp_path: Path) -> None:
    path = save(smooth(900, 1200), tmp_path / "a.jpg", quality=95)
    small = decode(path, 3, enough=100)
    assert 100 <= min(small.size) < 225  # 1/4 or 1/8 of it
    assert decode(path, 3).size == (1200, 900) and decode(path, 3, enough=901).size == (1200, 900)
    for one in (small, decode(path, 1, enough=100)):
        whole = decode(path, 3 if one.mode == "RGB" else 1)
        for function in (lambda i: centre_crop(i, 64), lambda i: random_crop(i, 32, True, 3)):
            assert np.abs(function(one).astype(int) - function(whole)).mean() < 2
    jobs = PhotoBatches([path], 64, 3)
    for kind, shape in (("centre", (1, 3, 64, 64)), ("25", (1, 25, 3, 64, 64))):
        found = jobs[Job((0,), kind, 1)]
        assert isinstance(found, torch.Tensor) and found.shape == shape
    assert np.abs(jobs[Job((0,), "centre", 1)][0].numpy().astype(int) - centre_crop(decode(path, 3), 64)).mean() < 2  # type: ignore[index]


@settings(max_examples=40)
@given(sides, sides, st.integers(1, 40), st.integers(0, 2**64 - 1))
def test_any_picture_gives_any_size(width: int, height: int, size: int, seed: int) -> None:
    image = Image.fromarray(noise(height, width))
    assert centre_crop(image, size).shape == random_crop(image, size, True, seed).shape == (1, size, size)
    assert many_crops(image, size, seed).shape == (25, 1, size, size)


def test_size_is_asked_for_and_an_empty_share_has_its_shape(tmp_path: Path) -> None:
    with pytest.raises(OnebitError, match=r"data\.size: 0"):
        PhotoBatches([], 0, 3)
    empty = PhotoBatches([], 5, 3)[Job((), "train", 0)]
    assert isinstance(empty, torch.Tensor) and empty.shape == (0, 3, 5, 5)


def test_seeds_of_neighbouring_counters_have_nothing_in_common() -> None:
    seeds = [mix(a, b, c) for a in range(10) for b in range(10) for c in range(10)]
    assert len(set(seeds)) == 1000 and min(seeds) >= 0 and max(seeds) < 2**64
    bits = np.array([[s >> i & 1 for i in range(64)] for s in seeds])
    assert np.abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / 1000**0.5
    changed = np.array([bin(mix(a, b) ^ mix(a, b + 1)).count("1") for a in range(30) for b in range(30)])
    assert abs(changed.mean() - 32) < 5 * 4 / 30  # half of the bits, as for any two random numbers
    draws = Counter(random.Random(mix(7, i)).randrange(8) for i in range(8000))
    assert max(abs(n - 1000) for n in draws.values()) < 5 * 30
