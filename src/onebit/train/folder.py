"""A run folder: everything that one run leaves on the disk.

recipe.toml      every field of the experiment       metrics.jsonl   one line an epoch
checkpoint.pt    all that determines the rest        model.pt        the finished network
run.json         data folder, device, threads        result.json     test error and costs
model.onebit     the packed model, of a 1-bit network

A run that goes on beyond its end keeps what it ended in after N epochs: result-N.json, model-N.pt, model-N.onebit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onebit import recipe as recipes
from onebit.errors import OnebitError, reason
from onebit.files import remove_temporary, write_text
from onebit.recipe import Recipe
from onebit.train import checkpoint
from onebit.train.progress import Metrics


class RunFolder:
    """The files of one run; every one is written whole or not at all, metrics line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = Metrics(path / "metrics.jsonl")

    @property
    def packed(self) -> Path:
        """Where the packed model is."""
        return self.path / "model.onebit"

    def require_new(self) -> None:
        """OnebitError when a run was begun here before."""
        if (self.path / "run.json").exists():
            raise OnebitError(f"{self.path}: already holds a run; `onebit resume {self.path}`, or choose another --out")

    def begun(self) -> tuple[Recipe, dict[str, Any]]:
        """The recipe of the run that was begun here and what run.json says; OnebitError when there is none."""
        try:
            about = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
            return recipes.parse((self.path / "recipe.toml").read_text(encoding="utf-8"), about["recipe"]), about
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OnebitError(
                f"{self.path}: is not a run folder ({reason(error)}); start one with `onebit train RECIPE --out {self.path}`"
            ) from error

    def open(self, recipe: Recipe, about: Mapping[str, Any], epoch: int) -> float:
        """Make the folder, or clear what a killed process left: half-written files, and metrics after `epoch`.

        Returns the seconds that the epochs so far have taken.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OnebitError(f"{self.path}: cannot be made ({error.strerror}); choose another --out") from error
        remove_temporary(self.path)
        self._keep_other_end(recipe.training.epochs)
        write_text(self.path / "recipe.toml", recipe.to_toml())
        self._write_json("run.json", about)
        self.metrics.keep_until(epoch)
        return max((float(line.get("seconds", 0.0)) for line in self.metrics.read()), default=0.0)

    def _keep_other_end(self, epochs: int) -> None:
        """Give what the run ended in after another number of epochs than `epochs` the names that say so."""
        try:
            ended = int(json.loads((self.path / "result.json").read_text(encoding="utf-8"))["epochs"])
        except (OSError, ValueError, KeyError, TypeError):  # none, or damaged: it is written anew
            return
        if ended != epochs:
            for name in ("model.pt", "model.onebit", "result.json"):  # the result last: a kill in between is made good
                file = self.path / name
                if file.exists():
                    file.replace(file.with_stem(f"{file.stem}-{ended}"))

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint; None before the first one."""
        path = self.path / "checkpoint.pt"
        return checkpoint.load(path) if path.exists() else None

    def save_checkpoint(self, content: Mapping[str, Any]) -> None:
        checkpoint.save(self.path / "checkpoint.pt", content)

    def save_model(self, content: Mapping[str, Any]) -> None:
        checkpoint.save(self.path / "model.pt", content)

    def save_result(self, result: Mapping[str, Any]) -> None:
        self._write_json("result.json", result)

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        write_text(self.path / name, json.dumps(content, indent=1) + "\n")
