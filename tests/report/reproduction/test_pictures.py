"""The pictures hold the numbers of the runs and of the author's logs."""

from __future__ import annotations

import math
from pathlib import Path

from onebit.report.reproduction import Curve, Experiment, Row
from onebit.report.reproduction.found import search
from onebit.report.reproduction.pictures import _curves, _errors
from onebit.report.reproduction.table import lines
from support.runs import write_run

NAMES = ("cifar10-20-1-cutout-1bit", "cifar10-20-1-cutout-float", "cifar100-20-4-cutout-1bit")
EXPERIMENT = Experiment(
    "x", "X", (Row(NAMES[0], 9.5, author=("his",)), Row(NAMES[1], 8.0), Row(NAMES[2], 23.74)), "curves", author=("his",)
)
CURVES = {"his": Curve("his", "Keras", "cifar10", "1bit", "20-10", (50.0, math.nan, 30.0))}


def test_curves_by_epoch_beside_the_authors(tmp_path: Path) -> None:
    write_run(tmp_path / "a", NAMES[0], 10.0, done=5)
    write_run(tmp_path / "b", NAMES[1], 8.0)
    ten, hundred = _curves(EXPERIMENT, search([tmp_path], NAMES), CURVES).axes
    drawn = {line.get_label(): line for line in ten.get_lines()}
    his, under_way, whole = drawn.values()
    assert list(his.get_xdata()) == [1, 2, 3] and his.get_ydata()[2] == 30.0 and "Keras" in his.get_label()
    assert list(under_way.get_ydata()) == [14.0, 13.0, 12.0, 11.0, 10.0] and "epoch 5 of 62" in under_way.get_label()
    assert len(whole.get_xdata()) == 62 and whole.get_ydata()[-1] == 8.0
    assert under_way.get_color() == whole.get_color()  # twins
    assert (under_way.get_linestyle(), whole.get_linestyle()) == ("-", "--")
    (dot,) = ten.collections
    assert dot.get_offsets().tolist() == [[62.0, 8.0]]  # of the finished run alone
    assert not hundred.get_lines() and "not yet run" in hundred.get_title()


def test_errors_beside_the_papers(tmp_path: Path) -> None:
    write_run(tmp_path / "a", NAMES[0], 10.0)
    write_run(tmp_path / "b", NAMES[0], 12.0, "seed=1")
    write_run(tmp_path / "c", NAMES[1], 30.0, "epochs=2")
    (axes,) = _errors(EXPERIMENT, lines(EXPERIMENT, search([tmp_path], NAMES)), CURVES).axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert "not yet run" not in names[0] and "not yet run" in names[1] and "2 of 62 epochs" in names[2]
    points = {(float(x), float(y)) for line in axes.get_lines() for x, y in line.get_xydata()}
    assert {(9.5, 0), (11.0, 0), (8.0, 1), (30.0, 2), (23.74, 3)} <= points
