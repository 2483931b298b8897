"""The Markdown table: ours beside the paper's and the author's; what was not run, or not wholly, says so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onebit import recipe as recipes
from onebit.report.published import published_error
from onebit.report.reproduction.experiment import Curve, Experiment, Row
from onebit.report.reproduction.found import Found, device
from onebit.report.tables import spread
from onebit.train.progress import clock

NOT_RUN = "not yet run"


@dataclass(frozen=True)
class Line:
    """One line of the table: runs of one experiment, which differ in the seed alone; none: not yet run."""

    row: Row
    runs: tuple[Found, ...]
    errors: tuple[tuple[float, float | None], ...]  # of each run: test error, top-5 error (percent)
    epochs: int
    remark: str
    paper: float | None

    @property
    def mean(self) -> float | None:
        return math.fsum(e for e, _ in self.errors) / len(self.errors) if self.errors else None

    @property
    def spread(self) -> float | None:
        return spread([e for e, _ in self.errors])

    @property
    def whole(self) -> bool:
        """Whether it is the row's own experiment, and measured."""
        return bool(self.errors) and not self.remark


def lines(experiment: Experiment, found: Sequence[Found]) -> list[Line]:
    """Each row's own line first, then one for every group of its runs that were cut short or had other settings."""
    listed = []
    for i, row in enumerate(experiment.rows):
        own = [f for f in found if f.recipe.name == row.recipe]
        epochs = row.after or recipes.load(row.recipe).training.epochs
        paper = row.paper if isinstance(row.paper, float) else None
        counted = [(f, e) for f in own if not f.remark and (e := f.error(row.after, row.crops)) is not None]
        listed.append(
            Line(
                row,
                tuple(f for f, _ in counted),
                tuple(e for _, e in counted),
                epochs,
                "" if counted else NOT_RUN,
                paper,
            )
        )
        if row.recipe in {other.recipe for other in experiment.rows[:i]}:
            continue  # shown below the recipe's first row
        groups: dict[str, list[Found]] = {}
        for f in own:
            if f.remark:
                groups.setdefault(f.remark, []).append(f)
        for remark, members in groups.items():
            errors = tuple(e for f in members if (e := f.error()) is not None)
            comparable = None if "tested on" in remark or not errors else published_error(members[0].recipe)
            done = members[0].recipe.training.epochs if errors else len(members[0].epochs())
            listed.append(Line(row, tuple(members), errors, done, remark, comparable))
    return listed


def markdown(experiment: Experiment, listed: Sequence[Line], curves: Mapping[str, Curve]) -> str:
    """The whole page: title, table, note."""
    head = ["network", "epochs", "ours: test error %", "seeds", "paper %", "author's log %", "time, device", "remark"]
    text = [f"# {experiment.title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    text += [f"| {' | '.join(_cells(line, curves))} |" for line in listed]
    text += ["", "ours: mean ± sample deviation over the seeds; -: there is no such number."]
    if experiment.note:
        text += ["", experiment.note]
    return "\n".join(text) + f"\n\n![{experiment.title}]({experiment.name}.png)\n"


def label(row: Row) -> str:
    """What a row is called in tables and pictures."""
    return row.label or recipes.load(row.recipe).title


def author(line: Line, curves: Mapping[str, Curve]) -> list[tuple[str, float]]:
    """(program, error %) of the author's own networks after as many epochs; his settings must be the row's."""
    if line.remark and line.remark != NOT_RUN:
        return []
    found = [(curves[name].program, curves[name].after(line.epochs)) for name in line.row.author]
    return [(program, error) for program, error in found if error is not None]


def _cells(line: Line, curves: Mapping[str, Curve]) -> list[str]:
    row = line.row
    marked = bool(line.remark) and line.remark != NOT_RUN
    if line.mean is None:
        ours = NOT_RUN if not marked else "-"
    else:
        ours = f"{line.mean:.2f}" + ("" if line.spread is None else f" ± {line.spread:.2f}")
        fives = [five for _, five in line.errors if five is not None]
        if row.top5 is not None and fives:
            ours += f" / {math.fsum(fives) / len(fives):.2f}"
    paper = "-" if line.paper is None else f"{line.paper:.2f}"
    if not marked:
        paper = row.paper if isinstance(row.paper, str) else paper + ("" if row.top5 is None else f" / {row.top5:.2f}")
    seeds = ", ".join(str(f.recipe.training.seed) for f in line.runs) or "-"
    seconds = [float(f.result["seconds"]) for f in line.runs if f.result]
    where = "-"
    if seconds:
        spent = clock(min(seconds)) + (f" to {clock(max(seconds))}" if len(seconds) > 1 else "")
        where = f"{spent} on {device([f for f in line.runs if f.result])}"
    his = ", ".join(f"{error:.2f} ({program})" for program, error in author(line, curves)) or "-"
    name = ("↳ " if marked else "") + label(row)
    return [
        name,
        str(line.epochs),
        ours,
        seeds,
        paper,
        his,
        where,
        f"**{line.remark}**" if marked else "-",
    ]
