"""What one table or curve of the paper consists of: a declaration, no code."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from onebit.errors import OnebitError

NOT_IN_PAPER = "not in the paper"  # a row of this project's own
NO_NUMBER = "only drawn"  # the paper shows it in a figure, or in words


@dataclass(frozen=True)
class Row:
    """One line of a table: a recipe, and what the paper says of it (test error, percent).

    `top5` is shown behind a stroke. `after`: the error after that many epochs of the run, from its metrics. `crops` "25":
    the mean softmax over 25 crops of each test photograph. `author`: names of his curves (`read_curves`).
    """

    recipe: str
    paper: float | str = NOT_IN_PAPER
    top5: float | None = None
    label: str = ""  # "": the recipe's title
    after: int | None = None
    crops: Literal["centre", "25"] = "centre"
    author: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """One script of reproduce/: a table, and a picture.

    `picture` "errors": every row's error beside the published one. "curves": test error by epoch, one panel for each
    `panels` (data set or kind of weights), with the author's curves named in `author`.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    picture: Literal["errors", "curves"] = "errors"
    panels: Literal["data", "weights"] = "data"
    author: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """Test error in percent after epochs 1, 2, ... of a network that the paper's author trained; NaN: not in his log."""

    name: str
    program: str
    data: str
    weights: str
    network: str
    errors: tuple[float, ...]

    def after(self, epoch: int) -> float | None:
        """The error after `epoch` epochs; None where the log has none."""
        known = 0 < epoch <= len(self.errors) and not math.isnan(self.errors[epoch - 1])
        return self.errors[epoch - 1] if known else None


def read_curves(path: Path) -> dict[str, Curve]:
    """The author's curves by name. Raises OnebitError when the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Curve(name, c["program"], c["data"], c["weights"], c["network"], _errors(c["errors"]))
            for name, c in content.items()
            if not name.startswith("_")
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OnebitError(f"{path}: the author's curves cannot be read ({error}); restore the file") from error


def _errors(values: list[float | None]) -> tuple[float, ...]:
    return tuple(math.nan if v is None else float(v) for v in values)
