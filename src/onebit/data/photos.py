"""Photographs of any size in mini-batches: the crops that the ResNet paper trains and tests with.

Scales are given for crops of 224 pixels; for another size every scale changes in proportion (`pictures.side`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from onebit.data.pictures import TEST_SCALE, centre_crop, crop, decode, scaled, side
from onebit.errors import OnebitError

TRAIN_SCALES = (256, 480)  # the shorter side is uniform between these
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


def random_crop(image: Image.Image, size: int, flip: bool, seed: int) -> NDArray[np.uint8]:
    """A training crop, uint8 [C, size, size]: random scale, random position, mirrored half of the time if ``flip``."""
    drawn = random.Random(seed)
    shorter = drawn.randint(*(side(scale, size) for scale in TRAIN_SCALES))
    pixels = _crop_anywhere(image, shorter, size, drawn)
    mirror = drawn.random() < 0.5
    return np.ascontiguousarray(pixels[:, :, ::-1]) if flip and mirror else pixels


def many_crops(image: Image.Image, size: int, seed: int) -> NDArray[np.uint8]:
    """uint8 [25, C, size, size]: 5 scales with 5 random positions each."""
    drawn = random.Random(seed)
    sides = [side(scale, size) for scale in MULTI_SCALES for _ in range(POSITIONS)]
    return np.stack([_crop_anywhere(image, shorter, size, drawn) for shorter in sides])


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
        image = decode(self.paths[index], self.channels, enough=side(largest, self.size))
        if job.kind == "train":
            return random_crop(image, self.size, job.flip, mix(job.seed, index))
        if job.kind == "25":
            return many_crops(image, self.size, mix(job.seed, index))
        return centre_crop(image, self.size)
