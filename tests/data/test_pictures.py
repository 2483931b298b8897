"""Pictures against Pillow on whole pictures and NumPy on pixels; odd and damaged files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from onebit.data.dataset import Arrays
from onebit.data.pictures import border, centre_crop, crop, decode, expand, fitted, scaled
from onebit.errors import OnebitError


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


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


def same_size(tmp: Path, pixels: np.ndarray, **options: Any) -> Path:
    return save(Image.fromarray(pixels), tmp / "same.png", **options)


@pytest.mark.parametrize("how", ["square", "crop"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8), (3, 6, 12), (1, 12, 6)])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 90), (90, 1), (5, 3), (12, 6), (300, 200)])
def test_any_picture_fits_any_model(
    tmp_path: Path, how: str, shape: tuple[int, int, int], width: int, height: int
) -> None:
    path = save(Image.fromarray(noise(height, width, 3)), tmp_path / "a.png")
    pixels = fitted(path, shape, how)
    assert pixels.shape == (*shape[1:], shape[0]) and pixels.dtype == np.uint8 and pixels.flags.c_contiguous


def test_square_leaves_pixels_alone_that_need_no_scaling(tmp_path: Path) -> None:
    rgb, wide = noise(8, 8, 3), noise(8, 13, 3)
    assert np.array_equal(fitted(same_size(tmp_path, rgb), (3, 8, 8)), rgb)
    assert np.array_equal(fitted(same_size(tmp_path, wide), (3, 8, 8)), wide[:, 2:10])
    assert np.array_equal(fitted(same_size(tmp_path, wide), (3, 8, 13)), wide)
    grey = noise(8, 8)
    assert np.array_equal(fitted(same_size(tmp_path, grey), (1, 8, 8))[..., 0], grey)
    assert np.array_equal(fitted(same_size(tmp_path, grey), (3, 8, 8)), grey[..., None].repeat(3, 2))


def test_one_channel_is_the_grey_of_the_data_sets(tmp_path: Path) -> None:
    rgb = noise(64, 64, 3)
    grey = Arrays(rgb.transpose(2, 0, 1)[None], np.zeros(1, np.int64)).grey().images[0, 0]
    assert np.array_equal(fitted(same_size(tmp_path, rgb), (1, 64, 64))[..., 0], grey)


def test_square_keeps_the_mean_of_what_it_shrinks(tmp_path: Path) -> None:
    """Fine stripes become their mean: without a filter they would become all of one colour, or moiré."""
    stripes = np.zeros((96, 128), np.uint8)
    stripes[:, ::2] = 200
    pixels = fitted(same_size(tmp_path, stripes), (1, 16, 16)).astype(int)
    assert np.abs(pixels - 100).max() <= 8


@pytest.mark.parametrize(("width", "height"), [(500, 375), (300, 600), (40, 40)])
def test_crop_is_the_test_crop_of_training(tmp_path: Path, width: int, height: int) -> None:
    path = save(Image.fromarray(noise(height, width, 3)), tmp_path / "a.jpg")
    enough = 37  # 256/224 of 32
    want = centre_crop(decode(path, 3, enough=enough), 32)
    assert np.array_equal(fitted(path, (3, 32, 32), "crop").transpose(2, 0, 1), want)


def test_crop_of_a_model_that_is_not_square_is_the_middle(tmp_path: Path) -> None:
    y, x = np.mgrid[:256, :512]
    picture = np.stack([x // 2, y, 0 * x], 2).astype(np.uint8)
    pixels = fitted(save(Image.fromarray(picture), tmp_path / "a.png"), (3, 112, 224), "crop").astype(int)
    assert np.abs(pixels[0, :, 1].mean() - 16) <= 2 and np.abs(pixels[-1, :, 1].mean() - 239) <= 2
    assert np.abs(pixels[:, 0, 0].mean() - 16) <= 2 and np.abs(pixels[:, -1, 0].mean() - 239) <= 2


def test_models_and_fits_that_no_picture_has_are_refused(tmp_path: Path) -> None:
    path = save(Image.new("L", (4, 4)), tmp_path / "a.png")
    with pytest.raises(OnebitError, match="2 channels"):
        fitted(path, (2, 4, 4))
    with pytest.raises(OnebitError, match="did you mean 'square'"):
        fitted(path, (1, 4, 4), "sqare")


def test_border_is_the_outermost_ring() -> None:
    pixels = np.zeros((6, 5, 3), np.uint8)
    pixels[1:-1, 1:-1] = 255
    assert border(pixels) == 0 and border(255 - pixels) == 255
    assert border(np.full((1, 1, 1), 9, np.uint8)) == 9


def test_folders_expand_to_their_pictures_by_name(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "sub/c.gif", ".hidden.png", ".git/d.png", "notes.txt"):
        (tmp_path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "f" / name).touch()
    lone = tmp_path / "lone.txt"  # named by the user: tried, whatever it is called
    names = [p.relative_to(tmp_path).as_posix() for p in expand([lone, tmp_path / "f"])]
    assert names == ["lone.txt", "f/a.JPG", "f/b.png", "f/sub/c.gif"]
    assert expand([tmp_path / "f" / ".git"]) == [tmp_path / "f" / ".git" / "d.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(OnebitError, match="empty: holds no picture"):
        expand([tmp_path / "empty"])
