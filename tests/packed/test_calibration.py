"""The temperature is that of least cross-entropy, and the calibration error is what its definition says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

from onebit.packed.calibration import calibration_error, cross_entropy, fit_sharpness, softmax


def pictures(seed: int, n: int, classes: int, scale: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a classifier that is as often right as `noise` lets it be."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return scale * (np.eye(classes)[labels] + noise * rng.normal(0, 1, (n, classes))), labels


def loss(t: float, logits: np.ndarray, labels: np.ndarray) -> float:
    """Cross-entropy where the equivalent of one label of n is spread over all classes."""
    n = len(logits)
    log = t * logits - t * logits.max(1, keepdims=True)
    log = log - np.log(np.exp(log).sum(1, keepdims=True))
    return -float(n * log[np.arange(n), labels].mean() + log.mean()) / (n + 1)


@given(
    st.integers(0, 2**32 - 1), st.integers(2, 300), st.integers(2, 20), st.floats(0.1, 20), st.floats(0.3, 3)
)  # fmt: skip
def test_no_other_temperature_has_less_cross_entropy(
    seed: int, n: int, classes: int, scale: float, noise: float
) -> None:
    logits, labels = pictures(seed, n, classes, scale, noise)
    t = fit_sharpness(logits, labels)
    assert 2.0**-6 <= t <= 2.0**6
    found = minimize_scalar(
        lambda e: loss(2.0**e, logits, labels), bounds=(-6, 6), method="bounded", options={"xatol": 1e-7}
    )
    # 8 significant bits: half of the last is 1 in 256, and bounded search does not reach the very ends
    assert loss(t, logits, labels) <= found.fun * (1 + 1e-4) + 1e-9
    if -5.9 < found.x < 5.9:
        assert t == pytest.approx(2.0**found.x, rel=1 / 200)


@pytest.mark.parametrize("odds", [2, 3, 9, 99])
def test_two_classes_have_a_closed_form(odds: int) -> None:
    """With one logit of 1 and one of 0, t is the logarithm of the odds; one label more is half of each class."""
    n = 100 * (odds + 1)
    labels = np.repeat([0, 1], [100 * odds, 100])
    t = fit_sharpness(np.tile([1.0, 0.0], (n, 1)), labels)
    assert t == pytest.approx(math.log((100 * odds + 0.5) / 100.5), rel=1 / 256)


def test_a_temperature_scales_with_the_logits() -> None:
    logits, labels = pictures(1, 500, 10, 3.0, 0.5)
    assert fit_sharpness(logits * 4, labels) * 4 == fit_sharpness(logits, labels)


@pytest.mark.parametrize("n", [1, 10, 1000])
def test_a_network_that_is_always_right_is_not_certain_of_everything(n: int) -> None:
    labels = np.arange(n) % 10
    logits = 3.0 * np.eye(10)[labels]
    t = fit_sharpness(logits, labels)
    confidence = softmax(t * logits).max()
    assert np.isfinite(t) and confidence == pytest.approx(1 - 0.9 / (n + 1), abs=0.02)
    assert confidence < 1


def test_the_ends_of_the_range() -> None:
    labels = np.arange(100) % 10
    assert fit_sharpness(1e-3 * np.eye(10)[labels], labels) == 64
    assert fit_sharpness(1e4 * np.eye(10)[labels], labels) == 2.0**-6
    assert fit_sharpness(np.eye(10)[(labels + 1) % 10], labels) == 2.0**-6  # always wrong: says as little as can be


@given(st.integers(0, 2**32 - 1))
def test_sharpness_has_eight_significant_bits(seed: int) -> None:
    t = fit_sharpness(*pictures(seed, 50, 10, 3.0, 0.7))
    mantissa, _ = math.frexp(t)
    assert mantissa * 256 == int(mantissa * 256)
    assert round(t * 65536) == t * 65536  # exact in the packed file


def test_a_fit_mends_the_bounded_logits_of_a_wide_network() -> None:
    """Logits near 3 of a class that is right 9 times of 10: a plain softmax says 69 % at most."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 4000)
    seen = np.where(rng.random(4000) < 0.9, labels, rng.integers(0, 10, 4000))
    logits = 3.0 * np.eye(10)[seen] + 0.1 * rng.normal(0, 1, (4000, 10))
    before, after = softmax(logits), softmax(fit_sharpness(logits, labels) * logits)
    assert calibration_error(before, labels) > 0.15
    assert calibration_error(after, labels) < 0.02
    assert cross_entropy(after, labels) < cross_entropy(before, labels)
    assert (before.argmax(1) == after.argmax(1)).all()


def test_softmax_of_any_size() -> None:
    logits = np.array([[1e5, 1e5 - 1, -1e5], [0.0, -math.inf, 0.0]])
    want = [[1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0.0], [0.5, 0.0, 0.5]]
    np.testing.assert_allclose(softmax(logits), want, rtol=1e-12)
    assert softmax(np.zeros((0, 3))).shape == (0, 3)


def test_cross_entropy_in_nats() -> None:
    probabilities = np.array([[0.5, 0.5], [0.1, 0.9]])
    assert cross_entropy(probabilities, np.array([0, 0])) == pytest.approx((math.log(2) + math.log(10)) / 2)
    assert cross_entropy(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(300 * math.log(10))  # finite


def test_calibration_error_by_hand() -> None:
    # 15 bins: 0.5 and 0.53 share the one from 7/15 = 0.467 to 8/15 = 0.533; 0.7 lies in another
    confidence = np.array([0.5, 0.53, 0.7, 0.7, 0.7])
    right = np.array([True, False, True, True, False])
    probabilities = np.stack([confidence, 1 - confidence], 1)
    labels = np.where(right, 0, 1)
    labels[0] = 0
    first = abs((0.5 + 0.53) / 2 - 1 / 2) * 2 / 5
    second = abs(0.7 - 2 / 3) * 3 / 5
    assert calibration_error(probabilities, labels) == pytest.approx(first + second)
    assert calibration_error(probabilities, labels, bins=1) == pytest.approx(abs(confidence.mean() - 3 / 5))


def test_certain_and_right_is_no_error() -> None:
    certain = np.eye(3)[[0, 1, 2]]
    assert calibration_error(certain, np.array([0, 1, 2])) == 0  # confidence 1 belongs to the last bin
    assert calibration_error(certain, np.array([1, 2, 0])) == 1
