"""Photographs of any size: decoding, and the crops that the ResNet paper trains and tests with.

Pictures are cropped at 224 pixels out of scales given for 224; for another size every scale changes in proportion.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from onebit.errors import OnebitError, reason

REFERENCE = 224  # the crop that the scales below are given for
TRAIN_SCALES = (256, 480)  # the shorter side is uniform between these
TEST_SCALE = 256
MULTI_SCALES = (224, 256, 384, 480, 640)
POSITIONS = 5  # random crops at each of them


def mix(*numbers: int) -> int:
    """A 64-bit seed out of a few integers (a splitmix64 chain): independent streams for neighbouring counters.

    >>> mix(0, 1) == mix(0, 1), mix(0, 1) == mix(1, 0), mix(0) == mix(0, 0)
    (True, False, False)
    """
    mask = 2**64 - 1
    state = len(numbers)
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state


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


def _pixels(scale: int, size: int) -> int:
    """A shorter side that is ``scale`` for crops of 224 pixels, for crops of ``size``."""
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


def random_crop(image: Image.Image, size: int, flip: bool, seed: int) -> NDArray[np.uint8]:
    """A training crop, uint8 [C, size, size]: random scale, random position, mirrored half of the time if ``flip``."""
    drawn = random.Random(seed)
    shorter = drawn.randint(*(_pixels(scale, size) for scale in TRAIN_SCALES))
    pixels = _crop_anywhere(image, shorter, size, drawn)
    mirror = drawn.random() < 0.5
    return np.ascontiguousarray(pixels[:, :, ::-1]) if flip and mirror else pixels


def centre_crop(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The test crop, uint8 [C, size, size]: the shorter side at 256/224 of ``size``, its middle cut out."""
    shorter = _pixels(TEST_SCALE, size)
    width, height = scaled(image.width, image.height, shorter)
    return crop(image, shorter, (width - size) // 2, (height - size) // 2, size)


def many_crops(image: Image.Image, size: int, seed: int) -> NDArray[np.uint8]:
    """uint8 [25, C, size, size]: 5 scales with 5 random positions each."""
    drawn = random.Random(seed)
    sides = [_pixels(scale, size) for scale in MULTI_SCALES for _ in range(POSITIONS)]
    return np.stack([_crop_anywhere(image, side, size, drawn) for side in sides])


def _crop_anywhere(image: Image.Image, shorter: int, size: int, drawn: random.Random) -> NDArray[np.uint8]:
    width, height = scaled(image.width, image.height, shorter)
    return crop(image, shorter, drawn.randint(0, width - size), drawn.randint(0, height - size), size)


class Job(NamedTuple):
    """One mini-batch to decode."""

    indices: tuple[int, ...]
    kind: str  # "train": random crop; "centre"; "25"
    seed: int  # the crop of a photo is drawn from mix(seed, index)
    flip: bool = False


class PhotoBatches(Dataset[Tensor | str]):
    """Decodes whole mini-batches: ``self[job]`` is uint8 [N, C, size, size] ([N, 25, C, size, size] for "25").

    A damaged picture gives the text of the error instead: an exception would reach the user wrapped in the traceback
    of the worker process.

    >>> PhotoBatches([Path("gone.png")], size=8, channels=3)[Job((0,), "centre", seed=0)]
    'gone.png: not a readable picture (No such file or directory); replace or remove the file'
    """

    def __init__(self, paths: Sequence[Path], size: int, channels: int) -> None:
        if size < 1:
            raise OnebitError(f"data.size: {size} for photographs of any size; give their side, as in --set size=224")
        self.paths, self.size, self.channels = paths, size, channels

    def __getitem__(self, job: Job) -> Tensor | str:
        try:
            pictures = [self._picture(index, job) for index in job.indices]
        except OnebitError as error:
            return str(error)
        if not pictures:  # a rank's share of a last mini-batch smaller than the number of ranks
            return torch.zeros(0, self.channels, self.size, self.size, dtype=torch.uint8)
        return torch.from_numpy(np.stack(pictures))

    def _picture(self, index: int, job: Job) -> NDArray[np.uint8]:
        largest = {"train": TRAIN_SCALES[1], "25": MULTI_SCALES[-1], "centre": TEST_SCALE}[job.kind]
        image = decode(self.paths[index], self.channels, enough=_pixels(largest, self.size))
        if job.kind == "train":
            return random_crop(image, self.size, job.flip, mix(job.seed, index))
        if job.kind == "25":
            return many_crops(image, self.size, mix(job.seed, index))
        return centre_crop(image, self.size)
