"""How well a packed model does on labelled pictures, alone and beside the network in real numbers that it was made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.data.dataset import Arrays, Files
from onebit.data.pictures import fitted
from onebit.errors import OnebitError
from onebit.model import Model
from onebit.packed.calibration import calibration_error, softmax
from onebit.packed.program import Norm, Program

# Of the difference of the logits, in their deviations, by the width of activations. Rounding moves an activation by a whole
# level now and then: with levels 8 times as coarse 8 times less often, which makes sqrt(8) times the difference.
RMS_BOUNDS = {8: 0.03, 4: 0.085}
Progress = Callable[[int, int], object]  # pictures done, of how many


@dataclass(frozen=True)
class Score:
    """Counts over a test set; expected calibration errors of the plain softmax and with the model's temperature."""

    images: int
    wrong: int
    wrong_top5: int
    calibration_plain: float
    calibration: float
    confusion: list[list[int]]  # [true class][predicted class]

    @property
    def error(self) -> float:
        """Top-1 error in percent."""
        return 100 * self.wrong / self.images

    @property
    def top5_error(self) -> float:
        return 100 * self.wrong_top5 / self.images


@dataclass(frozen=True)
class Comparison:
    """Two sets of logits of the same pictures: `float_` of the network in real numbers, `packed` of its program."""

    images: int
    float_wrong: int
    packed_wrong: int
    changed: int  # pictures that only one of the two has right
    agreed: int  # pictures with the same likeliest class
    rms: float  # of the difference of the logits, over the deviation of the float ones
    largest: float  # difference of two logits
    rms_bound: float = RMS_BOUNDS[8]

    @property
    def float_error(self) -> float:
        return 100 * self.float_wrong / self.images

    @property
    def packed_error(self) -> float:
        return 100 * self.packed_wrong / self.images

    @property
    def bound(self) -> float:
        """Points by which the errors may differ: two deviations of a random walk of `changed` steps, at least 0.05."""
        return max(0.05, 200 * math.sqrt(self.changed) / self.images)

    @property
    def agreement(self) -> float:
        return 100 * self.agreed / self.images

    @property
    def good(self) -> bool:
        """Is the difference of the errors within `bound`, and that of the logits within `rms_bound`?"""
        return abs(self.packed_error - self.float_error) <= self.bound and self.rms <= self.rms_bound

    def facts(self) -> dict[str, Any]:
        """All of it, for JSON."""
        derived = ("float_error", "packed_error", "bound", "agreement", "good")
        return asdict(self) | {name: getattr(self, name) for name in derived}


def compare(
    float_logits: NDArray[Any], packed_logits: NDArray[Any], labels: NDArray[np.int64], bits: int = 8
) -> Comparison:
    """Compare logits [N, classes] of the same pictures with labels [N]; `bits` is the width of the packed activations.

    >>> same = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> compare(same, same, np.array([0, 0])).facts()["packed_error"]
    50.0
    """
    f, q = float_logits.astype(np.float64), packed_logits.astype(np.float64)
    before, after = f.argmax(1), q.argmax(1)
    difference = q - f
    return Comparison(
        len(labels), int((before != labels).sum()), int((after != labels).sum()),
        int(((before == labels) != (after == labels)).sum()), int((before == after).sum()),
        float(np.sqrt((difference**2).mean()) / max(f.std(), 1e-30)), float(np.abs(difference).max()), RMS_BOUNDS[8 if bits > 4 else 4],
    )  # fmt: skip


def activation_bits(program: Program) -> int:
    """The width of the narrowest activation; 8 where there is none."""
    return min((op.limit.bit_length() for op in program.operations if isinstance(op, Norm)), default=8)


def score(model: Model, logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Score:
    """What logits [N, classes] of a packed model are worth."""
    classes = len(model.classes)
    predicted = logits.argmax(1)
    top5 = np.argsort(-logits, 1, kind="stable")[:, :5]
    confusion = np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    return Score(
        len(labels), int((predicted != labels).sum()), int((top5 != labels[:, None]).all(1).sum()),
        calibration_error(softmax(logits), labels), calibration_error(softmax(logits / model.temperature), labels),
        confusion.tolist(),
    )  # fmt: skip


def batches(
    split: Arrays | Files, channels: int, size: int, batch: int = 50
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Pictures uint8 [N, C, H, W] and labels of a split, photographs at the crop that they are tested with."""
    for start in range(0, len(split), batch):
        part = split.take(np.arange(start, min(start + batch, len(split))))
        if isinstance(part, Arrays):
            yield part.images, part.labels
        else:
            crops = [fitted(path, (channels, size, size), "crop") for path in part.paths]
            yield np.stack(crops).transpose(0, 3, 1, 2), part.labels


def logits_of(model: Model, split: Arrays | Files, progress: Progress = lambda done, of: None) -> NDArray[np.float64]:
    """Logits float64 [N, classes] of all pictures of a split. Raises OnebitError where their shape does not fit."""
    channels, height, width = model.shape
    if height != width:
        raise OnebitError(f"the model takes pictures of {height}x{width}; data sets hold square ones")
    out, done = [np.zeros((0, len(model.classes)))], 0
    for images, labels in batches(split, channels, height):
        out.append(model.logits(images, "NCHW"))
        done += len(labels)
        progress(done, len(split))
    return np.concatenate(out)
