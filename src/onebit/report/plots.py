"""Pictures: training curves, confusion matrices, a sheet of test pictures with predictions (matplotlib, no display)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onebit.errors import OnebitError


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="png")
    temporary.replace(path)


def _epochs(run: Path) -> tuple[str, list[dict[str, Any]]]:
    from onebit import recipe as recipes

    lines: list[dict[str, Any]] = []
    path = run / "metrics.jsonl"
    try:
        for text in path.read_text(encoding="utf-8").splitlines():
            lines.append(json.loads(text))
        r = recipes.parse((run / "recipe.toml").read_text(encoding="utf-8"), run.name)
    except (OSError, ValueError) as error:
        raise OnebitError(
            f"{run}: is not a run folder with metrics ({error}); name folders that `onebit train` made"
        ) from error
    kind = "1-bit" if r.network.weights == "1bit" else "float"
    return f"{run.name} ({kind}, seed {r.training.seed})", [line for line in lines if line.get("kind") == "epoch"]


def curves(runs: Sequence[Path], path: Path) -> None:
    """Test error (solid) and training error (dotted) in percent against epochs, all runs in one picture."""
    figure = _figure(8, 4.5)
    axes = figure.subplots()
    for i, run in enumerate(runs):
        label, lines = _epochs(Path(run))
        x = [line["epoch"] for line in lines]
        axes.plot(x, [line["test_error"] for line in lines], color=f"C{i % 10}", label=label)
        axes.plot(x, [line["train_error"] for line in lines], color=f"C{i % 10}", linestyle=":", linewidth=1)
    axes.set_xlabel("epoch")
    axes.set_ylabel("error % (solid: test, dotted: training)")
    axes.set_yscale("log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    _save(figure, path)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path, title: str = "") -> None:
    """Rows: true class, columns: predicted class; the colour is the share of the row, mistakes on a log scale."""
    counts = np.asarray(matrix, dtype=float)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    n = len(classes)
    side = min(14.0, max(4.0, 0.5 * n + 1.5))
    figure = _figure(side, side)
    axes = figure.subplots()
    axes.imshow(np.log10(np.maximum(share, 1e-4)), cmap="Blues", vmin=-4, vmax=0)
    if n <= 30:
        axes.set_xticks(range(n), classes, rotation=90)
        axes.set_yticks(range(n), classes)
        for i in range(n):
            for j in range(n):
                if counts[i, j]:
                    axes.text(
                        j,
                        i,
                        f"{counts[i, j]:.0f}",
                        ha="center",
                        va="center",
                        fontsize=7,
                        color="w" if share[i, j] > 0.3 else "k",
                    )
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=10)
    _save(figure, path)


def predictions(run: Path, path: Path, count: int = 48) -> None:
    """A sheet of test pictures of a run's data set, each with the predicted class; mistakes first, in red."""
    import torch

    from onebit.data.dataset import Arrays
    from onebit.train.evaluate import load_data, load_model

    net, recipe, content = load_model(run)
    root = json.loads((run / "run.json").read_text()).get("root")
    data = load_data(recipe, Path(root) if root else None)
    if not isinstance(data.test, Arrays):
        raise OnebitError(f"{run}: the sheet of predictions is drawn for small pictures held in memory")
    images, labels = data.test.images[:2000], data.test.labels[:2000]
    with torch.no_grad():
        found = net(torch.from_numpy(np.ascontiguousarray(images))).argmax(1).numpy()
    wrong = np.flatnonzero(found != labels)
    right = np.flatnonzero(found == labels)
    shown = [*wrong[: count // 2], *right][:count]
    columns = 12
    rows = -(-len(shown) // columns)
    figure = _figure(columns * 0.85, rows * 1.05)
    for axes, i in zip(figure.subplots(rows, columns, squeeze=False).flat, shown, strict=False):
        picture = images[i].transpose(1, 2, 0)
        axes.imshow(picture if picture.shape[2] == 3 else picture[..., 0], cmap="gray_r")
        good = found[i] == labels[i]
        name = content["classes"][found[i]]
        axes.set_title(
            name if good else f"{name} ({content['classes'][labels[i]]})", fontsize=8, color="k" if good else "r"
        )
    for axes in figure.axes:
        axes.axis("off")
    _save(figure, path)
