"""Scores and comparisons count what they say they count."""

from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from onebit.data.dataset import Arrays, Files
from onebit.errors import OnebitError
from onebit.examine.compare import RMS_BOUNDS, activation_bits, batches, compare, logits_of, score
from onebit.model import Model
from onebit.packed.calibration import calibration_error, softmax
from onebit.packed.program import Norm, Program
from support.models import left_or_right, wide


def test_a_comparison_by_hand() -> None:
    labels = np.array([0, 1, 2, 0])
    before = np.eye(3)[[0, 1, 0, 1]]  # right, right, wrong, wrong
    after = np.eye(3)[[0, 2, 2, 2]]  # right, wrong, right, wrong with another class
    result = compare(before, after, labels)
    assert (result.images, result.float_wrong, result.packed_wrong) == (4, 2, 2)
    assert (result.changed, result.agreed) == (2, 1)
    assert (result.float_error, result.packed_error, result.agreement) == (50, 50, 25)
    assert result.largest == 1
    assert result.rms == pytest.approx(math.sqrt(6 / 12) / before.std())
    assert result.bound == pytest.approx(200 * math.sqrt(2) / 4)
    assert not result.good


def test_equal_logits_agree_in_everything() -> None:
    logits = np.random.default_rng(0).normal(0, 1, (50, 10))
    result = compare(logits, logits, logits.argmax(1))
    assert (result.changed, result.agreed, result.rms, result.largest, result.agreement) == (0, 50, 0, 0, 100)
    assert result.bound == 0.05 and result.good


@pytest.mark.parametrize(("noise", "good"), [(0.02, True), (0.04, False)])
def test_logits_may_differ_by_three_hundredths_of_their_deviation(noise: float, good: bool) -> None:
    rng = np.random.default_rng(0)
    logits = 7 * rng.normal(0, 1, (2000, 10))
    result = compare(logits, logits + 7 * noise * rng.normal(0, 1, logits.shape), rng.integers(0, 10, 2000))
    assert result.rms == pytest.approx(noise, rel=0.03)
    assert result.good == good


def test_four_bits_may_differ_by_more() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (2000, 10))
    other, labels = logits + 0.06 * rng.normal(0, 1, logits.shape), rng.integers(0, 10, 2000)
    eight, four = compare(logits, other, labels), compare(logits, other, labels, bits=4)
    assert eight.rms == four.rms and not eight.good and four.good
    assert RMS_BOUNDS[4] == pytest.approx(RMS_BOUNDS[8] * 8**0.5, abs=1e-3)


def test_the_width_of_activations_is_the_narrowest() -> None:
    assert activation_bits(left_or_right().program) == 8
    eight = wide(1, Fraction(1, 4), 8)
    assert activation_bits(eight.program) == 8
    operations = list(eight.program.operations)
    at = next(i for i, op in enumerate(operations) if isinstance(op, Norm))
    operations[at] = dataclasses.replace(operations[at], limit=15)  # type: ignore[arg-type]
    assert activation_bits(Program(operations)) == 4


def test_many_answers_that_change_in_one_direction_are_not_good() -> None:
    """Noise turns as many wrong ones right as right ones wrong; a defect does not."""
    labels = np.zeros(10_000, np.int64)
    before = np.tile([1.0, 0.999], (10_000, 1))
    after = before.copy()
    after[:100] = [0.999, 1.0]  # 1 point, where 100 changes allow 0.2
    result = compare(before, after, labels)
    assert result.packed_error == 1 and result.bound == pytest.approx(0.2)
    assert not result.good


def test_the_facts_are_json_of_all_numbers() -> None:
    logits = np.eye(3)
    facts = json.loads(json.dumps(compare(logits, logits, np.arange(3)).facts()))
    assert facts["images"] == 3 and facts["good"] is True
    assert {"float_error", "packed_error", "bound", "agreement", "rms", "largest", "changed", "agreed"} <= set(facts)


def test_integers_and_float32_are_compared_as_float64() -> None:
    logits = np.array([[2**30, 0], [0, 2**30]], np.int32)
    assert compare(logits.astype(np.float32), logits, np.array([0, 1])).rms == 0


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 60))
def test_a_score_counts_one_picture_after_the_other(seed: int, classes: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels, logits = rng.integers(0, classes, n), rng.integers(-3, 4, (n, classes)).astype(np.float64)
    model = named(classes)
    result = score(model, logits, labels)
    confusion = np.zeros((classes, classes), int)
    wrong5 = 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        order = sorted(range(classes), key=lambda k: (-row[k], k))  # of equal logits the first is the likelier class
        confusion[label][order[0]] += 1
        wrong5 += label not in order[:5]
    assert result.confusion == confusion.tolist()
    assert (result.images, result.wrong, result.wrong_top5) == (n, n - np.trace(confusion), wrong5)
    assert result.error == 100 * result.wrong / n and result.top5_error == 100 * wrong5 / n
    assert result.calibration_plain == calibration_error(softmax(logits), labels)
    assert result.calibration == calibration_error(softmax(logits / model.temperature), labels)


def named(classes: int) -> Model:
    model = Model(left_or_right())
    model.classes = tuple(map(str, range(classes)))
    return model


def arrays(n: int, channels: int = 1, size: int = 8) -> Arrays:
    rng = np.random.default_rng(n)
    return Arrays(rng.integers(0, 256, (n, channels, size, size), np.uint8), rng.integers(0, 2, n))


def test_batches_hold_every_picture_once_in_order() -> None:
    split = arrays(7)
    found = list(batches(split, 1, 8, batch=3))
    assert [len(labels) for _, labels in found] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([images for images, _ in found]), split.images)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in found]), split.labels)


def test_photographs_are_cropped_to_the_size(tmp_path: Path) -> None:
    paths = []
    for i, (width, height) in enumerate([(20, 12), (9, 31), (8, 8)]):
        noise = np.random.default_rng(i).integers(0, 256, (height, width, 3), np.uint8)
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(noise).save(paths[-1])
    split = Files(tuple(paths), np.array([0, 1, 0]))
    for channels in (1, 3):
        ((images, labels),) = batches(split, channels, 8)
        assert images.shape == (3, channels, 8, 8) and images.dtype == np.uint8
        assert labels.tolist() == [0, 1, 0]


def test_logits_of_a_split_are_those_of_its_pictures() -> None:
    model, split = Model(left_or_right()), arrays(120)
    told: list[tuple[int, int]] = []
    logits = logits_of(model, split, lambda done, of: told.append((done, of)))
    np.testing.assert_array_equal(logits, model.logits(split.images, "NCHW"))
    assert told == [(50, 120), (100, 120), (120, 120)]
    assert logits_of(model, split.take(np.arange(0))).shape == (0, 2)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(OnebitError, match=r"^the model takes pictures of 4x6; data sets hold square ones$"):
        logits_of(Model(left_or_right(1, 4, 6)), arrays(3))
    with pytest.raises(OnebitError, match=r"^pictures have shape \(3, 1, 9, 9\), the model takes \[N, 1, 8, 8\]"):
        logits_of(Model(left_or_right()), arrays(3, size=9))
