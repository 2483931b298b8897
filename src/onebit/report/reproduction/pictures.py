"""The pictures: errors beside the published ones, or test error by epoch beside the author's curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onebit import recipe as recipes
from onebit.files import atomic_write
from onebit.report.reproduction.experiment import Curve, Experiment
from onebit.report.reproduction.found import Found
from onebit.report.reproduction.table import NOT_RUN, Line, author, label

KIND = {"1bit": "1-bit weights", "float": "32-bit weights"}
LONGEST = 40  # characters of a remark; a longer one stands in the table alone
STYLE = {"1bit": "-", "float": "--"}


def draw(
    experiment: Experiment, listed: Sequence[Line], found: Sequence[Found], curves: Mapping[str, Curve], path: Path
) -> None:
    """Write the experiment's picture as PNG."""
    figure = (
        _curves(experiment, found, curves) if experiment.picture == "curves" else _errors(experiment, listed, curves)
    )
    figure.suptitle(experiment.title, fontsize=10)
    atomic_write(path, lambda file: figure.savefig(file, format="png"))


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _errors(experiment: Experiment, listed: Sequence[Line], curves: Mapping[str, Curve]) -> Any:
    """One line a row; runs that were cut short are hollow, and rows without a run say so."""
    shown = [line for line in listed if line.remark in ("", NOT_RUN) or line.errors]
    figure = _figure(8.5, 1.4 + 0.27 * len(shown))
    axes = figure.subplots()
    names = []
    for y, line in enumerate(shown):
        marked = line.remark not in ("", NOT_RUN)
        remark = line.remark if len(line.remark) <= LONGEST else "other settings"
        state = f" ({remark})" if remark else ""
        names.append(("↳ " if marked else "") + f"{label(line.row)}{state}")
        if line.paper is not None:
            axes.plot(line.paper, y, "D", color="0.35", markerfacecolor="none", label="paper")
        for _, error in author(line, curves):
            axes.plot(error, y, "x", color="0.5", label="author's log")
        if line.mean is not None:
            face = "none" if marked else "C0"
            axes.errorbar(
                line.mean, y, xerr=line.spread, fmt="o", color="C0", markerfacecolor=face, capsize=3,
                label="ours, not the whole experiment" if marked else "ours",
            )  # fmt: skip
    axes.set_yticks(range(len(shown)), names, fontsize=7)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("test error %")
    axes.grid(alpha=0.3)
    once = {text: handle for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    if once:
        axes.legend(once.values(), once.keys(), fontsize=7)
    return figure


def _curves(experiment: Experiment, found: Sequence[Found], curves: Mapping[str, Curve]) -> Any:
    """Test error by epoch: solid 1-bit, dashed 32-bit; thin and grey the author's; pale what does not count.

    The dot at the end of a run is its finished network.
    """
    from matplotlib.ticker import LogLocator

    shipped = [recipes.load(name) for name in dict.fromkeys(row.recipe for row in experiment.rows)]
    his = [curves[name] for name in experiment.author]
    by_data = experiment.panels == "data"
    panels = list(dict.fromkeys(r.data.name if by_data else r.network.weights for r in shipped))
    figure = _figure(max(8.0, 5.5 * len(panels)), 5)
    labels = {row.recipe: label(row) for row in reversed(experiment.rows)}
    colours = {name: f"C{i % 10}" for i, name in enumerate(dict.fromkeys(_twin(f.recipe.name) for f in found))}
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        for grey, curve in zip(("0.3", "0.5", "0.7"), [c for c in his if panel in (c.data, c.weights)], strict=False):
            text = f"author's {curve.program} code, {curve.network}, {KIND[curve.weights]}, cutout"
            epochs = range(1, len(curve.errors) + 1)
            axes.plot(epochs, curve.errors, STYLE[curve.weights], color=grey, linewidth=0.8, label=text)
        ours = [f for f in found if panel in (f.recipe.data.name, f.recipe.network.weights) and f.epochs()]
        for f in ours:
            done = f.epochs()
            text = f"{labels[f.recipe.name]}, seed {f.recipe.training.seed}" + (f" ({f.remark})" if f.remark else "")
            colour, strength = colours[_twin(f.recipe.name)], 0.4 if f.remark else 1.0
            x, y = [line["epoch"] for line in done], [line["test_error"] for line in done]
            style = STYLE[f.recipe.network.weights]
            axes.plot(x, y, style, color=colour, alpha=strength, linewidth=1.4, label=text)
            if (final := f.error()) is not None:  # moments re-estimated: the curve itself ends elsewhere
                axes.scatter(x[-1], final[0], 22, color=colour, alpha=strength, zorder=3)
        missing = "" if ours else ": ours not yet run"
        axes.set_title((panel if by_data else KIND[panel]) + missing, fontsize=9)
        axes.set_xlabel("epoch")
        axes.set_ylabel("test error %")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        axes.grid(alpha=0.3, which="both")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=6)
    return figure


def _twin(name: str) -> str:
    """What a 1-bit recipe and its float twin have in common: they share a colour.

    >>> _twin("cifar10-20-4-1bit") == _twin("cifar10-20-4-float")
    True
    """
    return name.removesuffix("-1bit").removesuffix("-float")
