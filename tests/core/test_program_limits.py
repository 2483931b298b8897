"""Each limit of docs/format.md from both sides, in the C reader and the Python reader: the last number that is fine."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onebit.packed import file
from onebit.packed.program import Average, Logits, Max, Norm, Operation, Table
from packed.test_file_records import conv, logits, table, unchecked
from support.cloader import Loader, same
from support.packed_files import Opened, example

GOOD = file.encode(*example())


def numbers(*values: int) -> Any:
    return np.array(values, np.int16)


def pixels(height: int, width: int, number: int = 1, channels: int = 1) -> Table:
    return Table(height, width, np.full((channels, 256), number, np.int16))


def padded(padding: tuple[int, int, int, int]) -> list[Operation]:
    """A window as large as the padding, so that a position of the map is in each."""
    top, left, bottom, right = padding
    kernel = (max(top, bottom) + 1, max(left, right) + 1)
    return [pixels(300, 300), Max(0, kernel, 1, padding), logits(1)]


def summed(number: int, low: int = 0) -> list[Operation]:
    """A convolution of 2^10 * 2^10 weights of one channel whose inputs reach `number`, shift 0."""
    values = np.full((1, 256), number, np.int16)
    values[0, 0] = low
    return [Table(1024, 1024, values), conv(0, 1, 1 << 20, (1024, 1024)), logits(1)]


def scored(gain: int, offset: int, shift: int = 0) -> list[Operation]:
    """Logits of one number of at most 100."""
    last = Logits(
        0, np.zeros((1, 1), np.uint8), (1, 1), shift, np.array([gain], np.int32), np.array([offset], np.int32), 0
    )
    return [pixels(1, 1, 100), last]


def mean(d: int, shift: int, multiplier: int, high: int = 255) -> list[Operation]:
    """The mean of d activations in a row."""
    window = Average(1, 1, (1, d), 1, (0, 0, 0, 0), numbers(*[shift] * d), numbers(*[multiplier] * d))
    one = numbers(1)
    return [pixels(1, d), Norm(0, one, one, numbers(0), 0, high), window, logits(2)]


def kernel(height: int, width: int) -> list[Operation]:
    return [pixels(2, 3), logits(0, 1, height * width, (height, width))]


# name -> a program at the limit, and one beyond it
BOTH: dict[str, tuple[Callable[[], list[Operation]], Callable[[], list[Operation]]]] = {
    "channels": (
        lambda: [table(1), conv(0, 65536, 1), logits(1, 1, 65536)],
        lambda: [table(1), conv(0, 65537, 1), logits(1, 1, 65537)],
    ),
    "height": (lambda: [pixels(4096, 1), logits(0)], lambda: [pixels(4097, 1), logits(0)]),
    "width": (lambda: [pixels(1, 4096), logits(0)], lambda: [pixels(1, 4097), logits(0)]),
    "map": (
        lambda: [pixels(4096, 4096, 0, 4), logits(0, 1, 4)],
        lambda: [pixels(4096, 4096, 0, 5), logits(0, 1, 5)],
    ),
    "stride": (
        lambda: [pixels(300, 1), Max(0, (1, 1), 255), logits(1)],
        lambda: [pixels(300, 1), Max(0, (1, 1), 256), logits(1)],
    ),
    **{
        f"padding {side}": (
            lambda side=side: padded(tuple(127 * (i == side) for i in range(4))),
            lambda side=side: padded(tuple(128 * (i == side) for i in range(4))),
        )
        for side in range(4)
    },
    "window that fits": (
        lambda: [pixels(5, 5), Max(0, (7, 5), 1, (1, 0, 1, 0)), logits(1)],
        lambda: [pixels(5, 5), Max(0, (8, 5), 1, (1, 0, 1, 0)), logits(1)],
    ),
    "pixel": (lambda: [pixels(1, 1, 8159), logits(0)], lambda: [pixels(1, 1, 8160), logits(0)]),
    "dark pixel": (lambda: [pixels(1, 1, -8159), logits(0)], lambda: [pixels(1, 1, -8160), logits(0)]),
    # 2^20 * 2047 + 1 is below 2^31; 2^20 * 2048 is not
    "sums of a conv": (lambda: summed(2047), lambda: summed(2048)),
    "sums of a conv, below": (lambda: summed(0, -2047), lambda: summed(0, -2048)),
    # 2^20 * 2047 + 2^20 is 2^31
    "shift of a conv": (
        lambda: [pixels(1024, 1024, 2047), conv(0, 1, 1 << 20, (1024, 1024), shift=19), logits(1)],
        lambda: [pixels(1024, 1024, 2047), conv(0, 1, 1 << 20, (1024, 1024), shift=20), logits(1)],
    ),
    "sums of logits": (lambda: [pixels(1024, 1024, 2047), logits(0)], lambda: [pixels(1024, 1024, 2048), logits(0)]),
    "largest shift": (lambda: scored(1, 1, 24), lambda: scored(1, 1, 25)),
    # (100 + 1) * 2^20 + F
    "logits": (
        lambda: scored(1 << 20, 2**31 - 1 - 101 * (1 << 20)),
        lambda: scored(1 << 20, 2**31 - 101 * (1 << 20)),
    ),
    "logits, below": (
        lambda: scored(-(1 << 20), -(2**31 - 1 - 101 * (1 << 20))),
        lambda: scored(-(1 << 20), -(2**31 - 101 * (1 << 20))),
    ),
    # (510 * m + 0x4000) >> 15, and 383 in the place of 510: 255 and 256
    "a mean": (lambda: mean(2, 0, 16416), lambda: mean(2, 0, 16417)),
    "a rounded mean": (lambda: mean(3, 1, 21859), lambda: mean(3, 1, 21860)),
    "a mean of little": (lambda: mean(1, 1, 32767, 1), lambda: mean(3, 1, 32767, 1)),
    "kernel of logits, as high": (lambda: kernel(2, 3), lambda: kernel(2, 1)),
    "kernel of logits, as wide": (lambda: kernel(1, 1), lambda: kernel(1, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", BOTH)
def test_limit(name: str, loader: Loader) -> None:
    fine, beyond = BOTH[name]
    assert same(unchecked(fine()), loader)
    assert not same(unchecked(beyond()), loader)


@pytest.mark.parametrize("high", [1, 2, 15, 254, 255])
def test_where_means_begin_to_grow(high: int, loader: Loader) -> None:
    """Rounding decides at which multiplier a mean passes the largest activation: every one near it, at many shifts."""
    for d, shift in ((1, 0), (2, 1), (3, 1), (3, 2), (5, 2), (7, 3), (9, 15)):
        total = (d * high + (1 << shift >> 1)) >> shift
        least = min(32767, (((high + 1) << 15) - 0x4000) // max(1, total))
        for multiplier in range(max(0, least - 2), min(32767, least + 2) + 1):
            same(unchecked(mean(d, shift, multiplier, high)), loader)


# height, width and reach whose product is 2^31 - 2, 2^31 - 2^10 - 1 and 2^31 - 2^10: with 2^shift 2^31 - 1 or 2^31
@pytest.mark.parametrize(
    ("height", "width", "reach", "shift", "fine"),
    [
        (93, 3171, 7282, 0, True),
        (93, 3171, 7282, 1, False),
        (143, 3503, 4287, 10, True),
        (98, 2696, 8128, 10, False),
        (98, 2696, 8128, 9, True),
    ],
)
def test_sums_at_the_end_of_31_bits(
    height: int, width: int, reach: int, shift: int, fine: bool, loader: Loader
) -> None:
    for number in (reach, -reach):
        image = pixels(height, width, number)
        window = conv(0, 1, height * width, (height, width), shift=shift)
        assert same(unchecked([image, window, logits(1)]), loader) == fine
        zeros = np.zeros(1, np.int32)
        last = Logits(0, np.zeros((1, 1), np.uint8), (1, 1), shift, zeros, zeros, 0)
        assert same(unchecked([image, last]), loader) == fine


def test_sums_of_an_average_at_the_end_of_31_bits(loader: Loader) -> None:
    """68 * 4096 * 7710 + 2^15 is 2^31."""
    for number, fine in ((7709, True), (7710, False), (-7709, True), (-7710, False)):
        ones = np.ones(68 * 4096, np.int16)
        window = Average(0, 1, (68, 4096), 1, (0, 0, 0, 0), ones, ones)
        assert same(unchecked([pixels(68, 4096, number), window, logits(1)]), loader) == fine


COLUMNS: list[tuple[int, dict[str, int], bool]] = [
    *((5, {"zero": zero, "limit": limit}, 0 <= zero <= limit and 1 <= limit <= 255)
      for limit in (0, 1, 2, 15, 254, 255, 256) for zero in (-1, 0, 1, limit - 1, limit, limit + 1)),
    *((7, {"zero": fraction}, 0 <= fraction <= 24) for fraction in (-1, 0, 1, 23, 24, 25)),
    *((7, {"limit": sharpness}, sharpness >= 1) for sharpness in (-(2**31), -1, 0, 1, 2, 2**31 - 1)),
    *((3, {"shift": shift}, 0 <= shift <= 24) for shift in (-1, 0, 23, 24, 25)),
]  # fmt: skip


def test_columns(loader: Loader) -> None:
    for operation, columns, fine in COLUMNS:
        opened = Opened(GOOD)
        opened.set(operation, **columns)
        assert same(opened.close(), loader) == fine, (operation, columns)


@pytest.mark.parametrize("offset", [0, 1])
def test_every_row_of_a_norm_is_looked_at(offset: int, loader: Loader) -> None:
    for row in range(5):
        for number in (-32768, -32767, 32767):
            norms = numbers(1, 2, 3, 4, 5)
            multiplier = norms.copy()
            multiplier[row] = number
            ops = [table(1, 5), Norm(0, norms, multiplier, norms * np.int16(offset)), logits(1, 1, 5)]
            assert same(unchecked(ops), loader) == (number != -32768)


def test_an_operation_number_at_each_place(loader: Loader) -> None:
    """Sources and bases from -2 to beyond the last, at every operation."""
    for i in range(8):
        for column in ("source", "base"):
            for number in range(-2, 10):
                opened = Opened(GOOD)
                opened.set(i, **{column: number})
                same(opened.close(), loader)


# -- texts ---------------------------------------------------------------------------------------


def named(*names: str, escape: bool = False) -> bytes:
    opened = Opened(GOOD)
    opened.metadata["classes"] = json.dumps(names, ensure_ascii=escape)
    header = json.dumps(opened.header, ensure_ascii=escape)
    return opened.close(lambda _: header)


EDGES = sorted(
    {
        c + d
        for c in (0, 0x1F, 0x20, 0x7E, 0x7F, 0x80, 0x9F, 0xA0, 0x7FF, 0x800, 0x2028, 0x202E, 0x2066, 0x2069, 0xD7FF)
        for d in (-1, 0, 1)
        if c + d >= 0
    }
    | {0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xE000, 0xFFFF, 0x10000, 0x10001, 0x103FF, 0x10400, 0xFFFFF, 0x10FC00, 0x10FFFF}
)


@pytest.mark.parametrize("escape", [False, True])
def test_edges_of_characters(escape: bool, loader: Loader) -> None:
    for c in EDGES:
        if not escape and 0xD800 <= c <= 0xDFFF:
            continue
        same(named("ant", chr(c), escape=escape), loader)
        opened = Opened(GOOD)
        opened.metadata[f"key{chr(c)}"] = "x"
        opened.metadata["data"] = f"x{chr(c)}"
        same(opened.close(), loader)
        opened = Opened(GOOD)
        opened.metadata["data"] = f"x{chr(c)}"
        same(opened.close(), loader)


@pytest.mark.parametrize(
    "c", ["\u00ab", "\u0fff", "\U00010000", "\U0010ffff", "\U0001f600", "\ud7ff", "\ue000", "\u0999", "z"]
)
def test_a_character_is_the_same_however_it_is_written(c: str, loader: Loader) -> None:
    units = c.encode("utf-16-be", "surrogatepass")
    for form in ("%04x", "%04X"):
        escaped = "".join("\\u" + form % int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2))
        for text in (escaped, escaped.replace("\\", "\\\\")):  # by the outer JSON, by the inner JSON
            header = json.dumps(Opened(GOOD).header, ensure_ascii=False)
            changed = header.replace(r"\"ant\", \"Käfer\"", rf"\"{c}\", \"{text}\"")
            assert changed != header
            assert not same(Opened(GOOD).close(lambda _: changed), loader)  # noqa: B023
            assert same(Opened(GOOD).close(lambda _: changed.replace(rf"\"{c}\"", r"\"y\"", 1)), loader)  # noqa: B023


@pytest.mark.parametrize("space", [" ", "\t", "\n", "\r", " \r\n\t ", "\v", "\f", "\xa0", "\0"])
def test_spaces(space: str, loader: Loader) -> None:
    for old, new in (
        (r"[\"ant\"", rf"{json.dumps(space)[1:-1]}[\"ant\""),
        (r"[\"ant\"", rf"[{json.dumps(space)[1:-1]}\"ant\""),
        (r"\"ant\",", rf"\"ant\"{json.dumps(space)[1:-1]},"),
        (r"\"ant\",", rf"\"ant\",{json.dumps(space)[1:-1]}"),
        (r"er\"]", rf"er\"{json.dumps(space)[1:-1]}]"),
        (r"er\"]", rf"er\"]{json.dumps(space)[1:-1]}"),
        ('{"data_', "{" + space + '"data_'), ('"dtype"', '"dtype"' + space), (':"U8"', ":" + space + '"U8"'),
        ('"U8",', '"U8"' + space + ","), ("[2,2]", f"[{space}2,2]"), ("[2,2]", f"[2{space},2]"),
        ("[2,2]", f"[2,{space}2]"), ("[2,2]", f"[2,2{space}]"), ("}}", "}" + space + "}" + space),
    ):  # fmt: skip
        header = json.dumps(Opened(GOOD).header, ensure_ascii=False, separators=(",", ":"))
        assert old in header and old != new
        assert same(Opened(GOOD).close(lambda _: header.replace(old, new, 1)), loader) == (  # noqa: B023
            not set(space) - set(" \t\n\r")
        )


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 100, 6000])
def test_many_metadata(count: int, loader: Loader) -> None:
    """Memory for sorting them, too; in an order that is none."""
    opened = Opened(GOOD)
    opened.metadata.update({f"{k * 7919 % 6011:x}": "" for k in range(count)})
    assert same(opened.close(), loader)
    for k in {0, count // 2, count - 1} - {-1} if count else set():
        again = f'"{k * 7919 % 6011:x}":"",'
        assert not same(opened.close(lambda header: header.replace('"data":', again + '"data":')), loader)  # noqa: B023


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 50, 3000])
def test_many_classes(count: int, loader: Loader) -> None:
    names = [f"class {k * 7919 % 3001}" for k in range(count)]
    ops = [table(1, number=1), logits(0, count)]
    content = file.encode(file.Program(ops), names)
    assert same(content, loader)
    for k in {0, count // 2, count - 2} if count > 2 else set():
        opened = Opened(content)
        opened.metadata["classes"] = json.dumps([*names[:-1], names[k]])
        assert not same(opened.close(), loader)


def test_a_header_of_the_largest_size(loader: Loader) -> None:
    text = json.dumps(Opened(GOOD).header)
    for more, fine in ((0, True), (8, False)):
        spaces = " " * ((1 << 20) - len(text) + more)
        assert same(Opened(GOOD).close(lambda _: text + spaces), loader) == fine  # noqa: B023
