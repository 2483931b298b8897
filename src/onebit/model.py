"""A packed model to work with: pictures in, classes out. ``onebit.load(path)`` gives one.

The C engine computes where it is installed, else the NumPy reference: the same numbers, about a hundred times slower. What only
the reference and curious people need is imported and read when they ask for it, so that loading takes milliseconds.
"""

from __future__ import annotations

import os
import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from onebit.engine import library
from onebit.engine.engine import Engine, Refused
from onebit.errors import OnebitError, OnebitWarning, reason
from onebit.packed.calibration import softmax

if TYPE_CHECKING:
    from pathlib import Path

    from onebit.packed.file import Packed
    from onebit.packed.program import Program

Layout = Literal["NHWC", "NCHW"]
REFERENCE = "reference"  # beside the instruction sets: NumPy


class Model:
    """A packed network. No torch; every answer is the same on every machine, up to the last bit of the logits.

    Attributes: ``engine`` (what computes it; None: the NumPy reference).
    """

    def __init__(self, model: Packed | str | Path, *, threads: int | None = None, isa: str | None = None) -> None:
        """A packed file, by its path, or what `onebit.pack` made (its ``packed``). Arguments and errors as for `load`."""
        self.engine: Engine | None = None
        wanted = _wants_engine(isa)
        if isinstance(model, tuple):
            self.packed = model
            if wanted:
                from onebit.packed import file

                self.engine = Engine(file.encode(*model), isa, threads)
        else:
            content = _read(model)
            # Enough to know the file again, and the texts of its header.
            self._path, self._length, self._crc = os.path.abspath(model), len(content), content[-4:]
            self._header = content[8 : 8 + int.from_bytes(content[:8], "little")] if wanted else b""
            if wanted:
                try:
                    self.engine = Engine(content, isa, threads)
                except Refused as error:
                    self._decode(content, model)  # its message says more
                    raise OnebitError(f"{model}: {error}") from None
            else:
                self.packed = self._decode(content, model)

    @cached_property
    def packed(self) -> Packed:
        """All that the file holds; read again when it is first asked for. Raises OnebitError where the file has changed."""
        content = _read(self._path)
        if (len(content), content[-4:]) != (self._length, self._crc):
            raise OnebitError(f"{self._path}: has changed since it was loaded; load it again")
        return self._decode(content, self._path)

    @property
    def program(self) -> Program:
        """The operations."""
        return self.packed.program

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the logits."""
        return self._texts[0]

    @cached_property
    def about(self) -> dict[str, str]:
        """Data set, recipe, error, ... as text."""
        return self._texts[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width of a picture."""
        if self.engine:
            s = self.engine.shape
            return s.channels, s.height, s.width
        return self.program.input.shape

    @property
    def scale(self) -> float:
        """What 1 in the integer logits stands for: a power of 2."""
        return 2.0 ** -(self.engine.shape if self.engine else self.program.logits).fraction

    @property
    def temperature(self) -> float:
        """What logits are divided by before the softmax; fitted on training pictures when the model was packed."""
        return (1 << 16) / (self.engine.shape if self.engine else self.program.logits).sharpness

    def integers(self, images: NDArray[np.uint8], layout: Layout = "NHWC") -> NDArray[np.int32]:
        """The logits as the program makes them: int32 [N, classes]. Arguments and errors as for `logits`."""
        pictures = self._pictures(images, layout)
        if self.engine:
            return self.engine.run(pictures)
        from onebit.packed import reference

        return reference.run(self.program, pictures)

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

    @cached_property
    def _texts(self) -> tuple[tuple[str, ...], dict[str, str]]:
        if "packed" in self.__dict__:
            return self.packed.classes, self.packed.about
        import json

        metadata = json.loads(self._header)["__metadata__"]  # the engine has checked it
        classes = tuple(json.loads(metadata["classes"]))
        return classes, {key: text for key, text in metadata.items() if key not in ("classes", "format")}

    @staticmethod
    def _decode(content: bytes, path: str | Path) -> Packed:
        from onebit.packed import file

        try:
            return file.decode(content)
        except OnebitError as error:
            raise OnebitError(f"{path}: not a valid packed model: {error}") from None


def load(path: str | Path, *, threads: int | None = None, isa: str | None = None) -> Model:
    """Read a packed model.

    Args:
        threads: that share the work on a picture; None: ONEBIT_THREADS, else one for each core that this process may use.
        isa: an instruction set by name (`onebit bench` prints those here), or "reference" for NumPy; None: ONEBIT_ISA, else
            the best of this CPU.

    Warns (OnebitWarning) where the engine is missing. Raises OnebitError for a file that is missing, damaged, newer or no
    packed model, and for an instruction set that is not here.

    >>> load("no-such-model.onebit")
    Traceback (most recent call last):
    onebit.errors.OnebitError: no-such-model.onebit: cannot be read (No such file or directory); name a file that `onebit pack` wrote
    """
    return Model(path, threads=threads, isa=isa)


def _read(path: str | Path) -> bytes:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 1 << 31:
                return file.read()
    except OSError as error:
        raise OnebitError(f"{path}: cannot be read ({reason(error)}); name a file that `onebit pack` wrote") from None
    raise OnebitError(
        f"{path}: not a valid packed model: it has {size} bytes, a packed file has at most {(1 << 31) - 1}"
    )


def _wants_engine(isa: str | None) -> bool:
    """Shall the engine compute, rather than NumPy? Warns where it should and is not there."""
    asked = isa or os.environ.get("ONEBIT_ISA")
    if asked == REFERENCE:
        return False
    if asked or library.available():
        return True  # without a library asking for an instruction set is an error
    warnings.warn(
        f"packed models run in NumPy, exactly, but about 100 times slower: {library.missing()}",
        OnebitWarning,
        stacklevel=4,
    )
    return False
