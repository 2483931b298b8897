"""Run folders written by hand: what a finished, or an interrupted, training leaves."""

from __future__ import annotations

import json
from pathlib import Path

from onebit import recipe as recipes


def write_run(
    folder: Path, name: str, error: float, *settings: str, test_images: int | None = None, done: int | None = None
) -> Path:
    """A run of recipe `name` with `settings`; with `done` it is under way, that many epochs long."""
    recipe = recipes.load(name).replace(settings)
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(recipe.to_toml())
    (folder / "run.json").write_text(json.dumps({"recipe": name, "root": None, "start": None}))
    epochs = recipe.training.epochs if done is None else done
    rows = [
        {"kind": "epoch", "epoch": e, "test_error": error + epochs - e, "train_error": 1.0}
        for e in range(1, epochs + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if done is None:
        images = test_images or {"imagenet": 50_000, "imagenet32": 50_000, "svhn": 26_032, "digits": 360}.get(
            recipe.data.name, 10_000
        )
        content = {
            "recipe": name, "label": "", "weights": recipe.network.weights, "data": recipe.data.name, "error": error,
            "top5_error": error / 2, "seed": recipe.training.seed, "epochs": epochs, "test_images": images,
            "seconds": 60.0, "device": "cpu", "cpu": "a CPU", "precision": "float32", "threads": 1,
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(content))
    return folder
