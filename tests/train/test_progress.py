"""The progress line and the metrics file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from onebit.errors import OnebitError
from onebit.train import progress
from onebit.train.progress import Metrics, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the fake clock."""
    time = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def test_time_left_is_the_average_pace_since_the_start(now: list[float]) -> None:
    line = Progress(100)
    now[0] += 50  # what happens before training does not count
    line.start(20)  # a resumed run
    now[0] += 40
    assert line.left(40) == pytest.approx(2.0 * 60)  # 20 mini-batches in 40 s, 60 to go


def test_a_terminal_sees_one_line_rewritten(now: list[float]) -> None:
    stream = Terminal()
    line = Progress(100, stream=stream)
    line.start(0)
    for step in (20, 21, 40):
        now[0] += 0.1 if step == 21 else 60.0
        line.step(step, 1, 2, 1.5, 12.25, 345.6)
    line.say("something else")
    text = stream.getvalue()
    assert "\n" not in text.partition("something else")[0]
    shown = text.split("\r\x1b[2K")[1:]
    assert len(shown) == 3 and shown[2] == "something else\n"  # step 21 came too soon to be shown
    assert "epoch 1/2" in shown[0] and "loss 1.500  error 12.25 %  346 images/s  4:00 left" in shown[0]


def test_a_file_gets_a_line_an_epoch_and_quiet_nothing(now: list[float]) -> None:
    epoch = {"loss": 1.23456, "train_error": 9.876, "test_error": 5.0, "images_per_second": 99.7}
    stream, silent = io.StringIO(), io.StringIO()
    for line in (Progress(10, stream=stream), Progress(10, stream=silent, quiet=True)):
        line.start(0)
        now[0] += 10
        line.step(5, 1, 2, 1.0, 1.0, 1.0)
        line.epoch(1, 2, epoch, 5)
        now[0] -= 10
    assert silent.getvalue() == ""
    assert stream.getvalue() == (
        "epoch 1/2  loss 1.2346  training error 9.88 %  test error 5.00 %  100 images/s  0:10 left\n"
    )


def test_metrics_forget_epochs_after_the_checkpoint_and_a_line_cut_short(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    assert metrics.read() == []
    # the checkpoint may stand at the last mini-batch of epoch 2, whose line was written but whose epoch is not over
    for epoch in (1, 2, 3):
        metrics.append({"epoch": epoch, "step": 10 * epoch})
    with open(metrics.path, "a") as file:
        file.write('{"epoch": 4, "st')
    assert [line["epoch"] for line in metrics.read()] == [1, 2, 3]
    metrics.keep_until(1)
    assert metrics.path.read_text() == json.dumps({"epoch": 1, "step": 10}) + "\n"
    metrics.path.write_text('{"epoch": 1}\n12')
    assert metrics.read() == [{"epoch": 1}]


def test_metrics_that_cannot_be_written_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(OnebitError, match=r"metrics\.jsonl: cannot be written"):
        Metrics(tmp_path / "gone" / "metrics.jsonl").append({})
