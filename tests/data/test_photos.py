"""Photographs against Pillow on whole pictures and NumPy on pixels; odd and damaged files."""

from __future__ import annotations

import io
import random
import struct
import zlib
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
from onebit.data.photos import Job, PhotoBatches, centre_crop, crop, decode, many_crops, mix, random_crop, scaled
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


@given(sides, sides, st.integers(1, 40), st.sampled_from([1, 3]), st.data())
def test_crop_equals_scaling_the_whole_picture(
    width: int, height: int, size: int, channels: int, data: st.DataObject
) -> None:
    pixels = noise(height, width, 3) if channels == 3 else noise(height, width)
    image = Image.fromarray(pixels)
    shorter = data.draw(st.integers(size, 3 * size))
    w, h = scaled(width, height, shorter)
    assert min(w, h) == shorter
    left, top = data.draw(st.integers(0, w - size)), data.draw(st.integers(0, h - size))
    whole = np.atleast_3d(np.asarray(image.resize((w, h), Image.Resampling.BILINEAR))).transpose(2, 0, 1)
    out = crop(image, shorter, left, top, size)
    assert out.shape == (channels, size, size) and out.dtype == np.uint8
    difference = out.astype(int) - whole[:, top : top + size, left : left + size]
    # Pillow scales rows, then columns, and rounds to a byte after each; with the place of a box in float32 either rounding
    # may fall to the other side. A crop that is one pixel off differs by far more: these pictures are noise.
    assert np.abs(difference).max() <= 2


@given(sides, sides)
def test_scaling_keeps_proportions(width: int, height: int) -> None:
    w, h = scaled(width, height, 32)
    assert min(w, h) == 32 and (w - h) * (width - height) >= 0
    assert abs(w * height / width - h) <= 0.5 * max(1, height / width) + 1e-9


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (300, 300)])
def test_centre_crop_is_the_middle_of_the_picture_scaled_to_256(width: int, height: int) -> None:
    image = Image.fromarray(noise(height, width, 3))
    w, h = scaled(width, height, 256)
    whole = np.asarray(image.resize((w, h), Image.Resampling.BILINEAR)).transpose(2, 0, 1).astype(int)
    y, x = (h - 224) // 2, (w - 224) // 2
    assert np.abs(centre_crop(image, 224) - whole[:, y : y + 224, x : x + 224]).max() <= 1


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    upright = noise(5, 8, 3)
    # What a camera held that way stores, from the EXIF table: where the 0th row and the 0th column are.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(np.ascontiguousarray(stored)), tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(decode(path, 3)), upright)


def test_every_mode_becomes_what_people_see(tmp_path: Path) -> None:
    rgb, grey = noise(6, 7, 3), noise(6, 7)
    alpha = np.where(np.arange(7) < 3, 0, 255).astype(np.uint8)[None].repeat(6, 0)
    seen = np.where(alpha[..., None] == 0, 255, rgb)  # transparent parts show white
    rgba = Image.fromarray(np.dstack([rgb, alpha]))
    assert np.array_equal(np.asarray(decode(save(rgba, tmp_path / "rgba.png"), 3)), seen)
    assert np.array_equal(np.asarray(decode(save(Image.fromarray(rgb), tmp_path / "rgb.bmp"), 3)), rgb)
    la = Image.fromarray(np.dstack([grey, alpha]))
    assert la.mode == "LA"
    assert np.array_equal(
        np.asarray(decode(save(la, tmp_path / "la.png"), 1)), seen_grey := np.where(alpha == 0, 255, grey)
    )
    assert np.array_equal(np.asarray(decode(tmp_path / "la.png", 3)), seen_grey[..., None].repeat(3, 2))
    palette = Image.fromarray((grey % 4).astype(np.uint8), mode=None).convert("P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 9, 9])
    table = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [9, 9, 9]], np.uint8)
    index = np.asarray(palette)
    assert np.array_equal(np.asarray(decode(save(palette, tmp_path / "p.png"), 3)), table[index])
    table[2] = 255
    assert np.array_equal(np.asarray(decode(save(palette, tmp_path / "pt.png", transparency=2), 3)), table[index])
    bits = Image.fromarray(grey > 127)
    assert np.array_equal(np.asarray(decode(save(bits, tmp_path / "1.png"), 1)), np.where(grey > 127, 255, 0))
    deep = grey.astype(np.uint16) * 256 + 77
    for name in ("16.png", "16.tif"):
        assert np.array_equal(np.asarray(decode(save(Image.fromarray(deep), tmp_path / name), 1)), grey)
    (tmp_path / "16.pgm").write_bytes(b"P5 7 6 65535\n" + deep.astype(">u2").tobytes())
    assert np.array_equal(np.asarray(decode(tmp_path / "16.pgm", 1)), grey)
    cmyk = Image.fromarray(rgb).convert("CMYK")
    assert decode(save(cmyk, tmp_path / "c.jpg"), 3).mode == "RGB"
    frames = [Image.new("L", (3, 3), v) for v in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.asarray(decode(tmp_path / "a.gif", 1)).max() == 10


def png(width: int, height: int) -> bytes:
    """A PNG file that announces a picture and holds none."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("empty.png", b""),
        ("text.jpg", b"no picture at all"),
        ("cut.png", png(8, 8)),
        ("bomb.png", png(60_000, 60_000)),
        ("gone.png", None),
    ],
)
def test_damaged_files_are_named_on_one_line(tmp_path: Path, name: str, body: bytes | None) -> None:
    if body is not None:
        (tmp_path / name).write_bytes(body)
    with pytest.raises(OnebitError, match=name) as caught:
        decode(tmp_path / name, 3)
    assert "\n" not in str(caught.value) and "replace or remove" in str(caught.value)


def test_folders_and_floating_point_pictures_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(OnebitError, match="floating-point"):
        decode(tmp_path / "f.tif", 3)
    with pytest.raises(OnebitError, match="not a readable picture"):
        decode(tmp_path, 3)


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
