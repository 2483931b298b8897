"""What a program accepts, what it refuses and with which words, and what it says of itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.packed import reference
from onebit.packed.program import (
    INT16,
    INT32,
    MAX_CHANNELS,
    TABLE_LIMIT,
    Average,
    Conv,
    Logits,
    Max,
    Norm,
    Operation,
    Program,
    Table,
    Value,
    pack_bits,
    signs,
    sources,
)
from support.programs import programs


def i16(*numbers: int) -> NDArray[np.int16]:
    return np.array(numbers, np.int16)


def i32(*numbers: int) -> NDArray[np.int32]:
    return np.array(numbers, np.int32)


def bits(rows: int, taps: int, positive: bool = True) -> NDArray[np.uint8]:
    return pack_bits(np.full((rows, taps, 1, 1), positive))


def valid() -> list[Operation]:
    """One of each operation: 4x4 of 2 channels, 3 channels, 4x4 activations, 2x2 of 4 channels, 1x1, 2 classes."""
    return [
        Table(4, 4, np.stack([np.arange(256), -np.arange(256)]).astype(np.int16)),
        Conv(0, bits(3, 18), (3, 3), 2, 1, (1, 1, 1, 1)),
        Conv(0, bits(3, 2), (1, 1), 0, base=1),
        Norm(2, i16(0, 1, 2), i16(32767, 0, -32767), i16(0, 5, 9), zero=2, limit=15),
        Average(3, 4, (2, 2), 2, (0, 0, 0, 0), i16(0, 1, 1, 2), i16(32767, 32767, 21845, 32767)),
        Max(4, (2, 2), 1),
        Logits(5, bits(2, 4), (1, 1), 0, i32(3, -4), i32(5, 6), 4),
    ]


def refusal(operations: list[Operation]) -> str:
    with pytest.raises(OnebitError) as caught:
        Program(operations)
    return str(caught.value)


def test_values_and_counts() -> None:
    program = Program(valid())
    assert program.values == [
        Value("i16", (2, 4, 4), -255, 255),
        Value("i16", (3, 4, 4), -1148, 1148),  # rsh(18 * 255, 2)
        Value("i16", (3, 4, 4), -32768, 32767),
        Value("u8", (3, 4, 4), 0, 15, 2),
        Value("u8", (4, 2, 2), 0, 15, 2),
        Value("u8", (4, 1, 1), 0, 15, 2),
        Value("i32", (2, 1, 1), -INT32, INT32 - 1),
    ]
    assert [value.reach for value in program.values[2:5]] == [32768, 13, 13]
    assert program.input is program.values[0] and program.logits is program.operations[-1] and program.classes == 2
    convolutions = dict(program.convolutions())
    assert list(convolutions) == [1, 2, 6]
    assert [program.fan_in(op) for op in convolutions.values()] == [18, 2, 4]
    assert [program.weights(op) for op in convolutions.values()] == [54, 6, 8]
    assert [program.macs(i) for i in range(7)] == [0, 54 * 16, 6 * 16, 0, 0, 0, 8]
    assert [sources(op) for op in program.operations] == [(), (0,), (0, 1), (2,), (3,), (4,), (5,)]


@settings(max_examples=50)
@given(programs())
def test_macs_are_weights_times_the_positions_of_their_map(program: Program) -> None:
    for i, op in program.convolutions():
        _, height, width = program.values[i].shape
        assert program.macs(i) == program.weights(op) * height * width
        assert program.weights(op) == signs(op, program.fan_in(op)).size


@settings(max_examples=50)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 9), st.data())
def test_signs_undo_pack_bits(o: int, h: int, w: int, i: int, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.booleans(), min_size=o * h * w * i, max_size=o * h * w * i))
    positive = np.array(chosen).reshape(o, h, w, i)
    packed = pack_bits(positive)
    assert packed.dtype == np.uint8 and packed.shape == (o, -(-h * w * i // 8))
    # Bit n of a row, counted from the lowest bit of the first byte, is weight n with the channel fastest.
    for row, weights in zip(packed, positive.reshape(o, -1), strict=True):
        assert int.from_bytes(row.tobytes(), "little") == sum(1 << n for n, p in enumerate(weights) if p)
    restored = signs(Conv(0, packed, (h, w), 0), h * w * i)
    assert restored.dtype == np.float32
    np.testing.assert_array_equal(restored, np.where(positive.reshape(o, -1), 1, -1))


CHANNELS = "1 to 65536"
CHANGES: list[tuple[int, dict[str, Any], str]] = [
    (0, {"values": np.zeros((2, 255), np.int16)}, "an array of int16 (2, 255), not int16 (2, 256)"),
    (0, {"values": np.zeros((2, 256), np.int32)}, "an array of int32 (2, 256), not int16 (2, 256)"),
    (0, {"values": np.zeros((0, 256), np.int16)}, "an array is empty"),
    (0, {"values": np.full((2, 256), TABLE_LIMIT + 1, np.int16)}, "an entry is beyond 8159"),
    (0, {"values": np.full((2, 256), -32768, np.int16)}, "an entry is beyond 8159"),
    (0, {"height": 0}, "a map of 0x4: 1 to 4096 a side"),
    (0, {"width": 4097}, "a map of 4x4097: 1 to 4096 a side"),
    (
        0,
        {"values": np.zeros((5, 256), np.int16), "height": 4096, "width": 4096},
        "a map of (5, 4096, 4096) is too large",
    ),
    (1, {"source": 1}, "reads value 1, which is not an earlier one"),
    (1, {"source": -1}, "reads value -1, which is not an earlier one"),
    (1, {"bits": bits(3, 18)[:, :2]}, "an array of uint8 (3, 2), not uint8 (3, 3)"),
    (1, {"bits": bits(3, 18).astype(np.int8)}, "an array of int8 (3, 3), not uint8 (3, 3)"),
    (1, {"bits": bits(3, 18)[:0]}, "an array is empty"),
    (1, {"bits": bits(3, 18) | np.uint8(4)}, "a pad bit is not 0"),
    (1, {"bits": bits(MAX_CHANNELS + 1, 18)}, f"65537 channels: {CHANNELS}"),
    (1, {"kernel": (0, 3)}, "kernel (0, 3): 1 to 4096"),
    (1, {"kernel": (3, 4097)}, "kernel (3, 4097): 1 to 4096"),
    (1, {"kernel": (3, 7)}, "a window of 3x7 does not fit into a map of 4x4"),
    (1, {"shift": -1}, "shift -1: 0 to 24"),
    (1, {"shift": 25}, "shift 25: 0 to 24"),
    (1, {"stride": 0}, "stride 0: 1 to 255"),
    (1, {"stride": 256}, "stride 256: 1 to 255"),
    (1, {"padding": (1, 1, 1, -1)}, "padding (1, 1, 1, -1): 0 to 127"),
    (1, {"padding": (128, 1, 1, 1)}, "padding (128, 1, 1, 1): 0 to 127"),
    (2, {"base": 2}, "reads value 2, which is not an earlier one"),
    (2, {"base": -2}, "base -2: a value, or -1 for none"),
    (2, {"base": 0}, "its base has shape (2, 4, 4) of i16, not (3, 4, 4) of i16"),
    (2, {"stride": 2}, "its base has shape (3, 4, 4) of i16, not (3, 2, 2) of i16"),
    (3, {"mean": i16(0)}, "an array of int16 (1,), not int16 (3,)"),
    (3, {"multiplier": i16(0, 0, 0).astype(np.int8)}, "an array of int8 (3,), not int16 (3,)"),
    (3, {"offset": i16(0, 0, 0, 0)}, "an array of int16 (4,), not int16 (3,)"),
    (3, {"multiplier": i16(0, -32768, 0)}, "a multiplier is -32768"),
    (3, {"limit": 0, "zero": 0}, "zero 0 and limit 0: 0 <= zero <= limit <= 255"),
    (3, {"limit": 256}, "zero 2 and limit 256: 0 <= zero <= limit <= 255"),
    (3, {"zero": 16}, "zero 16 and limit 15: 0 <= zero <= limit <= 255"),
    (3, {"zero": -1}, "zero -1 and limit 15: 0 <= zero <= limit <= 255"),
    (4, {"channels": 2}, "2 channels out of 3: only more can be made"),
    (4, {"channels": MAX_CHANNELS + 1}, f"65537 channels: {CHANNELS}"),
    (4, {"kernel": (2, 0)}, "kernel (2, 0): 1 to 4096"),
    (4, {"kernel": (5, 2)}, "a window of 5x2 does not fit into a map of 4x4"),
    (4, {"stride": 0}, "stride 0: 1 to 255"),
    (4, {"padding": (0, 0, 200, 0)}, "padding (0, 0, 200, 0): 0 to 127"),
    (4, {"padding": (2, 0, 0, 0)}, "a window lies in the padding alone"),
    (4, {"shift": i16(0, 1, 1)}, "an array of int16 (3,), not int16 (4,)"),
    (4, {"multiplier": i32(1, 1, 1, 1)}, "an array of int32 (4,), not int16 (4,)"),
    (4, {"shift": i16(0, 16, 0, 0)}, "shifts: 0 to 15"),
    (4, {"shift": i16(-1, 0, 0, 0)}, "shifts: 0 to 15"),
    (4, {"multiplier": i16(0, -1, 0, 0)}, "a multiplier is negative"),
    (4, {"shift": i16(0, 0, 0, 1)}, "a mean of activations may reach 30, beyond 15"),
    (5, {"kernel": (3, 1)}, "a window of 3x1 does not fit into a map of 2x2"),
    (5, {"padding": (0, 0, 0, 2)}, "a window lies in the padding alone"),
    (5, {"stride": 300}, "stride 300: 1 to 255"),
    (5, {"padding": (-1, 0, 0, 0)}, "padding (-1, 0, 0, 0): 0 to 127"),
    (6, {"source": 6}, "reads value 6, which is not an earlier one"),
    (6, {"kernel": (2, 1)}, "kernel (2, 1) is neither 1x1 nor the map's (1, 1)"),
    (6, {"bits": bits(2, 4) | np.uint8(128)}, "a pad bit is not 0"),
    (6, {"shift": 25}, "shift 25: 0 to 24"),
    (6, {"gain": i32(1)}, "an array of int32 (1,), not int32 (2,)"),
    (6, {"offset": i16(1, 2)}, "an array of int16 (2,), not int32 (2,)"),
    (6, {"gain": i32(-INT32, 0)}, "its logits may leave int32"),
    (6, {"offset": i32(-INT32, 0)}, "its logits may leave int32"),
    (6, {"fraction": 25}, "fraction 25: 0 to 24"),
    (6, {"fraction": -1}, "fraction -1: 0 to 24"),
    (6, {"sharpness": 0}, "sharpness 0 is not positive"),
    (6, {"sharpness": INT32}, f"sharpness {INT32} is not positive"),
]


@pytest.mark.parametrize(("i", "change", "message"), CHANGES, ids=[f"{m} #{n}" for n, (_, _, m) in enumerate(CHANGES)])
def test_refuses_with_the_operation_and_the_reason(i: int, change: dict[str, Any], message: str) -> None:
    operations: list[Any] = valid()
    operations[i] = replace(operations[i], **change)
    assert refusal(operations) == f"operation {i} ({type(operations[i]).__name__.lower()}): {message}"


def test_refuses_programs_that_are_too_short_or_too_long() -> None:
    assert refusal([]) == "a program has 2 to 4096 operations, not 0"
    assert refusal(valid()[:1]) == "a program has 2 to 4096 operations, not 1"
    assert refusal(valid() * 586) == f"a program has 2 to 4096 operations, not {7 * 586}"


def test_refuses_a_wrong_order() -> None:
    operations = valid()
    assert refusal(operations[1:]) == "operation 0 (conv): the table comes first and only there"
    assert refusal([operations[0], *operations]) == "operation 1 (table): the table comes first and only there"
    assert refusal(operations[:-1]) == "operation 5 (max): logits come last and only there"
    assert refusal([*operations, operations[-1]]) == "operation 6 (logits): logits come last and only there"


def test_refuses_what_nothing_reads() -> None:
    operations: list[Any] = valid()
    operations[2] = replace(operations[2], base=-1)
    assert refusal(operations) == "operation 1 (conv): nothing reads its value"


def test_a_norm_reads_the_stream_and_a_base_is_one() -> None:
    operations: list[Any] = valid()
    message = "operation 4 (norm): reads an activation, not the stream"
    assert refusal([*operations[:4], replace(operations[3], source=3), *operations[4:]]) == message
    added = Conv(0, bits(3, 2), (1, 1), 0, base=3)
    message = "operation 4 (conv): its base has shape (3, 4, 4) of u8, not (3, 4, 4) of i16"
    assert refusal([*operations[:4], added, *operations[4:]]) == message


# 2^31 - 2 = 4681 * 331 * 33 * 42: a table of this reach, this many channels, a window of this size.
EDGE_REACH, EDGE_CHANNELS, EDGE_MAP = 4681, 331, (33, 42)
EDGE_SUM = EDGE_REACH * EDGE_CHANNELS * EDGE_MAP[0] * EDGE_MAP[1]


@pytest.mark.parametrize("positive", [True, False])
def test_the_largest_sum_that_fits_is_computed_right(positive: bool) -> None:
    assert EDGE_SUM == INT32 - 2
    table = Table(*EDGE_MAP, np.full((EDGE_CHANNELS, 256), EDGE_REACH, np.int16))
    weights = bits(1, EDGE_SUM // EDGE_REACH, positive)
    image = np.zeros((1, *EDGE_MAP, EDGE_CHANNELS), np.uint8)
    last = Logits(0, weights, EDGE_MAP, 0, i32(1), i32(0), 0)
    assert reference.run(Program([table, last]), image).tolist() == [[EDGE_SUM if positive else -EDGE_SUM]]
    pooled = replace(last, bits=bits(1, EDGE_CHANNELS, positive), kernel=(1, 1))
    assert reference.run(Program([table, pooled]), image).tolist() == [[EDGE_SUM if positive else -EDGE_SUM]]
    conv = Conv(0, weights, EDGE_MAP, 0)
    end = Logits(1, bits(1, 1), (1, 1), 0, i32(1), i32(0), 0)
    assert reference.run(Program([table, conv, end]), image).tolist() == [[32767 if positive else -32768]]
    one_beyond = f"its sums may reach {EDGE_SUM}, beyond int32"  # the rounding of a shift by 1 adds one
    assert refusal([table, replace(conv, shift=1), end]) == f"operation 1 (conv): {one_beyond}"
    assert refusal([table, replace(last, shift=1)]) == f"operation 1 (logits): {one_beyond}"


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("sign", [1, -1])
def test_logits_at_the_end_of_int32_are_computed_right_and_one_more_is_refused(shift: int, sign: int) -> None:
    table = Table(1, 1, np.full((4, 256), 1001, np.int16))
    once = (4004 >> shift) + 1
    gain = (INT32 - 1) // once
    offset = INT32 - 1 - once * gain
    last = Logits(0, bits(1, 4), (1, 1), shift, i32(sign * gain), i32(sign * offset), 0)
    expected = sign * (((4004 + (1 << shift >> 1)) >> shift) * gain + offset)
    assert reference.run(Program([table, last]), np.zeros((1, 1, 1, 4), np.uint8)).tolist() == [[expected]]
    beyond = replace(last, offset=i32(sign * (offset + 1)))
    assert refusal([table, beyond]) == "operation 1 (logits): its logits may leave int32"


@pytest.mark.parametrize(("positive", "end"), [(True, 32767), (False, -32768)])
def test_the_largest_window_of_an_average_is_computed_right(positive: bool, end: int) -> None:
    def program(height: int, width: int) -> list[Operation]:
        area = height * width
        return [
            Table(height, width, np.full((5, 256), TABLE_LIMIT, np.int16)),
            Conv(0, bits(1, 5, positive), (1, 1), 0),
            Average(1, 1, (height, width), 1, (0, 0, 0, 0), np.full(area, 15, np.int16), np.full(area, 9999, np.int16)),
            Logits(2, bits(1, 1), (1, 1), 0, i32(1), i32(0), 0),
        ]

    total = (302 * 217 * end + (1 << 14)) >> 15
    mean = (max(-INT16, min(INT16 - 1, total)) * 9999 + 0x4000) >> 15
    images = np.zeros((1, 302, 217, 5), np.uint8)
    assert reference.run(Program(program(302, 217)), images).tolist() == [[mean]]
    assert refusal(program(255, 257)) == f"operation 2 (average): its sums may reach {65535 << 15}, beyond int32"


def test_the_steepest_mean_of_activations_is_computed_right() -> None:
    table = Table(1, 2, np.full((1, 256), 255, np.int16))
    norm = Norm(0, i16(0), i16(32767), i16(1), limit=255)
    pool = Average(1, 1, (1, 2), 1, (0, 0, 0, 0), i16(0, 0), i16(0, 16416))  # 510 * 16416 is below 255.5 * 2^15
    last = Logits(2, bits(1, 1), (1, 1), 0, i32(1), i32(0), 0)
    assert reference.run(Program([table, norm, pool, last]), np.zeros((1, 1, 2, 1), np.uint8)).tolist() == [[255]]
    message = "operation 2 (average): a mean of activations may reach 256, beyond 255"
    assert refusal([table, norm, replace(pool, multiplier=i16(0, 16417)), last]) == message
    # Of divisors that do not occur nothing is asked: three columns see 2, 3 and 2 of a window that is three wide.
    wide = Average(1, 1, (3, 3), 1, (1, 1, 1, 1), np.zeros(9, np.int16), i16(32767, 16416, 10944, *[32767] * 6))
    Program([replace(table, width=3), norm, wide, replace(last, bits=bits(1, 1))])
