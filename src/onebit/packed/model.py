"""A packed model to work with: pictures in, classes out. ``onebit.load(path)`` gives one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.packed import file, reference
from onebit.packed.calibration import softmax
from onebit.packed.program import Program

Layout = Literal["NHWC", "NCHW"]


class Model:
    """A packed network. No torch; every answer is the same on every machine, up to the last bit of the logits.

    Attributes: ``program`` (the operations), ``classes`` (names, in the order of the logits), ``about`` (data set, recipe,
    error, ... as text), ``shape`` (channels, height, width of a picture).
    """

    def __init__(self, packed: file.Packed) -> None:
        self.program: Program = packed.program
        self.classes: tuple[str, ...] = packed.classes
        self.about: dict[str, str] = packed.about

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.program.input.shape

    @property
    def scale(self) -> float:
        """What 1 in the integer logits stands for: a power of 2."""
        return 2.0**-self.program.logits.fraction

    @property
    def temperature(self) -> float:
        """What logits are divided by before the softmax; fitted on training pictures when the model was packed."""
        return (1 << 16) / self.program.logits.sharpness

    def integers(self, images: NDArray[np.uint8], layout: Layout = "NHWC") -> NDArray[np.int32]:
        """The logits as the program makes them: int32 [N, classes]. Arguments and errors as for `logits`."""
        return reference.run(self.program, self._pictures(images, layout))

    def logits(self, images: NDArray[np.uint8], layout: Layout = "NHWC") -> NDArray[np.float64]:
        """Logits float64 [N, classes] (exact) of raw pixels uint8 [N, H, W, C], or [N, C, H, W] with layout "NCHW".

        Pictures of one channel may come without that axis: [N, H, W]. Raises OnebitError where type or shape do not fit.
        """
        return self.integers(images, layout).astype(np.float64) * self.scale

    def probabilities(self, images: NDArray[np.uint8], layout: Layout = "NHWC") -> NDArray[np.float64]:
        """The probability of each class, float64 [N, classes], with the model's temperature."""
        return softmax(self.logits(images, layout) / self.temperature)

    def predict(self, images: NDArray[np.uint8], layout: Layout = "NHWC") -> list[str]:
        """The name of the likeliest class of each picture (of several with one logit, the first)."""
        return [self.classes[k] for k in self.integers(images, layout).argmax(1)]

    def _pictures(self, images: Any, layout: str) -> NDArray[np.uint8]:
        """Pictures as NHWC; OnebitError where they do not fit."""
        channels, height, width = self.shape
        if layout not in ("NHWC", "NCHW"):
            raise OnebitError(f"layout {layout!r} is unknown: NHWC or NCHW")
        given = np.asarray(images)
        if given.dtype != np.uint8:
            raise OnebitError(f"pictures are {given.dtype}; give raw pixels 0..255 as uint8, without any normalisation")
        if channels == 1 and given.shape[1:] == (height, width):
            given = given[..., None] if layout == "NHWC" else given[:, None]
        want = {"NHWC": (height, width, channels), "NCHW": (channels, height, width)}
        if given.ndim != 4 or given.shape[1:] != want[layout]:
            other = "NCHW" if layout == "NHWC" else "NHWC"
            remedy = ""
            if given.shape[1:] == want[other]:
                remedy = f"; say layout={other!r}"
            elif given.shape in (want[layout], (height, width)):
                remedy = "; a single picture is a stack of one: picture[None]"
            raise OnebitError(
                f"pictures have shape {given.shape}, the model takes [N, {', '.join(map(str, want[layout]))}] ({layout}){remedy}"
            )
        return given if layout == "NHWC" else given.transpose(0, 2, 3, 1)


def load(path: str | Path) -> Model:
    """Read a packed model.

    >>> load("no-such-model.onebit")
    Traceback (most recent call last):
    onebit.errors.OnebitError: no-such-model.onebit: cannot be read (No such file or directory); name a file that `onebit pack` wrote
    """
    return Model(file.load(Path(path)))
