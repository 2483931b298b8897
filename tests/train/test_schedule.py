from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebit.errors import OnebitError
from onebit.recipe import Recipe, Training
from onebit.train.schedule import cycle_ends, learning_rate, restart_epochs, same_path, with_epochs


def by_simulation(cycle: int, steps_per_epoch: int, epochs: int, lr: float, lr_end: float) -> list[float]:
    """The rates written as a loop that counts down mini-batches and doubles the cycle when none is left."""
    rates: list[float] = []
    length = cycle * steps_per_epoch
    position = 0
    for _ in range(epochs * steps_per_epoch):
        rates.append(lr_end + (lr - lr_end) * math.cos(math.pi / 2 * position / length) ** 2)
        position += 1
        if position == length:
            position, length = 0, 2 * length
    return rates


@given(st.integers(1, 4), st.integers(1, 7), st.integers(1, 40))
def test_restarts_follow_the_simulated_cycles(cycle: int, steps: int, epochs: int) -> None:
    training = Training(epochs=epochs, cycle=cycle, schedule="restarts", lr=0.1, lr_end=1e-4)
    rates = [learning_rate(training, step, steps) for step in range(epochs * steps)]
    assert rates == pytest.approx(by_simulation(cycle, steps, epochs, 0.1, 1e-4), rel=1e-9)
    jumps = [step // steps for step in range(1, len(rates)) if rates[step] > rates[step - 1]]
    if cycle * steps > 1:  # a cycle of one mini-batch has no lower rate to jump from
        assert jumps == restart_epochs(training)


def test_the_papers_restarts() -> None:
    assert restart_epochs(Training(epochs=300, cycle=2)) == [2, 6, 14, 30, 62, 126, 254]
    assert restart_epochs(Training(epochs=254, cycle=2)) == [2, 6, 14, 30, 62, 126]
    assert cycle_ends(Training(epochs=254, cycle=2)) == [2, 6, 14, 30, 62, 126, 254]
    assert cycle_ends(Training(epochs=20, cycle=2)) == [2, 6, 14]
    assert restart_epochs(Training(epochs=20, cycle=2)) == [2, 6, 14]


def test_end_values() -> None:
    training = Training(epochs=6, cycle=2, lr=0.1, lr_end=1e-4)
    steps = 400
    assert learning_rate(training, 0, steps) == pytest.approx(0.1)
    assert learning_rate(training, 2 * steps, steps) == pytest.approx(0.1)
    for last in (2 * steps - 1, 6 * steps - 1):
        assert 1e-4 < learning_rate(training, last, steps) < 1.01e-4
    assert learning_rate(training, steps, steps) == pytest.approx((0.1 + 1e-4) / 2)


def test_one_epoch_ends_inside_the_first_cycle() -> None:
    assert restart_epochs(Training(epochs=1, cycle=2)) == cycle_ends(Training(epochs=1, cycle=2)) == []
    one, two = Training(epochs=1, cycle=2), Training(epochs=2, cycle=2)
    assert [learning_rate(one, s, 10) for s in range(10)] == [learning_rate(two, s, 10) for s in range(10)]


@given(st.integers(1, 30), st.integers(1, 9))
def test_one_cosine_over_all_epochs(epochs: int, steps: int) -> None:
    training = Training(epochs=epochs, schedule="cosine", lr=0.1, lr_end=1e-5)
    total = epochs * steps
    rates = [learning_rate(training, step, steps) for step in range(total)]
    assert rates == pytest.approx([1e-5 + (0.1 - 1e-5) * math.cos(math.pi / 2 * s / total) ** 2 for s in range(total)])
    assert rates == sorted(rates, reverse=True)
    assert learning_rate(training, total, steps) == pytest.approx(1e-5)
    assert restart_epochs(training) == [] and cycle_ends(training) == [epochs]


def test_steps_divide_by_ten() -> None:
    training = Training(epochs=200, schedule="steps", step_epochs=(85, 170), lr=0.1)
    assert learning_rate(training, 85 * 3 - 1, 3) == pytest.approx(0.1)
    assert learning_rate(training, 85 * 3, 3) == pytest.approx(0.01)
    assert learning_rate(training, 170 * 3 - 1, 3) == pytest.approx(0.01)
    assert learning_rate(training, 170 * 3, 3) == pytest.approx(0.001)
    assert restart_epochs(training) == []


@pytest.mark.parametrize("bad", [Training(cycle=0), Training(epochs=0)])
def test_impossible_counts_are_refused(bad: Training) -> None:
    with pytest.raises(OnebitError, match=r"at least 1"):
        restart_epochs(bad)
    with pytest.raises(OnebitError):
        learning_rate(Training(), -1, 10)
    with pytest.raises(OnebitError):
        learning_rate(Training(), 0, 0)


def test_recipes_that_train_in_the_same_way_as_long_as_both_do() -> None:
    """Independent of `same_path`: their learning rates agree over the epochs of the shorter one."""
    for schedule in ("restarts", "steps", "cosine"):
        short = Recipe(training=Training(epochs=5, schedule=schedule, step_epochs=(2,)))  # type: ignore[arg-type]
        longer = dataclasses.replace(short, training=dataclasses.replace(short.training, epochs=9))
        rates = [[learning_rate(r.training, step, 3) for step in range(15)] for r in (short, longer)]
        assert same_path(short, longer) == same_path(longer, short) == (rates[0] == rates[1])
        if schedule == "cosine":
            with pytest.raises(OnebitError, match="--set epochs=9"):
                with_epochs(short, 9)
            assert with_epochs(short, 5) == short
        else:
            assert with_epochs(short, 9) == longer
            assert not same_path(short, longer.replace(["seed=1"])) and not same_path(
                short, longer.replace(["width=1"])
            )
    with pytest.raises(OnebitError, match="epochs: 0"):
        with_epochs(Recipe(), 0)
