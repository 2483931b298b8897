"""Convolution and pooling in NumPy: maps [N, H, W, C] cut into the windows that a kernel sees."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError

Padding = tuple[int, int, int, int]  # top, left, bottom, right


def output_size(size: tuple[int, int], kernel: tuple[int, int], stride: int, padding: Padding) -> tuple[int, int]:
    """Height and width of the map that a window of `kernel` makes; OnebitError where it does not fit in even once.

    >>> output_size((32, 32), (3, 3), 2, (0, 0, 1, 1))
    (16, 16)
    """
    top, left, bottom, right = padding
    height, width = size[0] + top + bottom - kernel[0], size[1] + left + right - kernel[1]
    if height < 0 or width < 0:
        raise OnebitError(f"a window of {kernel[0]}x{kernel[1]} does not fit into a map of {size[0]}x{size[1]}")
    return height // stride + 1, width // stride + 1


def windows(x: NDArray[Any], kernel: tuple[int, int], stride: int, padding: Padding, fill: float) -> NDArray[Any]:
    """Maps [N, H, W, C], padded with `fill`, as a read-only view [N, H', W', kernel height, kernel width, C].

    >>> windows(np.arange(4).reshape(1, 2, 2, 1), (2, 2), 1, (0, 0, 0, 0), 0)[0, 0, 0, :, :, 0]
    array([[0, 1],
           [2, 3]])
    """
    top, left, bottom, right = padding
    if any(padding):
        x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(1, 2))
    return view[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)


def covered(size: tuple[int, int], kernel: tuple[int, int], stride: int, padding: Padding) -> NDArray[np.int64]:
    """How many positions of a window lie inside the map: int64 [H', W'], the divisors of average pooling.

    >>> covered((4, 4), (3, 3), 2, (1, 1, 1, 1))
    array([[4, 6],
           [6, 9]])
    """
    down, across = _seen(size, kernel, stride, padding)
    return down[:, None] * across


def divisors(size: tuple[int, int], kernel: tuple[int, int], stride: int, padding: Padding) -> NDArray[np.int64]:
    """The different numbers in `covered`, ascending; without the map, which is large where a file wants it so.

    >>> divisors((4, 4), (3, 3), 2, (1, 1, 1, 1))
    array([4, 6, 9])
    """
    down, across = _seen(size, kernel, stride, padding)
    return np.unique(np.unique(down)[:, None] * np.unique(across))


def _seen(
    size: tuple[int, int], kernel: tuple[int, int], stride: int, padding: Padding
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many rows each row of windows sees, and how many columns each column of them."""
    rows, columns = output_size(size, kernel, stride, padding)
    down = _inside(size[0], kernel[0], np.arange(rows) * stride - padding[0])
    across = _inside(size[1], kernel[1], np.arange(columns) * stride - padding[1])
    return down, across


def _inside(size: int, kernel: int, start: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of a line of `size` positions, how many the windows from `start` on see."""
    return np.maximum(0, np.minimum(start + kernel, size) - np.maximum(start, 0))
