"""Pictures: training curves, confusion matrices, a sheet of test pictures with predictions (matplotlib, no display)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onebit.errors import OnebitError
from onebit.files import atomic_write
from onebit.report.published import author_errors
from onebit.report.tables import run_recipe
from onebit.train.progress import Metrics


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _save(figure: Any, path: Path) -> None:
    atomic_write(path, lambda file: figure.savefig(file, format="png"))


def curves(runs: Sequence[Path], path: Path) -> None:
    """Test error (solid) and training error (dotted) in percent against epochs, all runs in one picture.

    Beside them, in grey, the author's own 20-10 networks on the same data set at the ends of their cycles.
    """
    from matplotlib.ticker import LogLocator

    figure = _figure(8, 4.5)
    axes = figure.subplots()
    author: dict[str, list[tuple[int, float]]] = {}
    longest = 1
    for i, run in enumerate(map(Path, runs)):
        recipe = run_recipe(run)
        kind = "1-bit" if recipe.network.weights == "1bit" else "float"
        lines = [line for line in Metrics(run / "metrics.jsonl").read() if line.get("kind") == "epoch"]
        if not lines:
            raise OnebitError(f"{run}: has no finished epoch yet; try again later")
        x = [line["epoch"] for line in lines]
        longest = max(longest, *x)
        label = f"{run.name} ({kind}, seed {recipe.training.seed})"
        axes.plot(x, [line["test_error"] for line in lines], color=f"C{i % 10}", label=label)
        axes.plot(x, [line["train_error"] for line in lines], color=f"C{i % 10}", linestyle=":", linewidth=1)
        for program, points in author_errors(recipe).items():
            author[f"author's {program} code, 20-10 with cutout, {kind}"] = points
    for marker, (label, points) in zip("osv^Dx", author.items(), strict=False):
        shown = [p for p in points if p[0] <= longest]
        if shown:
            axes.plot(*zip(*shown, strict=True), marker, color="0.6", markersize=4, label=label)
    axes.set_xlabel("epoch")
    axes.set_ylabel("error % (solid: test, dotted: training)")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.xaxis.get_major_locator().set_params(integer=True)
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
    from onebit.train.evaluate import load_data, load_model, run_root

    net, recipe, content = load_model(run)
    data = load_data(recipe, run_root(run))
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
