"""Augmentation of whole batches on the device that trains: flip, padded crop, cutout (PAPER, "Training").

A batch is augmented in two steps. ``draw`` takes everything random from the generator; ``apply`` moves pixels and is
deterministic. So the ranks of a distributed run can draw for the global batch and apply their own slice of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onebit.errors import OnebitError, nearest

FILLS = ("random", "zero")


@dataclass(frozen=True)
class Augment:
    """What is done to a training image; the fields are those of ``onebit.recipe.Data``.

    Raises OnebitError for a negative size or an unknown fill.
    """

    flip: bool = False  # mirror left and right with probability 1/2
    pad: int = 0  # shift by -pad..pad pixels in x and in y, uniform and independent
    pad_fill: str = "random"  # what enters at the border: "random" (uniform integers 0..255) or "zero"
    cutout: int = 0  # side of a square patch that may hang over the border; 0: none
    cutout_fill: str = "random"

    def __post_init__(self) -> None:
        for field in ("pad", "cutout"):
            if getattr(self, field) < 0:
                raise OnebitError(f"data.{field}: {getattr(self, field)} is negative; use 0 for none")
        for field in ("pad_fill", "cutout_fill"):
            if (fill := getattr(self, field)) not in FILLS:
                raise OnebitError(f"data.{field}: unknown fill {fill!r}; {nearest(fill, FILLS)}")

    @property
    def noise(self) -> bool:
        """True when some pixels are filled at random."""
        return (self.pad > 0 and self.pad_fill == "random") or (self.cutout > 0 and self.cutout_fill == "random")


@dataclass(frozen=True)
class Draw:
    """Everything random about N augmented images; None where the augmentation is off."""

    flip: Tensor | None  # bool [N]
    shift: Tensor | None  # int64 [N, 2]: rows, columns. Output pixel (y, x) shows image pixel (y + dy, x + dx)
    corner: Tensor | None  # int64 [N, 2]: top row and left column of the cutout patch, 0-based, may be negative
    noise: Tensor | None  # uint8 [N, C, H, W]: the value of each output pixel, if that pixel is filled at random

    def __getitem__(self, part: slice) -> Draw:
        """The same draw for some of the images."""
        cut = [None if t is None else t[part] for t in (self.flip, self.shift, self.corner, self.noise)]
        return Draw(*cut)


def draw(shape: tuple[int, int, int, int], spec: Augment, generator: torch.Generator) -> Draw:
    """All that is random about a batch of ``shape`` [N, C, H, W], on the generator's device.

    The patch corner is uniform over 1 - cutout .. H - 1 (columns: W - 1), so a patch covers at least one pixel and
    hangs over the border as often as the paper's does.

    >>> draw((2, 3, 32, 32), Augment(flip=True, pad=4), torch.Generator().manual_seed(0)).shift.shape
    torch.Size([2, 2])
    """
    count, _, height, width = shape
    device = generator.device

    def integers(low: int, high: int, size: tuple[int, ...]) -> Tensor:
        return torch.randint(low, high + 1, size, generator=generator, device=device)

    corner = None
    if spec.cutout:
        rows = integers(1 - spec.cutout, height - 1, (count,))
        corner = torch.stack((rows, integers(1 - spec.cutout, width - 1, (count,))), dim=1)
    return Draw(
        flip=integers(0, 1, (count,)).bool() if spec.flip else None,
        shift=integers(-spec.pad, spec.pad, (count, 2)) if spec.pad else None,
        corner=corner,
        noise=_random_bytes(shape, generator) if spec.noise else None,
    )


def apply(images: Tensor, drawn: Draw, spec: Augment) -> Tensor:
    """``images`` (uint8 [N, C, H, W]) flipped, shifted and patched as ``drawn``; the input is not changed."""
    count, channels, height, width = images.shape
    device = images.device
    rows = torch.arange(height, device=device).expand(count, height)
    columns = torch.arange(width, device=device).expand(count, width)
    out = images
    if drawn.shift is not None:
        rows = rows + drawn.shift[:, :1]
        columns = columns + drawn.shift[:, 1:]
    inside = _cross((rows >= 0) & (rows < height), (columns >= 0) & (columns < width))
    if drawn.flip is not None:
        columns = torch.where(drawn.flip[:, None], width - 1 - columns, columns)
    if drawn.flip is not None or drawn.shift is not None:
        # One gather moves every pixel: rows and columns of the source are combined into one index an image.
        source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
        source = source.reshape(count, 1, height * width).expand(count, channels, height * width)
        out = images.reshape(count, channels, height * width).gather(2, source).view(images.shape)
    if drawn.shift is not None:
        out = _fill(out, ~inside, drawn.noise, spec.pad_fill)
    if drawn.corner is not None:
        top, left = drawn.corner[:, :1], drawn.corner[:, 1:]
        y, x = torch.arange(height, device=device), torch.arange(width, device=device)
        patch = _cross((y >= top) & (y < top + spec.cutout), (x >= left) & (x < left + spec.cutout))
        out = _fill(out, patch, drawn.noise, spec.cutout_fill)
    return out


def augment(images: Tensor, spec: Augment, generator: torch.Generator) -> Tensor:
    """A randomly flipped, shifted and patched copy of a uint8 batch [N, C, H, W], on its device.

    ``generator`` must be on the device of the images. With everything off the images come back as they are.

    >>> batch = torch.zeros(125, 3, 32, 32, dtype=torch.uint8)
    >>> augment(batch, Augment(flip=True, pad=4, cutout=18), torch.Generator().manual_seed(0)).shape
    torch.Size([125, 3, 32, 32])
    """
    count, channels, height, width = images.shape
    return apply(images, draw((count, channels, height, width), spec, generator), spec)


def _cross(rows: Tensor, columns: Tensor) -> Tensor:
    """bool [N, 1, H, W]: rows [N, H] and columns [N, W] both true."""
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _fill(images: Tensor, mask: Tensor, noise: Tensor | None, fill: str) -> Tensor:
    if fill == "zero":
        return images.masked_fill(mask, 0)
    assert noise is not None
    return torch.where(mask, noise, images)


def _random_bytes(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform uint8, drawn eight at a time: as 64-bit words, over their whole range."""
    count = 1
    for side in shape:
        count *= side
    words = torch.empty(-(-count // 8), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(torch.uint8)[:count].view(shape)
