"""Which runs are there, and which of them count: only whole runs of the shipped recipe, never mixed with others."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onebit import recipe as recipes
from onebit.data.catalog import ENTRIES
from onebit.errors import OnebitError
from onebit.recipe import Recipe
from onebit.report.published import FREE
from onebit.report.tables import result, run_recipe, under_way
from onebit.train.progress import Metrics

TEST_PICTURES = {name: entry.counts[1] for name, entry in ENTRIES.items() if entry.counts} | {"imagenet": 50_000}
CROPS = "crops-25.json"  # in a run folder: its test with 25 crops


@dataclass(frozen=True)
class Found:
    """A run folder. `remark` says why it does not count as a run of its recipe; "" for one that does."""

    run: Path
    recipe: Recipe
    remark: str
    result: dict[str, Any] | None  # None: under way

    def error(self, after: int | None = None, crops: str = "centre") -> tuple[float, float | None] | None:
        """(test error, top-5 error or None), percent; None where it was not measured."""
        if after is not None:
            lines = [line for line in self.epochs() if line["epoch"] == after]
            return (float(lines[0]["test_error"]), None) if lines else None
        content = self.result
        if crops == "25" and content is not None and self.recipe.data.crops != "25":
            content = _json(self.run / CROPS)
        return None if not content else (float(content["error"]), float(content["top5_error"]))

    def epochs(self) -> list[dict[str, Any]]:
        """The metrics of every finished epoch."""
        return [line for line in Metrics(self.run / "metrics.jsonl").read() if line.get("kind") == "epoch"]


def search(folders: Iterable[Path], names: Iterable[str]) -> list[Found]:
    """The runs directly in `folders` whose recipes are among `names`; of two of the same recipe and seed the finished one."""
    wanted = set(names)
    best: dict[str, Found] = {}
    for folder in folders:
        for path in sorted(folder.glob("*/recipe.toml")):
            found = _look(path.parent, wanted)
            if found is None:
                continue
            key = f"{found.recipe.name}\n{found.recipe.to_toml()}\n{'start' in found.remark}"
            if key not in best or (best[key].result is None and found.result is not None):
                best[key] = found
    return list(best.values())


def _look(run: Path, wanted: set[str]) -> Found | None:
    finished = (run / "result.json").exists()
    content = result(run) if finished else _json(run / "run.json")
    name = content.get("recipe")
    if name not in wanted or not (finished or (run / "metrics.jsonl").exists()):
        return None
    recipe = dataclasses.replace(run_recipe(run), name=name)
    remarks = differences(recipe, recipes.load(name))
    if (run / "run.json").exists() and _json(run / "run.json").get("start"):
        remarks.append("started from other weights")
    if finished:
        pictures, published = content["test_images"], TEST_PICTURES.get(recipe.data.name)
        if published is not None and pictures != published:
            remarks.append(f"tested on {pictures:,} of {published:,} pictures")
    else:
        remarks.insert(0, f"under way: {under_way(run) or f'epoch 0 of {recipe.training.epochs}'}")
    return Found(run, recipe, "; ".join(remarks), content if finished else None)


def differences(recipe: Recipe, shipped: Recipe) -> list[str]:
    """What makes `recipe` another experiment than `shipped`, for people: fewer epochs, and every changed setting.

    >>> shipped = recipes.load("digits")
    >>> differences(shipped.replace(["seed=3", "epochs=2", "width=0.5"]), shipped)
    ['2 of 30 epochs', 'width 0.5 instead of 1.0']
    """
    epochs, whole = recipe.training.epochs, shipped.training.epochs
    found = (
        []
        if epochs == whole
        else [f"{epochs} of {whole} epochs" if epochs < whole else f"{epochs} epochs, not {whole}"]
    )
    for table in recipes.TABLES:
        ours, theirs = getattr(recipe, table), getattr(shipped, table)
        for field in dataclasses.fields(ours):
            one, other = getattr(ours, field.name), getattr(theirs, field.name)
            if field.name not in FREE | {"epochs"} and one != other:
                found.append(f"{field.name} {one} instead of {other}")
    return found


def device(found: Sequence[Found]) -> str:
    """Where the runs were made, without repetition."""
    names = []
    for f in found:
        r = f.result or {}
        cpu = str(r.get("device", "cpu")).startswith("cpu")
        names.append(f"{r['cpu']}, {r['precision']}" if cpu else f"{r.get('gpu', r['device'])}, {r['precision']}")
    return "; ".join(dict.fromkeys(names))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise OnebitError(f"{path}: cannot be read ({error}); remove the run folder or mend the file") from error
    return content if isinstance(content, dict) else {}
