"""What others reached with the same experiment: the paper's tables, and the curves of its author's training logs."""

from __future__ import annotations

import dataclasses

from onebit import recipe as recipes
from onebit.errors import OnebitError
from onebit.recipe import Recipe

CYCLE_ENDS = (2, 6, 14, 30, 62, 126, 254)

# Test accuracy in percent at the cycle ends, 20-10 with cutout, from the training logs that the author published
# beside his code: (data set, weights) -> his programs.
AUTHOR: dict[tuple[str, str], dict[str, tuple[float, ...]]] = {
    ("cifar10", "float"): {"Keras": (76.61, 88.00, 92.62, 94.59, 95.79, 96.35, 96.65)},
    ("cifar10", "1bit"): {
        "Keras": (73.62, 86.27, 91.46, 94.22, 95.43, 96.06, 96.25),
        "MATLAB": (73.40, 86.45, 91.54, 94.44, 95.36, 95.68, 96.18),
    },
    ("cifar100", "float"): {"Keras": (35.95, 59.71, 72.43, 78.55, 81.01, 82.58, 83.02)},
    ("cifar100", "1bit"): {
        "Keras": (31.94, 54.77, 69.71, 76.58, 80.12, 81.17, 81.83),
        "MATLAB": (31.65, 53.68, 69.32, 76.65, 79.82, 81.12, 82.09),
    },
}

# Fields of [data] and [training] that do not change the experiment, only how or how luckily it is run.
FREE = {"seed", "precision", "compile", "cuda_graphs", "workers", "checkpoint_minutes"}


def author_errors(recipe: Recipe) -> dict[str, list[tuple[int, float]]]:
    """The author's test errors (percent) on the recipe's data set with its kind of weights: program -> (epoch, error).

    They are of 20-10 with cutout, whatever the recipe's own network is; empty where he published no log.

    >>> author_errors(recipes.load("cifar10-20-10-cutout-1bit"))["Keras"][0]
    (2, 26.38)
    """
    found = AUTHOR.get((recipe.data.name, recipe.network.weights), {})
    return {
        program: [(epoch, round(100 - accuracy, 2)) for epoch, accuracy in zip(CYCLE_ENDS, values, strict=True)]
        for program, values in found.items()
    }


def published_error(recipe: Recipe) -> float | None:
    """The published test error (percent) that a run of `recipe` may be compared with, or None.

    The paper's number counts only for the shipped recipe, unchanged but for the seed and the like. A shorter run of it
    is compared with what was published after as many epochs, if anything was: warm restarts make its schedule
    the beginning of the longer one.

    >>> published_error(recipes.load("mnist-20-4-1bit")), published_error(recipes.load("mnist-20-4-1bit").replace(["epochs=6"]))
    (0.27, 0.36)
    >>> published_error(recipes.load("mnist-20-4-1bit").replace(["width=2"])) is None
    True
    """
    try:
        shipped = recipes.load(recipe.name)
    except OnebitError:
        return None
    same_length = dataclasses.replace(
        recipe, training=dataclasses.replace(recipe.training, epochs=shipped.training.epochs)
    )
    if _experiment(same_length) != _experiment(shipped):
        return None
    epochs = recipe.training.epochs
    if epochs == shipped.training.epochs:
        error = shipped.published.get("error")
        return None if error is None else float(error)
    after = shipped.published.get(f"after_{epochs}_epoch{'s' if epochs > 1 else ''}")
    if after is not None:
        return float(after)
    if (recipe.network.depth, recipe.network.width, recipe.data.cutout) == (20, 10.0, 18):
        curve = dict(next(iter(author_errors(recipe).values()), []))
        return curve.get(epochs) if recipe.training.schedule == "restarts" else None
    return None


def _experiment(recipe: Recipe) -> tuple[object, ...]:
    parts = [dataclasses.asdict(getattr(recipe, table)) for table in recipes.TABLES]
    return tuple({k: v for k, v in part.items() if k not in FREE} for part in parts)
