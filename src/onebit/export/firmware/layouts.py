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

Family = Literal["any", "few", "nibble", "helium"]
SourceType = Literal["pixels", "u8", "i16"]
ANY_GROUPS = 32  # OBF_ANY_GROUPS
HELIUM_PIXELS = 128  # that a band has at most, beside those that a stride leaves out


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
    if family == "any":
        return True
    if family == "few":
        return shape.kernel == (3, 3) and shape.stride == 1 and shape.source[0] <= 3
    if shape.kernel != (3, 3) or not shape.reads_activations:
        return False
    return shape.zero == 0 if family == "helium" else shape.stride in (1, 2)


def weights(family: Family, shape: ConvShape, bits: NDArray[np.uint8]) -> bytes:
    """The weights in the kernel's order, from rows of bits as the packed file has them (uint8 [O, ceil(inputs / 8)])."""
    if family == "any":
        return bits.tobytes()
    if family == "few":  # one little-endian word an output; its bits are in the right order already
        return np.pad(bits, ((0, 0), (0, 4 - bits.shape[1]))).tobytes()
    channels, outputs = shape.source[0], len(bits)
    ones = np.unpackbits(bits, axis=1, count=shape.inputs, bitorder="little").reshape(outputs, 3, 3, channels)
    if family == "helium":  # [output, row, 16 channels by 16, column, 16]
        rows = np.pad(ones, ((0, 0), (0, 0), (0, 0), (0, _vectors(shape) - channels)))
        order = rows.reshape(outputs, 3, 3, -1, 16).transpose(0, 1, 3, 2, 4)
        return np.packbits(order.reshape(outputs, -1), axis=1, bitorder="little").tobytes()
    assert family == "nibble"
    padded = np.zeros((outputs, 3, 3, 4 * _groups(shape)), np.uint8)
    padded[..., :channels] = ones
    # [output, row, group, column, 4]: a group's three taps one behind the other, the lowest bit first
    order = padded.reshape(outputs, 3, 3, -1, 4).transpose(0, 1, 3, 2, 4)
    packed = np.packbits(order.reshape(outputs, -1), axis=1, bitorder="little").tobytes()
    if shape.zero:  # the sum of +-(x - zero) is that of +-x less this
        packed += (shape.zero * (2 * ones.sum((1, 2, 3), dtype=np.int64) - shape.inputs)).astype("<i4").tobytes()
    return packed + bytes(4)  # the kernel loads words of which it needs three bytes


def chunks(family: Family, shape: ConvShape, by_row: bool) -> list[int]:
    """How much a kernel may do at a time, the one that needs the least scratch memory first, the best last: of how many pairs
    of groups of four channels nibble has tables (0: all), for how many rows helium spreads weights. Others know only 0.

    `by_row`: the kernel is called row by row, which builds the tables anew for each; only then a part of the channels pays.
    """
    if family == "helium":  # rows of a band
        return [1 if by_row else _band(shape)]
    parts = range(1, min(_groups(shape) // 2, 256)) if family == "nibble" and by_row else ()
    return sorted([*parts, 0], key=lambda chunk: scratch(family, shape, chunk))


def tables(shape: ConvShape, chunk: int, rows: int) -> int:
    """How many tables the nibble kernel builds, called for `rows` rows at a time."""
    height, tuples = shape.out[1], -(-shape.out[2] // 4)
    at_once = 1 if chunk else rows  # of a part of the channels they are built anew for each row
    built = sum((min(at_once, height - y) - 1) * shape.stride + 3 for y in range(0, height, at_once))
    return built * (shape.stride + 3) * -(-tuples // 2) * _groups(shape)


def scratch(family: Family, shape: ConvShape, chunk: int) -> int:
    """Bytes of scratch memory, 8-byte aligned."""
    if family == "any":
        chunked = shape.inputs > 4 * ANY_GROUPS
        return 64 * ANY_GROUPS + (4 * shape.out[0] if chunked else 0)
    if family == "few":
        return 3 * 4 * (-(-shape.out[2] // 4) * 4 + 2) << shape.source[0]
    if family == "helium":  # two outputs' weights as bytes, staged rows and totals, sums and what they begin with
        band, width = max(chunk, 1), -(-shape.out[2] // 4) * 4
        places = width + 2 if shape.stride == 1 else 3 * width
        staged = (band - 1) * shape.stride + 3
        rows = staged * (places * _vectors(shape) + 4 * width) + 4 * places
        return 18 * _vectors(shape) + rows + 13 * band * width
    assert family == "nibble"
    groups = 2 * chunk or _groups(shape)
    group = 512 if shape.stride == 1 else 768  # nibble.h, GROUP_1 and GROUP_2
    return 3 * (group * groups + 16 * (3 + shape.stride)) + (32 * shape.out[0] if chunk else 0)


def _band(shape: ConvShape) -> int:
    """Rows of the output for which the helium kernel spreads weights at once; more of them would gain next to nothing."""
    return min(shape.out[1], max(1, HELIUM_PIXELS // (shape.stride**2 * shape.out[2])))


def _groups(shape: ConvShape) -> int:
    """Of four input channels: an even number of them."""
    return -(-shape.source[0] // 8) * 2


def _vectors(shape: ConvShape) -> int:
    """Input channels, filled up to vectors of 16."""
    return -(-shape.source[0] // 16) * 16
