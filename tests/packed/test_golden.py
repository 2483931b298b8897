"""Recorded logits of two trained models: every implementation gives these numbers, today's reference included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from onebit.data import catalog
from onebit.model import Model, load
from onebit.packed import file

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NAMES = ("digits", "cifar10-20-1")


def pictures(name: str) -> NDArray[np.uint8]:
    """Real test pictures, then 64 made ones: uint8 [N, H, W, C]."""
    digits = catalog.load("digits").test
    real = digits.images.transpose(0, 2, 3, 1) if name == "digits" else np.load(GOLDEN / "cifar10-test-64.npy")  # type: ignore[union-attr]
    return np.concatenate([real, np.load(GOLDEN / f"{name}-made-64.npy")])


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_gives_the_recorded_logits(name: str) -> None:
    model = load(GOLDEN / f"{name}.onebit", isa="reference")
    given = pictures(name)
    assert len(given) == {"digits": 360 + 64, "cifar10-20-1": 64 + 64}[name]
    recorded = np.load(GOLDEN / f"{name}-logits.npy")
    assert recorded.dtype == np.int32 and np.array_equal(model.integers(given), recorded)


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_what_this_version_writes(name: str) -> None:
    """Reading and writing gives the same bytes: a change of the format needs a new number, not new golden data."""
    content = (GOLDEN / f"{name}.onebit").read_bytes()
    assert file.encode(*file.decode(content)) == content
    assert len(content) <= 42_000


@pytest.mark.parametrize("name", NAMES)
def test_they_are_trained_models(name: str) -> None:
    """Most of the real pictures are classified right, so that the numbers mean something."""
    logits = np.load(GOLDEN / f"{name}-logits.npy")
    if name == "digits":
        labels, most = catalog.load("digits").test.labels, 0.97
    else:  # the first 64 test pictures of CIFAR-10: their classes
        labels, most = np.load(GOLDEN / "cifar10-test-64-labels.npy"), 0.75
    assert (logits[: len(labels)].argmax(1) == labels).mean() >= most


def test_one_bright_pixel_changes_the_answer_s_integers() -> None:
    """The made pictures are different pictures, down to one pixel."""
    logits = np.load(GOLDEN / "digits-logits.npy")[360:]
    assert len(np.unique(logits, axis=0)) >= 60
    assert isinstance(load(GOLDEN / "digits.onebit"), Model)
