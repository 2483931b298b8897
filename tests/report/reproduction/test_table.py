"""The table: every number beside its own, and nothing mixed."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from onebit.report.reproduction import NO_NUMBER, Curve, Experiment, Row
from onebit.report.reproduction.found import search
from onebit.report.reproduction.table import Line, lines, markdown
from support.runs import write_run

NAME = "cifar10-20-10-cutout-1bit"
ROWS = (
    Row(NAME, 3.92, author=("his",)),
    Row("mnist-20-4-1bit", 0.27),
    Row("mnist-20-4-1bit", 0.36, label="after 6", after=6),
    Row("imagenet32-20-10-1bit", 44.27, top5=21.09),
    Row("plain-cifar100-20-4-1bit", NO_NUMBER),
    Row("cifar10-20-1-1bit"),
)
EXPERIMENT = Experiment("all", "All", ROWS, note="A note.")
CURVES = {"his": Curve("his", "Keras", "cifar10", "1bit", "20-10", (*[9.0] * 253, 3.75))}


def made(folder: Path) -> list[Line]:
    return lines(EXPERIMENT, search([folder], [row.recipe for row in ROWS]))


def cells(page: str, name: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_without_runs_every_row_is_not_yet_run(tmp_path: Path) -> None:
    listed = made(tmp_path)
    assert [line.row for line in listed] == list(ROWS) and not any(line.whole for line in listed)
    page = markdown(EXPERIMENT, listed, CURVES)
    assert page.count("not yet run") == len(ROWS) and "A note." in page
    assert cells(page, "CIFAR-10, 20-10, 1-bit weights, cutout")[1:6] == [
        "254",
        "not yet run",
        "-",
        "3.92",
        "3.75 (Keras)",
    ]
    assert cells(page, "ImageNet32, 20-10, 1-bit weights")[4] == "44.27 / 21.09"
    assert cells(page, "Plain network 20-4, CIFAR-100, 1-bit weights")[4] == "only drawn"
    assert cells(page, "CIFAR-10, 20-1, 1-bit weights")[4] == "not in the paper"


def test_mean_and_spread_are_of_whole_runs_alone(tmp_path: Path) -> None:
    errors = [4.0, 4.2, 4.7]
    for seed, error in enumerate(errors):
        write_run(tmp_path / f"whole{seed}", NAME, error, f"seed={seed}")
        write_run(tmp_path / f"cut{seed}", NAME, 20 + error, f"seed={seed}", "epochs=62")
    write_run(tmp_path / "under-way", NAME, 70.0, "seed=3", done=9)
    write_run(tmp_path / "other", NAME, 80.0, "lr=0.05")
    whole, *others = (line for line in made(tmp_path) if line.row.recipe == NAME)
    assert whole.whole and whole.mean == pytest.approx(statistics.mean(errors))
    assert whole.spread == pytest.approx(statistics.stdev(errors))
    assert not any(line.whole for line in others)
    by_remark = {line.remark: line for line in others}
    assert by_remark.keys() == {"62 of 254 epochs", "under way: epoch 9 of 254", "lr 0.05 instead of 0.1"}
    cut = by_remark["62 of 254 epochs"]
    assert cut.mean == pytest.approx(20 + statistics.mean(errors)) and cut.epochs == 62
    assert cut.paper == 4.57  # the author's log after 62 epochs: 95.43 %
    assert by_remark["lr 0.05 instead of 0.1"].paper is None
    page = markdown(EXPERIMENT, made(tmp_path), CURVES)
    assert "| 4.30 ± 0.36 | 0, 1, 2 | 3.92 | 3.75 (Keras) | 1:00 to 1:00 on a CPU, float32 | - |" in page
    assert "**under way: epoch 9 of 254**" in page


def test_an_epoch_within_a_run_comes_from_its_metrics(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "mnist-20-4-1bit", 0.3)
    write_run(tmp_path / "short", "mnist-20-4-1bit", 0.5, "epochs=6")
    own = [line for line in made(tmp_path) if line.row.recipe == "mnist-20-4-1bit"]
    assert [(line.row.after, line.mean, line.paper) for line in own] == [
        (None, 0.3, 0.27), (None, 0.5, 0.36), (6, 8.3, 0.36)
    ]  # fmt: skip
    assert own[1].remark == "6 of 14 epochs"


def test_a_run_on_other_pictures_stands_beside_no_published_number(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "imagenet32-20-10-1bit", 50.0, test_images=1000)
    own, cut = (line for line in made(tmp_path) if line.row.top5)
    assert not own.whole and cut.mean == 50.0 and cut.paper is None
    assert cells(markdown(EXPERIMENT, made(tmp_path), {"his": CURVES["his"]}), "↳ ImageNet32, 20-10, 1-bit weights")[2:5] == [
        "50.00 / 25.00", "0", "-"
    ]  # fmt: skip
