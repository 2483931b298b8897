"""What each convolution kernel of core/firmware takes, how it wants its weights, and how much scratch memory it needs.

A kernel family is one C function (`core/firmware/firmware.h`); the planner picks one for each convolution. What is said here
and what the C does must agree to the byte.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Family = Literal["any", "nibble", "helium"]
SourceType = Literal["pixels", "u8", "i16"]
ANY_GROUPS = 32  # OBF_ANY_GROUPS


@dataclass(frozen=True)
class ConvShape:
    """A convolution as the kernels see it. Shapes are channels, height, width."""

    source: tuple[int, int, int]
    out: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: int
    top: int
    left: int
    source_type: SourceType
    reads_norm: bool  # a batch-norm is applied to every number read
    zero: int  # of the value read
    limit: int  # its largest number; 0 if it may be negative

    @property
    def inputs(self) -> int:
        """Weights of one output channel."""
        return math.prod(self.kernel) * self.source[0]

    @property
    def reads_activations(self) -> bool:
        """Is what it computes with unsigned 8-bit?"""
        return self.reads_norm or self.source_type == "u8"


def takes(family: Family, shape: ConvShape) -> bool:
    """Can the kernel run this convolution?"""
    return family == "any"


def weights(family: Family, shape: ConvShape, bits: NDArray[np.uint8]) -> bytes:
    """The weights in the kernel's order, from rows of bits as the packed file has them (uint8 [O, ceil(inputs / 8)])."""
    assert family == "any"
    return bits.tobytes()


def columns(family: Family, shape: ConvShape) -> tuple[int, ...]:
    """The widths that the kernel's window of tables may have, the narrowest first; (0,) where it has no window."""
    return (0,)


def scratch(family: Family, shape: ConvShape, columns: int) -> int:
    """Bytes of scratch memory, 8-byte aligned."""
    assert family == "any"
    chunked = shape.inputs > 4 * ANY_GROUPS
    return 64 * ANY_GROUPS + (4 * shape.out[0] if chunked else 0)
