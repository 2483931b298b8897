"""The integers of operations stand for the real numbers that they were made of, as finely as can be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onebit.errors import OnebitError
from onebit.packed.chain import Chain
from onebit.packed.constants import logit_constants, mean_constants, norm_constants, power, shifted, whole
from onebit.packed.program import INT32

SPREAD = 16  # deviations


def norm(x: int, mean: int, multiplier: int, offset: int, zero: int, limit: int) -> int:
    """`program.Norm` of one number."""
    d = min(32767, max(-32768, x - mean))
    return min(limit, max(0, zero + offset + ((d * multiplier + 0x4000) >> 15)))


sizes = st.floats(-12, 4).map(lambda e: 10.0**e)
signed = st.builds(lambda size, sign: sign * size, sizes, st.sampled_from((-1, 1)))
GAINS = st.one_of(st.just(0.0), signed, st.floats(0.2, 2), st.floats(-2, -0.2))
OFFSETS = st.one_of(st.just(0.0), st.floats(-3, 3), signed)
LIMITS = st.sampled_from(((0, 255, 2.0**-5), (0, 15, 0.25), (32, 255, 2.0**-5), (4, 15, 0.25), (128, 255, 2.0**-7)))


@given(GAINS, OFFSETS, st.floats(-15000, 15000), st.floats(1, 1000), sizes, LIMITS, st.integers(0, 2**32 - 1))
@example(0.0, 1.0, 0.0, 1000.0, 1.0, (0, 255, 2.0**-5), 0)
@example(1e-12, 1.0, 0.0, 1000.0, 1.0, (0, 255, 2.0**-5), 0)
@example(1.0, -3.0, -15000.0, 1.0, 1.0, (0, 15, 0.25), 0)
def test_a_norm_computes_its_chain(
    gain: float, offset: float, middle: float, width: float, unit: float, form: tuple[int, int, float], seed: int
) -> None:
    """In levels, q is off the clamped real number by at most

    - 1/2: the product is rounded;
    - |M| / 2^16: the mean is rounded; or 1/2 where the x that becomes 0 is out of its reach, and an offset is rounded;
    - |x - centre| / 2^16: the multiplier is rounded;

    over all stream values within 16 deviations, whatever the gain, as long as the multiplier needs no limit.
    `middle` and `width` are the stream's mean and deviation in its integers.
    """
    zero, limit, step = form
    width = min(width, (32767 - abs(middle)) / SPREAD)  # what lower's choice of the stream's step ensures
    slope = gain / (width * unit)  # a batch-norm's: gain over deviation
    chain = Chain(0, np.array([middle * unit]), np.array([slope]), np.array([offset]), np.array([width * unit]))
    arrays = norm_constants(chain, SPREAD * width * unit, unit, step, zero, limit)
    assert all(a.dtype == np.int16 for a in arrays)
    mean, multiplier, more = (int(a[0]) for a in arrays)
    assert multiplier > -32768
    limited = abs(2**15 * slope * unit / step) > 32767

    def level(x: int) -> float:
        used = math.copysign(32767 * step / (2**15 * unit), slope) if limited else slope
        return zero + (used * (x - middle) * unit + offset) / step

    random = np.random.default_rng(seed)
    low, high = math.ceil(middle - SPREAD * width), math.floor(middle + SPREAD * width)
    zero_at = middle - offset / step / (multiplier / 2**15) if multiplier else math.inf
    rounded = abs(multiplier) / 2**16 if abs(mean - zero_at) < 0.51 else 0.5
    inside = {low, high, round(middle), *random.integers(low, high + 1, 60).tolist()}
    crossing = middle - offset / slope / unit if slope else middle
    inside |= {round(crossing) + k for k in range(-2, 3) if low < crossing < high}
    for x in inside:
        q, want = norm(x, mean, multiplier, more, zero, limit), min(float(limit), max(0.0, level(x)))
        assert abs(q - want) <= 0.5 + rounded + abs(x - middle) / 2**16 + 1e-6, (x, q, want, arrays)
    # Outside, over all 16 bits, it is monotone and so never at the wrong end.
    every = sorted({-32768, 32767, mean - 32768, mean + 32767, *inside, *random.integers(-32768, 32768, 60).tolist()})
    values = [norm(x, mean, multiplier, more, zero, limit) for x in every if -32768 <= x <= 32767]
    assert values == sorted(values, reverse=multiplier < 0)


def test_a_norm_without_moments_knows_its_range() -> None:
    chain = Chain(0, np.zeros(1), np.ones(1), np.array([-0.7]))
    mean, multiplier, offset = norm_constants(chain, 10.0, 10 / 32767, 2.0**-5, 0, 255)
    for x in range(-32768, 32768, 77):
        want = min(255.0, max(0.0, (x * 10 / 32767 - 0.7) * 32))
        assert abs(norm(x, int(mean[0]), int(multiplier[0]), int(offset[0]), 0, 255) - want) < 1.01


@given(st.lists(signed, min_size=1, max_size=5), st.lists(OFFSETS, min_size=5, max_size=5), st.integers(1, 2**30))
def test_logits_are_as_fine_as_int32_allows(gains: list[float], offsets: list[float], bound: int) -> None:
    gain, offset = np.array(gains), np.array(offsets[: len(gains)])

    def fits(fraction: int) -> bool:
        a, b = whole(gain * 2.0 ** (shift + fraction)), whole(offset * 2.0**fraction)
        return ((bound >> shift) + 1) * int(np.abs(a).max()) + int(np.abs(b).max()) < INT32

    shift = max(0, math.ceil(math.log2(bound)) - 20)
    try:
        found = logit_constants(gain, offset, bound)
    except OnebitError as error:
        assert "beyond 32 bits" in str(error) and not fits(0)
        return
    assert found[0] == shift and fits(found[1]) and (found[1] == 24 or not fits(found[1] + 1))
    assert found[2].dtype == found[3].dtype == np.int32
    for total in (-bound, -bound // 3, 0, min(7, bound), bound):  # of any class, and nothing leaves int32
        made = ((total + ((1 << shift) >> 1)) >> shift) * found[2].astype(object) + found[3].astype(object)
        assert all(abs(int(v)) < INT32 for v in made)
        want = gain * total + offset
        # the multiplier and the offset are rounded by half of their last digit, the sum by 2^(shift - 1)
        error = (abs(total) / 2**shift + 1) * 0.5 + 0.5
        allowed = error * 2.0 ** -found[1] + np.abs(gain) * 2.0**shift * 0.5
        assert (np.abs(made.astype(np.float64) * 2.0 ** -found[1] - want) <= allowed + 1e-9 * np.abs(want)).all()


def test_logits_beyond_int32_are_refused() -> None:
    with pytest.raises(OnebitError, match=r"^its logits may be as large as 1e\+12, beyond 32 bits$"):
        logit_constants(np.array([1e6]), np.zeros(1), 10**6)


@given(st.integers(1, 300), st.floats(-6, 0), st.booleans(), st.integers(0, 2**32 - 1))
def test_averages_divide_by_their_positions(area: int, exponent: float, fine: bool, seed: int) -> None:
    """The quotient of the steps is at most 32767 / 32768 for the fewest positions; 1 for activations."""
    quotient = 1.0 if fine else min(2.0**exponent, 32767 / 32768)
    shifts, multipliers = mean_constants(area, quotient, fine=fine)
    assert shifts.dtype == multipliers.dtype == np.int16 and shifts.shape == multipliers.shape == (area,)
    assert shifts.min() >= 0 and shifts.max() <= 15 and multipliers.min() >= 0
    random = np.random.default_rng(seed)
    low, high = (0, 255) if fine else (-32768, 32767)
    for d in {1, area, *random.integers(1, area + 1, 5).tolist()}:
        k, m = int(shifts[d - 1]), int(multipliers[d - 1])
        for total in {d * low, d * high, *random.integers(d * low, d * high + 1, 20).tolist()}:
            moved = (total + ((1 << k) >> 1)) >> k
            made = (min(32767, max(-32768, moved)) * m + 0x4000) >> 15
            want = total / d * quotient
            if abs(moved) <= 32767:
                # rounded twice, and a multiplier that is off by half of its last digit (by 1 where it would be 2^15)
                assert abs(made - want) <= 0.5 + 0.5 * 2**k * quotient / d + abs(moved) / 2 ** (
                    15 if m == 32767 else 16
                )
            else:  # its step leaves less room than a multiplier of 16 bits needs: one part in 2^15
                assert not fine and abs(moved) <= 2 * 32768
        assert not fine or m <= 4095 or k == 0
        assert fine or k == 15 or m >= 1 << 14  # else one more shift was possible


def test_averages_have_constants_only_for_positions_that_occur() -> None:
    shifts, multipliers = mean_constants(9, 1.0, {4, 6, 9})
    assert multipliers.tolist() == [0, 0, 0, 1 << 14, 0, 21845, 0, 0, 29127]
    assert shifts.tolist() == [0, 0, 0, 1, 0, 2, 0, 0, 3]


@given(sizes, sizes)
def test_the_smallest_shift_that_fits(unit: float, reach: float) -> None:
    step, shift = shifted(unit, reach)
    assert shift >= 0 and step == unit * 2.0**shift
    assert reach <= 32767 * step * (1 + 1e-12)
    assert shift == 0 or reach > 32767 * step / 2 * (1 - 1e-12)


@given(st.floats(-300, 300))
def test_the_smallest_power_of_two(exponent: float) -> None:
    x = 2.0**exponent
    assert math.frexp(power(x))[0] == 0.5
    assert x * (1 - 1e-6) <= power(x) < 2 * x


@pytest.mark.parametrize("exponent", [-200, -5, 0, 3, 200])
def test_powers_of_two_stay(exponent: int) -> None:
    assert power(2.0**exponent) == power(2.0**exponent * (1 + 1e-12)) == 2.0**exponent


def test_halves_go_up() -> None:
    assert whole(np.array([-2.5, -0.5, 0.4999, 0.5, 1.5])).tolist() == [-2, 0, 0, 1, 2]
