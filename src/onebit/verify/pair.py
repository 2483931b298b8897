"""Two forms of a network on the same pictures: `onebit verify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onebit.errors import OnebitError
from onebit.examine.compare import Comparison, Progress, batches, compare
from onebit.examine.evaluate import open_split
from onebit.verify.sides import Side, open_side


@dataclass(frozen=True, eq=False)
class Verdict:
    """What two forms answered: `comparison` counts the first as its "float", the second as its "packed"."""

    sides: tuple[Side, Side]
    comparison: Comparison
    equal: bool  # are all logits the same number?

    @property
    def exact(self) -> bool:
        """Must they be?"""
        return all(side.exact for side in self.sides)

    @property
    def good(self) -> bool:
        """Equal where both compute with integers, else no further apart than rounding explains (`Comparison.good`)."""
        return self.equal if self.exact else self.comparison.good

    def facts(self) -> dict[str, Any]:
        """All of it, for JSON. "float_..." and "packed_..." are there where the sides are real numbers and integers."""
        c, (first, second) = self.comparison, self.sides
        facts = c.facts() | {"equal": self.equal, "exact": self.exact, "good": self.good}
        if first.exact or not second.exact:
            facts = {key: value for key, value in facts.items() if not key.startswith(("float_", "packed_"))}
        wrong = (c.float_wrong, c.packed_wrong)
        facts["sides"] = [
            {"path": str(s.path), "kind": s.kind, "wrong": n, "error": 100 * n / c.images}
            for s, n in zip(self.sides, wrong, strict=True)
        ]
        return facts


def verify(
    first: Path, second: Path, *, data: str | None = None, root: Path | None = None, images: int | None = None,
    progress: Progress = lambda done, of: None,
) -> Verdict:  # fmt: skip
    """Run two forms of a network on the same test pictures: `Verdict.sides` has the one in real numbers first.

    Args:
        first, second: a run folder or a checkpoint in it (float32, torch), a .mat file of the paper's author (float32,
            NumPy), a packed model, or what `onebit export` made.
        data: None (as one of them says), a name of the catalog, or a folder of pictures.
        root: the folder of the data sets; None: the run's own, or ONEBIT_DATA.
        images: only so many, the first ones.
    """
    sides = sorted((open_side(first), open_side(second)), key=lambda side: side.exact)  # keeps the order of equals
    a, b = sides
    if (a.card.shape, len(a.card.classes)) != (b.card.shape, len(b.card.classes)):
        raise OnebitError(f"{a.path}: takes {_takes(a)}, but {b.path} takes {_takes(b)}; they are not one network")
    known = next((s for s in (b, a) if s.card.about.get("data")), b)
    root = root or next((s.root for s in sides if s.root), None)
    split, _, _ = open_split(known.card, known.path, data, root, images)
    channels, size, _ = known.card.shape
    answers: tuple[list[Any], list[Any]] = ([], [])
    done = 0
    for pictures, _ in batches(split, channels, size):
        for side, out in zip(sides, answers, strict=True):
            out.append(side.logits(pictures.transpose(0, 2, 3, 1)))
        done += len(pictures)
        progress(done, len(split))
    if not done:
        raise OnebitError("verify: there is no test picture; give at least one with --images")
    x, y = (np.concatenate(out) for out in answers)
    bits = min((s.bits for s in sides if s.bits), default=8)
    return Verdict((a, b), compare(x, y, split.labels[:done], bits), bool((x == y).all()))


def _takes(side: Side) -> str:
    channels, height, width = side.card.shape
    return f"{height}x{width} pictures of {channels} channels in {len(side.card.classes)} classes"
