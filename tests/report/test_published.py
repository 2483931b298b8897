"""Which published number stands beside a run: only one of the same experiment."""

from __future__ import annotations

import pytest

from onebit import recipe
from onebit.report.published import AUTHOR, CYCLE_ENDS, author_errors, published_error
from onebit.train.schedule import restart_epochs


def test_cycle_ends_are_those_of_the_schedule() -> None:
    assert list(CYCLE_ENDS) == restart_epochs(recipe.Training(epochs=255))
    assert all(len(values) == len(CYCLE_ENDS) for programs in AUTHOR.values() for values in programs.values())


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("cifar10-20-10-cutout-1bit", [], 3.92),
        ("cifar10-20-10-cutout-1bit", ["seed=5", "precision=float32", "compile=true"], 3.92),
        ("cifar10-20-10-cutout-1bit", ["epochs=14"], 8.54),  # the author's Keras log: 91.46 %
        ("cifar10-20-10-cutout-1bit", ["epochs=15"], None),  # inside a cycle
        ("cifar10-20-10-cutout-1bit", ["width=4"], None),
        ("cifar10-20-10-1bit", ["epochs=14"], None),  # the author's logs are with cutout
        ("cifar10-20-10-1bit", ["lr=0.05"], None),
        ("mnist-20-4-float", ["epochs=1"], 0.71),
        ("mnist-20-1-1bit", [], None),
        ("digits", [], None),
    ],
)
def test_only_the_same_experiment_is_compared(name: str, settings: list[str], expected: float | None) -> None:
    assert published_error(recipe.load(name).replace(settings)) == expected


def test_a_recipe_of_ones_own_has_no_published_number() -> None:
    text = recipe.load("svhn-20-4-1bit").to_toml()
    assert published_error(recipe.parse(text, "mine")) is None
    assert published_error(recipe.parse(text, "svhn-20-4-1bit")) == 1.93


def test_the_author_published_curves_of_cifar_only() -> None:
    assert author_errors(recipe.load("svhn-20-4-1bit")) == {}
    errors = author_errors(recipe.load("cifar100-20-4-1bit"))
    assert set(errors) == {"Keras", "MATLAB"} and errors["MATLAB"][-1] == (254, 17.91)
