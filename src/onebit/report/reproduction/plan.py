"""Which runs a script wants, which of them are done, and the training of the others."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from onebit import recipe as recipes
from onebit.errors import OnebitError
from onebit.files import write_text
from onebit.recipe import Recipe
from onebit.report.reproduction.experiment import NOT_IN_PAPER, Experiment
from onebit.report.reproduction.found import CROPS
from onebit.report.tables import result, under_way
from onebit.train.progress import clock
from onebit.train.schedule import same_path


@dataclass(frozen=True)
class Planned:
    """One run: its complete recipe, its folder, and whether it is also tested with 25 crops."""

    recipe: Recipe
    folder: Path
    crops: bool

    @property
    def state(self) -> Literal["new", "unfinished", "done"]:
        if (self.folder / "result.json").exists() and result(self.folder)["epochs"] >= self.recipe.training.epochs:
            return "unfinished" if self.crops and not (self.folder / CROPS).exists() else "done"
        return "unfinished" if (self.folder / "run.json").exists() else "new"

    def describe(self) -> str:
        """One line for people."""
        text = f"{self.folder.name}: {self.recipe.title}, {self.recipe.training.epochs} epochs, seed {self.recipe.training.seed}"
        return f"{text} ({'new' if self.state == 'new' else under_way(self.folder) or self.state})"


def plan(
    experiment: Experiment, out: Path, *, only: Sequence[str] = (), seeds: Iterable[int] = (0,),
    epochs: int | None = None, settings: Sequence[str] = (),
) -> list[Planned]:  # fmt: skip
    """The runs of an experiment's rows, each once, in their order, one seed after the other.

    `only`: patterns of recipe names (`*1bit`; without * any name that contains the text). Without it the rows that are not
    in the paper are left out. `settings` make other experiments, in folders of other names. So does `epochs`, but not with
    warm restarts, where a run goes on when more epochs are asked for.

    Raises OnebitError: nothing fits `only`; a setting is wrong.
    """
    patterns = [p if "*" in p else f"*{p}*" for p in only]
    changes = [*([] if epochs is None else [f"epochs={epochs}"]), *settings]
    names = []
    for row in experiment.rows:
        chosen = any(fnmatch(row.recipe, p) for p in patterns) if patterns else row.paper != NOT_IN_PAPER
        if chosen and row.recipe not in names:
            names.append(row.recipe)
    if not names:
        known = ", ".join(dict.fromkeys(row.recipe for row in experiment.rows))
        raise OnebitError(f"--only {' '.join(only)}: fits none of the recipes of {experiment.name}: {known}")
    planned = []
    for seed in seeds:
        for name in names:
            shipped = recipes.load(name)
            recipe = shipped.replace([*changes, f"seed={seed}"])
            own = shipped.replace([f"seed={seed}"])
            named = settings if same_path(shipped.replace([*settings, f"seed={seed}"]), recipe) else changes
            suffix = "" if recipe == own or not named else "-" + _suffix(named)
            crops = any(row.recipe == name and row.crops == "25" for row in experiment.rows)
            planned.append(Planned(recipe, out / f"{name}{suffix}-s{seed}", crops and recipe.data.crops != "25"))
    return planned


def _suffix(changes: Sequence[str]) -> str:
    return "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", change).strip("-") for change in changes)


def carry_out(planned: Sequence[Planned], *, root: Path | None, device: str | None, threads: int | None) -> list[str]:
    """Train, or resume, whatever is not done; returns what went wrong, a line a run.

    A run that fails (no data, say) does not keep the others from being made. Ctrl-C saves the run under way and raises
    `onebit.train.trainer.Interrupted`.
    """
    from onebit.train import trainer

    problems = []
    for i, p in enumerate(planned, 1):
        counter = f"[{i}/{len(planned)}]"
        if p.state == "done":
            print(f"{counter} done before: {p.folder.name}", file=sys.stderr)
            continue
        print(f"{counter} {p.describe()}", file=sys.stderr)
        try:
            content = _run(p, root, device, threads)
        except trainer.Interrupted:
            raise
        except OnebitError as error:
            problems.append(f"{p.folder.name}: {error}")
            print(f"{counter} failed: {error}", file=sys.stderr)
            continue
        print(f"{counter} {content['error']:.2f} % in {clock(content['seconds'])}: {p.folder}", file=sys.stderr)
    return problems


def _run(p: Planned, root: Path | None, device: str | None, threads: int | None) -> dict[str, Any]:
    from onebit.train import trainer
    from onebit.train.evaluate import evaluate
    from onebit.train.folder import RunFolder

    if (p.folder / "run.json").exists():
        begun, _ = RunFolder(p.folder).begun()
        if not same_path(begun, p.recipe):
            raise OnebitError(f"{p.folder}: holds a run of other settings; move it away, or choose another --out")
    done = (p.folder / "result.json").exists() and result(p.folder)["epochs"] >= p.recipe.training.epochs
    if not done:
        if (p.folder / "run.json").exists():
            trainer.resume(p.folder, root=root, device=device, threads=threads, epochs=p.recipe.training.epochs)
        else:
            trainer.train(p.recipe, p.folder, root=root, device=device, threads=threads)
    if p.crops and not (p.folder / CROPS).exists():
        scored = evaluate(p.folder, root=root, crops="25")
        kept = {key: scored[key] for key in ("error", "top5_error", "images", "wrong")}
        write_text(p.folder / CROPS, json.dumps(kept, indent=1) + "\n")
    return result(p.folder)
