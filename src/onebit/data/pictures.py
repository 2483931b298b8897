"""Pictures of any size and type: decoding, and how they are made to fit a network. No torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from onebit.data.folder import PICTURES
from onebit.errors import OnebitError, nearest, reason

REFERENCE = 224  # the crop that scales are given for
TEST_SCALE = 256  # the shorter side that the test crop is cut out of
FITS = ("square", "crop")


def decode(path: Path | str, channels: int, enough: int = 0) -> Image.Image:
    """The picture in a file as RGB, or as grey where ``channels`` is 1, upright as its EXIF data say.

    Transparent parts show white; 16-bit pictures keep their upper byte; of an animation the first picture is taken.
    A picture of which a shorter side of ``enough`` pixels suffices (0: all of it) may come at 1/2, 1/4 or 1/8 of its
    size: JPEG files hold those, and a photo of 12 million pixels decodes ten times as fast.

    Raises OnebitError that names the file where it is missing, damaged or not a picture.

    >>> import io
    >>> file = io.BytesIO()
    >>> Image.new("RGBA", (4, 3)).save(file, "PNG")
    >>> decode(file, 3).getpixel((0, 0))
    (255, 255, 255)
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # harmless oddities of EXIF data, once a file and epoch
            with Image.open(path) as opened:
                if enough:
                    opened.draft(None, (enough, enough))  # type: ignore[arg-type]  # None: keep the mode
                opened.load()
                image = ImageOps.exif_transpose(opened)
            if image.mode == "F":
                raise ValueError("its pixels are floating-point numbers of unknown range")
            if image.mode.startswith("I"):  # 16 bits: Pillow would clip the values instead of scaling them
                upper = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255)
                image = Image.fromarray(upper.astype(np.uint8))
            elif "A" in image.getbands() or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image.convert("L" if channels == 1 else "RGB")
    except Exception as error:  # Pillow's many decoders raise errors of every kind for damaged input
        raise OnebitError(f"{path}: not a readable picture ({reason(error)}); replace or remove the file") from None


def side(scale: int, size: int) -> int:
    """A shorter side that is ``scale`` for crops of 224 pixels, for crops of ``size``.

    >>> side(256, 112)
    128
    """
    return round(scale * size / REFERENCE)


def scaled(width: int, height: int, shorter: int) -> tuple[int, int]:
    """Width and height once the shorter side is ``shorter`` pixels.

    >>> scaled(500, 375, 256)
    (341, 256)
    """
    if width <= height:
        return shorter, max(shorter, round(height * shorter / width))
    return max(shorter, round(width * shorter / height)), shorter


def crop(image: Image.Image, shorter: int, left: int, top: int, size: int) -> NDArray[np.uint8]:
    """uint8 [C, size, size]: the picture scaled to a shorter side, then cut at (left, top).

    >>> crop(Image.new("L", (40, 30), 7), shorter=15, left=12, top=7, size=8).tolist() == [[[7] * 8] * 8]
    True
    """
    width, height = scaled(image.width, image.height, shorter)
    # Only the part that is kept gets resampled; the filter still sees the pixels around it.
    x, y = image.width / width, image.height / height
    box = (left * x, top * y, min((left + size) * x, image.width), min((top + size) * y, image.height))
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def centre_crop(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The test crop, uint8 [C, size, size]: the shorter side at 256/224 of ``size``, its middle cut out."""
    shorter = side(TEST_SCALE, size)
    width, height = scaled(image.width, image.height, shorter)
    return crop(image, shorter, (width - size) // 2, (height - size) // 2, size)


def check_fit(shape: tuple[int, int, int], how: str) -> None:
    """OnebitError where no picture file can be made to fit: a model of other than 1 or 3 channels, an unknown `how`."""
    if shape[0] not in (1, 3):
        raise OnebitError(
            f"the model takes {shape[0]} channels: a picture file gives 1 or 3; use onebit.load in Python"
        )
    if how not in FITS:
        raise OnebitError(f"pictures are to be fitted as {how!r}, which is unknown: {nearest(how, FITS)}")


def fitted(path: Path | str, shape: tuple[int, int, int], how: str = "square") -> NDArray[np.uint8]:
    """The picture in a file as a model takes it: uint8 [height, width, channels] for a `shape` (channels, height, width).

    "square": the largest centre part with the proportions of the model, resized by Pillow's Lanczos filter; a part that
    has the model's size is passed on bit for bit. "crop", for photographs: `centre_crop`, the test crop of training;
    of a model that is not square 224/256 of the largest centre part.

    Raises OnebitError: the file is missing, damaged or no picture, or `check_fit` refuses.

    >>> import io
    >>> file = io.BytesIO()
    >>> Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(file, "PNG")
    >>> fitted(file, (1, 3, 3))[..., 0]
    array([[ 0,  1,  2],
           [ 4,  5,  6],
           [ 8,  9, 10]], dtype=uint8)
    """
    check_fit(shape, how)
    channels, height, width = shape
    if how == "crop":
        image = decode(path, channels, enough=side(TEST_SCALE, max(height, width)))
        pixels = (
            centre_crop(image, width).transpose(1, 2, 0)
            if width == height
            else _resized(_part(image, width, height, REFERENCE / TEST_SCALE), width, height, Image.Resampling.BILINEAR)
        )
    else:
        # JPEG's own scaling is coarser than Lanczos: leave the filter a factor of 4 to work on.
        image = decode(path, channels, enough=4 * max(height, width))
        pixels = _resized(_part(image, width, height), width, height, Image.Resampling.LANCZOS)
    return np.ascontiguousarray(pixels)


def _part(image: Image.Image, width: int, height: int, share: float = 1.0) -> Image.Image:
    """The largest centre part with the proportions of width x height, or `share` of it; at least one pixel."""
    unit = share * min(image.width / width, image.height / height)
    w, h = (max(1, min(limit, round(unit * n))) for limit, n in ((image.width, width), (image.height, height)))
    left, top = (image.width - w) // 2, (image.height - h) // 2
    return image.crop((left, top, left + w, top + h))


def _resized(image: Image.Image, width: int, height: int, method: Image.Resampling) -> NDArray[np.uint8]:
    pixels = np.asarray(image if image.size == (width, height) else image.resize((width, height), method))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def border(pixels: NDArray[np.uint8]) -> float:
    """How bright the outermost ring of a picture uint8 [H, W, C] is: the median of its numbers.

    >>> border(np.full((3, 3, 1), 200, np.uint8))
    200.0
    """
    ring = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    return float(np.median(np.concatenate(ring)))


def expand(paths: Iterable[Path]) -> list[Path]:
    """Files as they are; of a folder all its pictures, those in subfolders too, by name. Hidden ones are left out.

    Raises OnebitError for a folder without pictures.
    """
    found: list[Path] = []
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = sorted(
                p for p in path.rglob("*") if p.suffix.lower() in PICTURES and not _hidden(p.relative_to(path))
            )
            if not inside:
                raise OnebitError(f"{path}: holds no picture ({', '.join(sorted(PICTURES))}); name another folder")
        found += inside
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
