"""What a person sees while a network trains: one line that says loss, error, images/s and the time left."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from onebit.errors import OnebitError
from onebit.files import write_text


def clock(seconds: float) -> str:
    """Seconds as people read them.

    >>> clock(75), clock(4000)
    ('1:15', '1:06:40')
    """
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


class Progress:
    """One line a run: rewritten in place on a terminal, one line an epoch elsewhere, nothing when quiet."""

    def __init__(self, total_steps: int, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.live = not quiet and self.stream.isatty()
        self.quiet = quiet
        self.total = total_steps
        self.begun = time.monotonic()
        self.first_step = 0
        self.last_shown = 0.0

    def start(self, step: int) -> None:
        """Training begins now, with `step` mini-batches done before (a resumed run): the pace counts from here."""
        self.begun, self.first_step = time.monotonic(), step

    def step(self, step: int, epoch: int, epochs: int, loss: float, error: float, speed: float) -> None:
        """After mini-batch `step` (counted from 1 over the whole run)."""
        now = time.monotonic()
        if not self.live or (now - self.last_shown < 0.2 and step < self.total):
            return
        self.last_shown = now
        left = self.left(step)
        bar = "━" * round(20 * step / self.total)
        text = f"epoch {epoch}/{epochs} {bar:─<20} loss {loss:.3f}  error {error:.2f} %  {speed:.0f} images/s  {clock(left)} left"
        self.stream.write(f"\r\x1b[2K{text}")
        self.stream.flush()

    def left(self, step: int) -> float:
        """Seconds to the end at this run's average pace."""
        done = max(1, step - self.first_step)
        return (time.monotonic() - self.begun) / done * (self.total - step)

    def epoch(self, epoch: int, epochs: int, line: Mapping[str, Any], step: int) -> None:
        """The line that stays after an epoch."""
        test = line.get("test_error")
        shown = "" if test is None else f"  test error {test:.2f} %"
        self.say(
            f"epoch {epoch}/{epochs}  loss {line['loss']:.4f}  training error {line['train_error']:.2f} %{shown}"
            f"  {line['images_per_second']:.0f} images/s  {clock(self.left(step))} left"
        )

    def say(self, text: str) -> None:
        """A line of its own above the progress line."""
        if self.quiet:
            return
        self.stream.write(("\r\x1b[2K" if self.live else "") + text + "\n")
        self.stream.flush()


class Metrics:
    """``metrics.jsonl`` of a run folder: one JSON object a line, appended and flushed at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep_until(self, epoch: int) -> None:
        """Drop lines of epochs after `epoch`: a resumed run writes them anew."""
        lines = [line for line in self.read() if line.get("epoch", 0) <= epoch]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line. Raises OnebitError when it cannot be written."""
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OnebitError(f"{self.path}: cannot be written ({error}); free space, then resume") from error

    def read(self) -> list[dict[str, Any]]:
        """The whole lines; a last line cut short by a kill is left out."""
        return list(_whole_lines(self.path)) if self.path.exists() else []


def _whole_lines(path: Path) -> Iterable[dict[str, Any]]:
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict):  # "12" is JSON too, and so may be the beginning of a line
            yield line
