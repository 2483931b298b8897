"""Real numbers to the integers of an operation. All rounding happens here, in float64: halves go up."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.packed.chain import Chain
from onebit.packed.program import INT32

FAR = 2.0**40  # stands for infinity: far beyond 16 bits, and whole numbers around it are exact


def norm_constants(
    chain: Chain, spread: float | NDArray[np.float64], source_step: float, step: float, zero: int, limit: int
) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int16]]:
    """Mean, multiplier and offset (int16 [C] each) of a `program.Norm` that computes `chain` in steps of `step`.

    `spread`: how far from its centre x may be; `source_step`: the step of x.
    """
    multiplier = np.clip(whole(2.0**15 * chain.gain * source_step / step), -32767, 32767)
    # From here on the multiplier is what it is, so that its rounding (or limit, where x hardly varies) does no harm at
    # the centre: there the result is `level`.
    level, slope = chain.offset / step, multiplier / 2.0**15
    with np.errstate(divide="ignore", invalid="ignore"):  # the x that becomes 0; none where the slope is 0
        point = chain.centre / source_step - np.where(level == 0, 0.0, level / slope)
    ideal = whole(np.clip(point, -FAR, FAR))
    # Where x - mean saturates at 16 bits, the result must be beyond its limits anyway, or x must not occur.
    harmless = np.abs(multiplier) > max(zero, limit - zero)
    low = np.where(harmless, -32768, np.maximum(-32768, np.ceil((chain.centre + spread) / source_step - 32767)))
    high = np.where(harmless, 32767, np.minimum(32767, np.floor((chain.centre - spread) / source_step + 32767)))
    mean = np.clip(ideal, low, np.maximum(low, high)).astype(np.int64)
    # What the limits left over is added behind the multiplication.
    rest = whole(level - slope * (chain.centre / source_step - mean))
    offset = np.where((mean == ideal) & (multiplier != 0), 0, np.clip(rest, -32768, 32767))
    return mean.astype(np.int16), multiplier.astype(np.int16), offset.astype(np.int16)


def logit_constants(
    gain: NDArray[np.float64], offset: NDArray[np.float64], bound: int
) -> tuple[int, int, NDArray[np.int32], NDArray[np.int32]]:
    """Shift, fraction, gain and offset of `program.Logits` whose sums are at most `bound`, as fine as int32 allows.

    >>> logit_constants(np.array([0.001]), np.array([-1.0]), 1000)
    (0, 24, array([16777], dtype=int32), array([-16777216], dtype=int32))
    """
    shift = max(0, math.ceil(math.log2(max(1, bound))) - 20)
    for fraction in range(24, -1, -1):
        a, b = whole(gain * 2.0 ** (shift + fraction)), whole(offset * 2.0**fraction)
        if ((bound >> shift) + 1) * int(np.abs(a).max()) + int(np.abs(b).max()) < INT32:
            return shift, fraction, a.astype(np.int32), b.astype(np.int32)
    raise OnebitError(f"its logits may be as large as {bound * float(np.abs(gain).max()):.3g}, beyond 32 bits")


def mean_constants(
    area: int, quotient: float, counts: set[int] | None = None, *, fine: bool = False
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Shift and multiplier of an average for every number of positions (0 where it does not occur).

    `quotient` is the step of the source over that of the average. Sums of 16-bit numbers are shifted as far as the
    multiplier allows, so that they fit 16 bits. Sums of activations are small: `fine` shifts them no further than a
    multiplier of 12 bits needs.
    """
    shifts, multipliers = np.zeros(area, np.int16), np.zeros(area, np.int16)
    most = 4095 if fine else 32767
    for d in counts or range(1, area + 1):
        shift = 0
        while shift < 15 and whole(2.0 ** (16 + shift) / d * quotient) <= most:
            shift += 1
        shifts[d - 1], multipliers[d - 1] = shift, min(32767, int(whole(2.0 ** (15 + shift) / d * quotient)))
    return shifts, multipliers


def shifted(unit: float, reach: float) -> tuple[float, int]:
    """The smallest ``unit * 2^k`` (k >= 0) with which `reach` fits 16 bits, and its k."""
    shift = max(0, math.ceil(math.log2(reach / (32767 * unit))))
    return unit * 2.0**shift, shift


def power(x: float) -> float:
    """The smallest power of 2 that is at least x (but for its last digits)."""
    return 2.0 ** math.ceil(math.log2(x) - 1e-6)


def whole(x: float | NDArray[np.float64]) -> NDArray[np.int64]:
    return np.floor(np.asarray(x, np.float64) + 0.5).astype(np.int64)
