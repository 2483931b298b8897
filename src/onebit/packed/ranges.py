"""How large the numbers of a network get, as pictures show; needed only where no batch-norm says it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onebit.graph.nodes import Activation, Graph, run

DEVIATIONS = {8: 8.0, 4: 4.0}  # of a channel behind its batch-norm, in the range of an activation of so many bits
EXPONENTS = range(-10, 9)  # of the steps that are tried


class Seen(NamedTuple):
    """What pictures showed of a node: its largest size, and of an activation the best step for each width in bits."""

    largest: float
    steps: Mapping[int, float]


def measure(graph: Graph, images: NDArray[np.uint8], batch: int = 16) -> dict[int, Seen]:
    """What pictures uint8 [N, C, H, W] show of every node, computed in float32.

    The best step of an activation is the power of 2 with the least squared error: without batch-norms some numbers are
    far larger than nearly all others, and to cut those off costs less than coarse steps for all.
    """
    largest = np.zeros(len(graph.nodes))
    errors: dict[int, NDArray[np.float64]] = {}  # node -> [width, exponent]

    def watch(i: int, x: NDArray[np.float32]) -> None:
        largest[i] = max(largest[i], float(np.abs(x).max()))
        node = graph.nodes[i]
        if isinstance(node, Activation) and node.step is None:
            errors[i] = errors.get(i, 0.0) + np.array(
                [[_quantisation_error(x, node.low, 2.0**e, bits) for e in EXPONENTS] for bits in DEVIATIONS]
            )

    for start in range(0, len(images), batch):
        run(graph, images[start : start + batch], watch)
    best = {i: dict(zip(DEVIATIONS, 2.0 ** np.array(EXPONENTS)[e.argmin(1)], strict=True)) for i, e in errors.items()}
    return {i: Seen(float(size), best.get(i, {})) for i, size in enumerate(largest)}


def _quantisation_error(x: NDArray[np.float32], low: float, step: float, bits: int) -> float:
    """The sum of squares by which levels of `step` differ from x; too large where half of them would be below 0."""
    zero, levels = zero_level(low, step), 2**bits
    if zero > levels // 2:
        return math.inf
    q = np.clip(np.floor(x * np.float32(1 / step) + np.float32(0.5)), -zero, levels - 1 - zero)
    return float(np.square(q * np.float32(step) - x).sum(dtype=np.float64))


def zero_level(low: float, step: float) -> int:
    """The level that stands for 0, where the lowest one stands for `low` (or for 0, if the step is larger than that)."""
    return int(-low // step)
