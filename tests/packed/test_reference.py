"""`reference.run` against a second implementation in plain whole numbers, and by hand in the corners."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.packed import reference
from onebit.packed.program import (
    INT32,
    TABLE_LIMIT,
    Average,
    Conv,
    Logits,
    Max,
    Norm,
    Operation,
    Program,
    Table,
    pack_bits,
)
from onebit.packed.reference import q15mulr, rsh, sat16
from support.programs import pictures, programs
from support.slow import run_slowly


def i16(*numbers: int) -> NDArray[np.int16]:
    return np.array(numbers, np.int16)


def i32(*numbers: int) -> NDArray[np.int32]:
    return np.array(numbers, np.int32)


def picture(*rows: list[int]) -> NDArray[np.uint8]:
    """One picture of one channel."""
    return np.array(rows, np.uint8)[None, :, :, None]


def identity(height: int, width: int, low: int = 0) -> Table:
    """A table that makes ``low + pixel``."""
    return Table(height, width, np.arange(low, low + 256, dtype=np.int16)[None])


def bits(rows: int, taps: int, positive: bool = True) -> NDArray[np.uint8]:
    return pack_bits(np.full((rows, taps, 1, 1), positive))


def head(source: int, channels: int = 1) -> Logits:
    """A sum of everything, as it is."""
    return Logits(source, bits(1, channels), (1, 1), 0, np.ones(1, np.int32), np.zeros(1, np.int32), 0)


def watched(program: Program, images: NDArray[np.uint8], batch: int = 16) -> list[NDArray[np.int32]]:
    """What each operation makes, [N, H, W, C]; the logits as `run` returns them agree with the last."""
    seen: list[list[NDArray[np.int32]]] = [[] for _ in program.operations]
    out = reference.run(program, images, batch=batch, watch=lambda i, x: seen[i].append(x.copy()))
    values = [np.concatenate(v) for v in seen]
    np.testing.assert_array_equal(values[-1].reshape(len(images), -1), out)
    return values


def made(operations: list[Operation], images: NDArray[np.uint8], channels: int = 1) -> NDArray[np.int32]:
    """What the last of `operations` makes, [N, H, W, C], and both implementations agree on it."""
    program = Program([*operations, head(len(operations) - 1, channels)])
    values = watched(program, images)
    same_as_slow(program, images, values)
    return values[-2]


def same_as_slow(program: Program, images: NDArray[np.uint8], values: list[NDArray[np.int32]]) -> None:
    for n, image in enumerate(images):
        for i, expected in enumerate(run_slowly(program, image)):
            np.testing.assert_array_equal(
                values[i][n].transpose(2, 0, 1), expected, f"operation {i}: {program.operations[i]}"
            )


@settings(max_examples=150)
@given(st.data())
def test_equals_the_slow_implementation(data: st.DataObject) -> None:
    program = data.draw(programs())
    images = data.draw(pictures(program))
    values = watched(program, images)
    for x, value in zip(values, program.values, strict=True):
        assert value.low <= x.min() and x.max() <= value.high
        assert x.shape[1:] == (*value.shape[1:], value.shape[0])
    same_as_slow(program, images, values)


@settings(max_examples=30)
@given(st.data())
def test_a_picture_means_the_same_in_any_batch(data: st.DataObject) -> None:
    program = data.draw(programs())
    images = data.draw(pictures(program, 7))
    together = reference.run(program, images)
    assert together.dtype == np.int32 and together.shape == (len(images), program.classes)
    for batch in (1, 2, 5):
        np.testing.assert_array_equal(reference.run(program, images, batch=batch), together)


def test_no_pictures_give_no_logits() -> None:
    program = Program([identity(2, 2), head(0)])
    assert reference.run(program, np.zeros((0, 2, 2, 1), np.uint8)).shape == (0, 1)


@pytest.mark.parametrize(
    ("x", "k", "result"),
    [(1, 1, 1), (-1, 1, 0), (3, 1, 2), (-3, 1, -1), (6, 2, 2), (-6, 2, -1), (-7, 2, -2), (5, 2, 1), (-7, 0, -7)],
)
def test_rsh_rounds_halves_up(x: int, k: int, result: int) -> None:
    assert rsh(np.array([x], np.int32), k).tolist() == [result]


@pytest.mark.parametrize(
    ("x", "m", "result"),
    [
        (1, 16384, 1),  # one half goes up
        (-1, 16384, 0),
        (1, -16384, 0),
        (-1, -16384, 1),
        (3, 16384, 2),
        (-3, 16384, -1),
        (1, 16383, 0),
        (-1, 16385, -1),
        (32767, 32767, 32766),
        (-32768, 32767, -32767),
        (-32768, -32767, 32767),
        (32767, -32767, -32766),
        (12345, 0, 0),
    ],
)
def test_q15mulr_rounds_halves_up_whatever_the_signs(x: int, m: int, result: int) -> None:
    assert q15mulr(np.array([x], np.int32), i16(m)).tolist() == [result]


def test_sat16_clamps() -> None:
    x = np.array([-(2**31), -32769, -32768, 32767, 32768, 2**31 - 1], np.int32)
    assert sat16(x).tolist() == [-32768, -32768, -32768, 32767, 32767, 32767]


def test_table_looks_pixels_up_by_channel() -> None:
    table = Table(1, 2, np.stack([np.arange(256), -np.arange(256)]).astype(np.int16))
    x = made([table], np.array([[[[0, 1], [255, 254]]]], np.uint8), channels=2)
    assert x.tolist() == [[[[0, -1], [255, -254]]]]


def test_conv_is_cross_correlation_with_channels_fastest() -> None:
    table = Table(2, 3, np.stack([np.arange(256), 10 * np.arange(256)]).astype(np.int16))
    positive = np.array([[[[True, True], [False, True]], [[True, False], [False, False]]]])  # [O, rows, columns, I]
    image = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    pixels = np.stack([image, image[::-1]], -1)[None]
    x = made([table, Conv(0, pack_bits(positive), (2, 2), 0)], pixels)
    expected = [1 + 40 - 2 + 50 + 4 - 10 - 5 - 20, 2 + 50 - 3 + 60 + 5 - 20 - 6 - 30]
    assert x.ravel().tolist() == expected


@pytest.mark.parametrize(("positive", "ends"), [(True, 32767), (False, -32768)])
def test_the_stream_saturates_both_ways(positive: bool, ends: int) -> None:
    """The sum of a convolution saturates alone, then again with its base; and what saturated comes back from there."""
    table = Table(1, 1, np.full((5, 256), TABLE_LIMIT, np.int16))
    up, down = (Conv(0, bits(1, 5, p), (1, 1), 1) for p in (positive, not positive))
    more = Conv(0, up.bits, (1, 1), 0, base=1)
    back = Conv(0, down.bits, (1, 1), 1, base=2)
    program = Program([table, up, more, back, head(3)])
    values = watched(program, np.zeros((1, 1, 1, 5), np.uint8))
    half = (5 * TABLE_LIMIT + 1) >> 1 if positive else (-5 * TABLE_LIMIT + 1) >> 1
    opposite = (-5 * TABLE_LIMIT + 1) >> 1 if positive else (5 * TABLE_LIMIT + 1) >> 1
    assert [int(v.ravel()[0]) for v in values] == [TABLE_LIMIT, half, ends, ends + opposite, ends + opposite]
    same_as_slow(program, np.zeros((1, 1, 1, 5), np.uint8), values)


def test_the_sum_saturates_before_the_base_is_added() -> None:
    table = Table(1, 1, np.full((8, 256), TABLE_LIMIT, np.int16))
    base = Conv(0, bits(1, 8, False), (1, 1), 4)  # -4079.5, rounded up
    x = made([table, base, Conv(0, bits(1, 8), (1, 1), 0, base=1)], np.zeros((1, 1, 1, 8), np.uint8))
    assert x.ravel().tolist() == [32767 - 4079]


def test_a_sum_may_read_one_value_twice() -> None:
    x = made([identity(1, 1), Conv(0, bits(1, 1), (1, 1), 0, base=0)], picture([21]))
    assert x.ravel().tolist() == [42]


def test_norm_subtracts_with_saturation_scales_and_clamps() -> None:
    table = Table(1, 1, np.full((7, 256), 100, np.int16))
    norm = Norm(
        0,
        i16(-32768, -32768, 50, 50, 150, 100, 100),
        i16(166, 200, 32767, -32767, 16384, 32767, 32767),
        i16(0, 0, 0, 0, 0, 3, -300),
        zero=20,
        limit=200,
    )
    x = made([table, norm], np.zeros((1, 1, 1, 7), np.uint8), channels=7)
    # 100 + 32768 saturates at 32767, times 166 / 2^15 is 166 (of 32868 it would be 167); 220 is beyond the limit
    assert x.ravel().tolist() == [186, 200, 70, 0, 0, 23, 0]


def test_norm_adds_an_offset_beyond_the_limit_before_it_clamps() -> None:
    table = Table(1, 1, np.full((2, 256), 1000, np.int16))
    norm = Norm(0, i16(0, 0), i16(-32767, -32767), i16(32767, 1100), zero=0, limit=255)
    assert made([table, norm], np.zeros((1, 1, 1, 2), np.uint8), channels=2).ravel().tolist() == [255, 100]


def test_padding_of_a_shifted_activation_counts_as_its_zero() -> None:
    """A picture that is `zero` everywhere sums to 0 under every window, in the padding or not."""
    norm = Norm(0, i16(0), i16(32767), i16(0), zero=9, limit=15)
    conv = Conv(1, bits(1, 9), (3, 3), 0, 1, (1, 1, 1, 1))
    image = picture([0, 0], [0, 6])
    x = made([identity(2, 2), norm, conv], image)
    assert x.ravel().tolist() == [6, 6, 6, 6]
    low = made([identity(2, 2, -20), norm, conv], image)  # x = 0 everywhere, 9 below zero
    assert low.ravel().tolist() == [-36, -36, -36, -36]


def test_a_window_in_the_padding_alone_sums_to_nothing() -> None:
    x = made([identity(1, 1), Conv(0, bits(1, 1), (1, 1), 0, 2, (2, 0, 0, 2))], picture([7]))
    assert x.reshape(2, 2).tolist() == [[0, 0], [7, 0]]


def test_max_ignores_padding_where_everything_is_negative() -> None:
    table = Table(2, 2, np.arange(-TABLE_LIMIT, -TABLE_LIMIT + 256, dtype=np.int16)[None])
    x = made([table, Max(0, (3, 3), 2, (2, 2, 2, 2))], picture([0, 1], [2, 3]))
    assert x.reshape(2, 2).tolist() == [[-8159, -8158], [-8157, -8156]]


def test_max_keeps_the_zero_point() -> None:
    norm = Norm(0, i16(0), i16(32767), i16(0), zero=9, limit=15)
    program = Program([identity(2, 2), norm, Max(1, (2, 2), 1), head(2)])
    assert program.values[2].zero == 9
    values = watched(program, picture([1, 2], [3, 4]))
    assert values[2].ravel().tolist() == [13] and values[3].ravel().tolist() == [4]


def test_average_divides_by_the_positions_that_lie_in_the_map() -> None:
    """A constant map stays constant wherever the window lies: divisors 1, 2, 3, 4, 6 and 9."""
    divisors = np.arange(1, 10)
    shift = np.floor(np.log2(divisors)).astype(np.int16)
    multiplier = np.minimum(32767, 2**15 * 2.0**shift / divisors).round().astype(np.int16)
    pool = Average(0, 1, (3, 3), 1, (2, 2, 2, 2), shift, multiplier)
    x = made([identity(5, 5), pool], np.full((1, 5, 5, 1), 144, np.uint8))
    assert np.unique(x).tolist() == [144]
    seen = reference.covered((5, 5), (3, 3), 1, (2, 2, 2, 2))
    assert np.unique(seen).tolist() == [1, 2, 3, 4, 6, 9]
    only_nine = np.where(divisors == 9, multiplier, 0).astype(np.int16)
    x = made(
        [identity(5, 5), Average(0, 1, (3, 3), 1, (2, 2, 2, 2), shift, only_nine)], np.full((1, 5, 5, 1), 144, np.uint8)
    )
    np.testing.assert_array_equal(x[0, :, :, 0], np.where(seen == 9, 144, 0))


def test_padding_of_an_average_counts_as_nothing_whatever_the_zero() -> None:
    norm = Norm(0, i16(0), i16(32767), i16(0), zero=9, limit=15)
    halves = Average(1, 1, (2, 2), 1, (1, 1, 1, 1), i16(0, 1, 1, 2), i16(32767, 32767, 21845, 32767))
    assert np.unique(made([identity(2, 2), norm, halves], picture([4, 4], [4, 4]))).tolist() == [13]


def test_average_appends_channels_that_hold_zero() -> None:
    norm = Norm(0, i16(0), i16(32767), i16(0), zero=9, limit=15)
    one = Average(1, 3, (1, 1), 1, (0, 0, 0, 0), i16(0), i16(32767))
    assert made([identity(1, 1), norm, one], picture([4]), channels=3).ravel().tolist() == [13, 9, 9]
    assert made([identity(1, 1), Average(0, 2, (1, 1), 1, (0, 0, 0, 0), i16(0), i16(32767))], picture([4]), 2)[
        0, 0, 0
    ].tolist() == [4, 0]


def test_average_saturates_a_sum_that_is_shifted_too_little() -> None:
    table = Table(3, 3, np.full((1, 256), TABLE_LIMIT, np.int16))
    pool = Average(0, 1, (3, 3), 1, (0, 0, 0, 0), np.zeros(9, np.int16), np.full(9, 16384, np.int16))
    assert made([table, pool], np.zeros((1, 3, 3, 1), np.uint8)).ravel().tolist() == [16384]


def test_a_convolution_beyond_the_whole_numbers_of_float32_is_exact() -> None:
    """Its sum lies 1 below the half at which rsh rounds up; the nearest float32 is that half."""
    taps, shift = 2101, 10
    exact = (16705 << shift) + 511
    values = np.full((taps, 256), TABLE_LIMIT, np.int16)
    values[:6, 0] -= i16(7125, 7125, 7125, 7125, 7125, 3)
    assert int(values[:, 0].sum(dtype=np.int64)) == exact > 1 << 24 and int(np.float32(exact)) == exact + 1
    image = np.zeros((1, 1, 1, taps), np.uint8)
    x = made([Table(1, 1, values), Conv(0, bits(1, taps), (1, 1), shift)], image)
    assert x.ravel().tolist() == [16705] and rsh(i32(exact + 1), shift).tolist() == [16706]


@pytest.mark.parametrize("kernel", [(1, 1), (8, 8)])
def test_logits_beyond_the_whole_numbers_of_float32_are_exact(kernel: tuple[int, int]) -> None:
    """64 channels at 64 positions, 4 * 8159 each, less 1 in one position of one: no float32 is that number."""
    values = np.full((5, 256), TABLE_LIMIT, np.int16)
    values[4] = 0
    values[4, 1] = -1
    grown = Conv(0, bits(64, 5), (1, 1), 0)
    grown.bits[0, 0] &= 0b1111  # -1 on the last channel
    last = Logits(1, bits(2, kernel[0] * kernel[1] * 64), kernel, 0, i32(1, 1), i32(0, 3), 0)
    program = Program([Table(8, 8, values), grown, last])
    image = np.zeros((1, 8, 8, 5), np.uint8)
    image[0, 3, 5, 4] = 1  # adds 1 to channel 0 and takes 1 from the 63 others
    exact = 64 * 64 * 4 * TABLE_LIMIT - 62
    out = watched(program, image)
    assert out[-1].ravel().tolist() == [exact, exact + 3] and int(np.float32(exact)) != exact
    same_as_slow(program, image, out)


def test_logits_at_the_ends_of_int32() -> None:
    table = Table(1, 1, np.full((1, 256), 1, np.int16))
    for sign in (1, -1):
        last = Logits(0, bits(1, 1, sign > 0), (1, 1), 0, i32(1 << 29), i32(sign * (INT32 - 1 - (1 << 30))), 0)
        assert reference.run(Program([table, last]), picture([0])).tolist() == [[sign * (INT32 - 1 - (1 << 29))]]


def test_logits_of_a_whole_map_kernel_weigh_each_position() -> None:
    last = Logits(0, pack_bits(np.array([[[[True], [False], [True]]]])), (1, 3), 1, i32(10), i32(-5), 0)
    assert reference.run(Program([identity(1, 3), last]), picture([4, 2, 1])).tolist() == [[15]]  # rsh(3, 1) * 10 - 5


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 2, 3, 1), np.int8),
        np.zeros((1, 2, 3, 1), np.float32),
        np.zeros((1, 3, 2, 1), np.uint8),
        np.zeros((1, 2, 3, 2), np.uint8),
        np.zeros((2, 3, 1), np.uint8),
        np.zeros((1, 1, 2, 3, 1), np.uint8),
    ],
)
def test_other_pictures_are_refused(images: NDArray[np.uint8]) -> None:
    program = Program([identity(2, 3), head(0)])
    message = f"pictures of {images.dtype} {images.shape}: the model takes uint8 [N, 2, 3, 1]"
    with pytest.raises(OnebitError, match=f"^{re.escape(message)}$"):
        reference.run(program, images)
