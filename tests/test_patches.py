"""Windows of maps against counting them one by one."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebit.errors import OnebitError
from onebit.patches import Padding, covered, divisors, output_size, windows

pairs = st.tuples(st.integers(1, 7), st.integers(1, 7))
paddings = st.tuples(*[st.integers(0, 4)] * 4)
strides = st.integers(1, 4)


def starts(size: int, kernel: int, stride: int, before: int, after: int) -> list[int]:
    """Where a window begins on a padded line; the line itself begins at 0."""
    return list(range(-before, size + after - kernel + 1, stride))


@given(pairs, pairs, strides, paddings)
def test_against_every_position_one_by_one(
    size: tuple[int, int], kernel: tuple[int, int], stride: int, padding: Padding
) -> None:
    top, left, bottom, right = padding
    rows = starts(size[0], kernel[0], stride, top, bottom)
    columns = starts(size[1], kernel[1], stride, left, right)
    if not rows or not columns:
        with pytest.raises(OnebitError, match=f"^a window of {kernel[0]}x{kernel[1]} does not fit into a map of"):
            output_size(size, kernel, stride, padding)
        return
    assert output_size(size, kernel, stride, padding) == (len(rows), len(columns))
    x = np.arange(2 * size[0] * size[1] * 3).reshape(2, *size, 3)
    fill = -5
    view = windows(x, kernel, stride, padding, fill)
    assert view.shape == (2, len(rows), len(columns), *kernel, 3) and not view.flags.writeable
    inside = np.zeros((len(rows), len(columns)), int)
    for r, row in enumerate(rows):
        for c, column in enumerate(columns):
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    y, z = row + i, column + j
                    there = 0 <= y < size[0] and 0 <= z < size[1]
                    inside[r, c] += there
                    expected = x[:, y, z] if there else np.full((2, 3), fill)
                    assert (view[:, r, c, i, j] == expected).all()
    np.testing.assert_array_equal(covered(size, kernel, stride, padding), inside)
    np.testing.assert_array_equal(divisors(size, kernel, stride, padding), np.unique(inside))


def test_windows_keep_the_type_and_share_memory_where_nothing_is_padded() -> None:
    x = np.zeros((1, 4, 4, 2), np.float32)
    assert windows(x, (3, 3), 1, (0, 0, 0, 0), 0).dtype == np.float32
    assert np.shares_memory(windows(x, (3, 3), 1, (0, 0, 0, 0), 0), x)
    padded = windows(x, (3, 3), 1, (1, 0, 0, 0), -np.inf)
    assert padded.dtype == np.float32 and padded[0, 0, 0, 0, 0, 0] == -np.inf


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((4096, 4096), (4096, 4096), 255, (127, 127, 127, 127)),
        ((4096, 4096), (1, 1), 1, (127, 127, 127, 127)),
        ((4096, 4096), (2048, 2048), 1, (0, 0, 0, 0)),
        ((1, 4096), (200, 3000), 1, (127, 127, 127, 127)),
    ],
)
def test_checking_absurd_windows_takes_neither_time_nor_memory(
    size: tuple[int, int], kernel: tuple[int, int], stride: int, padding: Padding
) -> None:
    tracemalloc.start()
    began = time.process_time()
    found = divisors(size, kernel, stride, padding)
    took = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 2 and peak < 32 << 20, f"{took:.2f} s, {peak >> 20} MiB"
    assert 0 <= found[0] <= found[-1] <= min(size[0], kernel[0]) * min(size[1], kernel[1])
