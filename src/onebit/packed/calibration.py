"""Probabilities out of logits: one temperature, fitted on training pictures, and how far to believe the result.

The last batch-norm of the paper's networks bounds their logits near 3, so that a plain softmax over ten classes never
says more than about 75 %. Dividing the logits by a temperature below 1 mends that and changes no decision.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def softmax(logits: Numbers) -> Numbers:
    """Probabilities of logits [N, classes].

    >>> softmax(np.array([[0.0, 0.0]]))
    array([[0.5, 0.5]])
    """
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fit_sharpness(logits: Numbers, labels: NDArray[np.int64]) -> float:
    """The t for which ``softmax(t * logits)`` has the least cross-entropy with `labels`; 1 / t is the temperature.

    Of n labels the equivalent of one is taken as unknown (spread over all classes): a network without a single error on
    these n pictures would otherwise be certain of everything. t is between 1/64 and 64 and has 8 significant bits,
    so that no rounding of an exponential decides a bit of a file.

    >>> fit_sharpness(np.array([[1.0, 0.0]] * 8), np.zeros(8, np.int64))  # 17 to 1 are the odds of the first: ln 17
    2.828125
    """
    n, classes = logits.shape
    wanted = np.full(logits.shape, 1.0 / (classes * (n + 1)))
    wanted[np.arange(n), labels] += n / (n + 1)
    low, high = 2.0**-6, 2.0**6
    for _ in range(60):  # the slope of a convex function grows: halve the interval
        middle = np.sqrt(low * high)
        slope = ((softmax(middle * logits) - wanted) * logits).sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    unit = 2.0 ** (np.floor(np.log2(low)) - 7)
    return float(np.round(low / unit) * unit)


def cross_entropy(probabilities: Numbers, labels: NDArray[np.int64]) -> float:
    """Mean negative logarithm of the probability of the right class, in nats."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-300)).mean())


def calibration_error(probabilities: Numbers, labels: NDArray[np.int64], bins: int = 15) -> float:
    """Expected calibration error: over bins of equal width, the mean of |share of right answers - mean confidence|.

    >>> calibration_error(np.array([[0.75, 0.25]] * 4), np.array([0, 0, 0, 1]))
    0.0
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    error = 0.0
    for b in np.unique(place):
        there = place == b
        error += there.mean() * abs(right[there].mean() - confidence[there].mean())
    return float(error)
