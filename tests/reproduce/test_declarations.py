"""The scripts declare what the paper prints, and every recipe with a published number has its place."""

from __future__ import annotations

import math
import re
import runpy
from pathlib import Path

import pytest

from onebit import recipe as recipes
from onebit.report.published import AUTHOR, CYCLE_ENDS
from onebit.report.reproduction import NOT_IN_PAPER, Experiment, Row
from onebit.report.reproduction.experiment import read_curves
from onebit.report.reproduction.plan import plan

HOME = Path(__file__).resolve().parents[2] / "reproduce"
EXPERIMENTS: dict[str, Experiment] = {p.stem: runpy.run_path(str(p))["EXPERIMENT"] for p in sorted(HOME.glob("*.py"))}
ROWS = [(name, row) for name, experiment in EXPERIMENTS.items() for row in experiment.rows]

# The paper's tables, typed a second time: weights, network, epochs, then the columns; - where it has no number.
TABLE_1 = """
float 20-4  126  5.02 21.53 4.39 20.48
float 20-10 254  4.22 18.76 3.46 17.19
float 26-10 254  4.23 18.63 3.54 17.22
float 20-20 126  -    18.14 -    -
1bit  20-4  126  6.13 23.87 5.34 23.74
1bit  20-10 254  4.72 19.35 3.92 18.51
1bit  26-10 254  4.46 18.94 3.41 18.50
1bit  20-20 126  -    18.81 -    -
"""
TABLE_2 = """
float 20-4   30 1.75 46.61/22.91 -           -
float 20-10  30 -    39.96/17.89 -           -
float 20-15  30 -    38.90/17.03 -           -
float 18-2.5 62 -    -           26.92/9.20  22.99/6.91
1bit  20-4   30 1.93 56.08/30.88 -           -
1bit  20-10  30 -    44.27/21.09 -           -
1bit  26-10  62 -    41.36/18.93 -           -
1bit  20-15  30 -    41.26/19.08 -           -
1bit  18-2.5 62 -    -           31.03/11.51 26.04/8.48
"""


def printed(table: str, columns: list[tuple[str, str, str]]) -> set[tuple[str, int, str, str]]:
    found = set()
    for line in table.split("\n")[1:-1]:
        weights, network, epochs, *cells = line.split()
        for (data, mark, crops), cell in zip(columns, cells, strict=True):
            if cell != "-":
                found.add((f"{data}-{network}{mark}-{weights}", int(epochs), crops, cell))
    return found


def declared(name: str) -> set[tuple[str, int, str, str]]:
    rows = [row for row in EXPERIMENTS[name].rows if row.paper != NOT_IN_PAPER]
    return {
        (
            row.recipe, recipes.load(row.recipe).training.epochs, row.crops,
            f"{row.paper:.2f}" + ("" if row.top5 is None else f"/{row.top5:.2f}"),
        )
        for row in rows
    }  # fmt: skip


def test_table_1_is_the_papers() -> None:
    columns = [(data, mark, "centre") for mark in ("", "-cutout") for data in ("cifar10", "cifar100")]
    assert declared("table1") == printed(TABLE_1, columns)


def test_table_2_is_the_papers() -> None:
    columns = [("svhn", "", "centre"), ("imagenet32", "", "centre"), ("imagenet", "", "centre"), ("imagenet", "", "25")]
    assert declared("table2") == printed(TABLE_2, columns)


@pytest.mark.parametrize(
    ("name", "row"), ROWS, ids=lambda v: v if isinstance(v, str) else f"{v.recipe}-{v.after}-{v.crops}"
)
def test_a_row_says_what_its_recipe_says(name: str, row: Row) -> None:
    published = recipes.load(row.recipe).published
    key = {None: "error", 1: "after_1_epoch", 6: "after_6_epochs"}[row.after] + ("_25" if row.crops == "25" else "")
    top5 = "top5_error" + ("_25" if row.crops == "25" else "")
    assert published.get(key) == (row.paper if isinstance(row.paper, float) else None)
    assert published.get(top5) == row.top5


def test_every_published_number_has_a_row() -> None:
    shown = {row.recipe for _, row in ROWS}
    assert {name for name in recipes.names() if recipes.load(name).published} <= shown
    assert {name for name in recipes.names() if name.startswith(("ablation", "plain", "shifted"))} <= shown


def test_file_title_and_experiment_have_one_name() -> None:
    assert EXPERIMENTS and all(experiment.name == name for name, experiment in EXPERIMENTS.items())


def test_the_authors_curves_end_their_cycles_where_he_says() -> None:
    curves = read_curves(HOME / "author" / "test_errors.json")
    for (data, weights), programs in AUTHOR.items():
        for program, accuracies in programs.items():
            curve = curves[f"{data}-{weights}-{program.lower()}"]
            assert (curve.data, curve.weights, curve.program, curve.network) == (data, weights, program, "20-10")
            assert [curve.after(e) for e in CYCLE_ENDS] == pytest.approx([100 - a for a in accuracies], abs=0.0051)
    assert all(0 < e < 100 or math.isnan(e) for curve in curves.values() for e in curve.errors)
    assert curves["cifar10-shifted-float-keras"].after(300) is None


def test_curves_that_are_named_exist_and_fit_their_row() -> None:
    curves = read_curves(HOME / "author" / "test_errors.json")
    for _, row in ROWS:
        recipe = recipes.load(row.recipe)
        for name in row.author:
            curve = curves[name]
            assert (curve.data, curve.weights) == (recipe.data.name, recipe.network.weights)
            assert (recipe.network.depth, recipe.network.width, recipe.data.cutout) == (20, 10.0, 18)
            assert ("shifted" in curve.network) == (recipe.network.activation == "shifted-relu")
    assert all(name in curves for experiment in EXPERIMENTS.values() for name in experiment.author)


def test_the_page_counts_runs_and_epochs_right() -> None:
    page = (HOME / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| `(\w+)\.py` \|.*\| (\d+) \| ([\d,]+) \|$", page, re.MULTILINE)
    assert {name for name, _, _ in found} == EXPERIMENTS.keys()
    for name, runs, epochs in found:
        planned = plan(EXPERIMENTS[name], Path("runs"))
        assert (int(runs), int(epochs.replace(",", ""))) == (
            len(planned),
            sum(p.recipe.training.epochs for p in planned),
        )
