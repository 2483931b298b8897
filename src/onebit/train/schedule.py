"""The learning rate of every mini-batch: warm restarts, one cosine, or steps (PAPER section 3.2).

Everything here is a pure function of the recipe and of the step number, so a resumed run needs no schedule state.
"""

from __future__ import annotations

import dataclasses
import math

from onebit.errors import OnebitError
from onebit.recipe import Recipe, Training


def cycle_bounds(training: Training) -> list[tuple[int, int]]:
    """``(first epoch, epoch after the last)`` of every cosine that begins before ``training.epochs``, 0-based.

    Cycles of warm restarts last ``cycle``, ``2 * cycle``, ``4 * cycle``, ... epochs; the last one may reach beyond
    ``training.epochs``, and training then ends inside it. The other schedules are one cycle of all epochs.

    >>> cycle_bounds(Training(epochs=14, cycle=2))
    [(0, 2), (2, 6), (6, 14)]
    """
    if training.epochs < 1:
        raise OnebitError(f"training.epochs: {training.epochs} is not a number of epochs, give at least 1")
    if training.schedule != "restarts":
        return [(0, training.epochs)]
    if training.cycle < 1:
        raise OnebitError(f"training.cycle: {training.cycle} is not a number of epochs, give at least 1")
    bounds: list[tuple[int, int]] = []
    first, length = 0, training.cycle
    while first < training.epochs:
        bounds.append((first, first + length))
        first, length = first + length, 2 * length
    return bounds


def restart_epochs(training: Training) -> list[int]:
    """The numbers of finished epochs at which the learning rate jumps back up; only those before the end of training.

    >>> restart_epochs(Training(epochs=300, cycle=2))
    [2, 6, 14, 30, 62, 126, 254]
    >>> restart_epochs(Training(epochs=6, cycle=2))
    [2]
    """
    return [end for _, end in cycle_bounds(training) if end < training.epochs]


def cycle_ends(training: Training) -> list[int]:
    """The numbers of finished epochs at which a cycle is complete: where test errors can be compared with the paper's.

    A cycle that training leaves unfinished has no end. The schedules without restarts have one, after the last epoch.

    >>> cycle_ends(Training(epochs=14, cycle=2)), cycle_ends(Training(epochs=10, cycle=2))
    ([2, 6, 14], [2, 6])
    """
    return [end for _, end in cycle_bounds(training) if end <= training.epochs]


def learning_rate(training: Training, step: int, steps_per_epoch: int) -> float:
    """The learning rate of the mini-batch ``step``, counted from 0 over the whole training.

    ``restarts``: within each cycle of T mini-batches ``lr_end + (lr - lr_end) * (1 + cos(pi * t / T)) / 2`` for
    t = 0..T-1. When ``epochs`` falls inside a cycle, training ends there, inside the cosine (so the paper reads its
    "1 epoch" of MNIST inside the first cycle). ``cosine``: the same formula once, over all epochs. ``steps``: ``lr``,
    divided by 10 after each epoch of ``step_epochs``. Steps at or after the end of the last cycle get its end value.

    >>> training = Training(epochs=6, cycle=2, lr=0.1, lr_end=0.0)
    >>> [round(learning_rate(training, step, 1), 3) for step in range(6)]
    [0.1, 0.05, 0.1, 0.085, 0.05, 0.015]
    """
    if steps_per_epoch < 1 or step < 0:
        raise OnebitError(
            f"learning rate: step {step}, {steps_per_epoch} steps an epoch; give step >= 0 and steps >= 1"
        )
    if training.schedule == "steps":
        done = step // steps_per_epoch
        return float(training.lr / 10 ** sum(epoch <= done for epoch in training.step_epochs))
    for first, end in cycle_bounds(training):
        if step < end * steps_per_epoch:
            fraction = (step - first * steps_per_epoch) / ((end - first) * steps_per_epoch)
            return training.lr_end + (training.lr - training.lr_end) * 0.5 * (1.0 + math.cos(math.pi * fraction))
    return training.lr_end


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe, longer or shorter. OnebitError where its learning rate depends on the number of epochs.

    >>> with_epochs(Recipe(training=Training(epochs=30)), 62).training.epochs
    62
    """
    if epochs < 1:
        raise OnebitError(f"epochs: {epochs} is not a number of epochs, give at least 1")
    longer = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, epochs=epochs))
    if not same_path(recipe, longer):
        raise OnebitError(
            f"epochs: a run with schedule = {recipe.training.schedule!r} has a learning rate that depends on the number of "
            f"epochs ({recipe.training.epochs}); begin another run with --set epochs={epochs}"
        )
    return longer


def same_path(a: Recipe, b: Recipe) -> bool:
    """Do two recipes train in the same way for as long as both train?

    Equal ones do. So do those with warm restarts, or with steps, that differ in nothing but the number of epochs.

    >>> same_path(Recipe(training=Training(epochs=30)), Recipe(training=Training(epochs=62)))
    True
    >>> cosine = Training(epochs=30, schedule="cosine")
    >>> same_path(Recipe(training=cosine), Recipe(training=dataclasses.replace(cosine, epochs=62)))
    False
    """
    if a.training.schedule == "cosine":
        return a == b
    return a == dataclasses.replace(b, training=dataclasses.replace(b.training, epochs=a.training.epochs))
