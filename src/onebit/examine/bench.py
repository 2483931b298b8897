"""How fast a packed model runs on this machine: the whole of it, and each layer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from onebit.engine import library
from onebit.engine.engine import Engine
from onebit.errors import OnebitError
from onebit.machine import cpu_model
from onebit.model import load

FEWEST = 3  # measurements, however long they take
LOADS = 5
NIBBLES = "4 bits"  # in the names of kernels of 4-bit activations


@dataclass(frozen=True)
class Row:
    """A layer: an operation with those that are fused with it. `shape` (channels, height, width) is of what the last makes."""

    first: int
    last: int
    operations: tuple[str, ...]
    window: tuple[int, int]
    stride: int
    shape: tuple[int, int, int]
    kernel: str
    microseconds: float
    macs: int
    peak: float = 0.0  # 10^9 multiply-accumulates a second that its tables could do at most here; 0: not known

    @property
    def text(self) -> str:
        """
        >>> Row(1, 2, ("conv", "norm"), (3, 3), 2, (16, 8, 8), "scalar", 5.0, 0).text
        'conv 3x3 /2, norm'
        """
        first, *others = self.operations
        if first in ("conv", "average", "max"):
            first += f" {self.window[0]}x{self.window[1]}" + (f" /{self.stride}" if self.stride > 1 else "")
        return ", ".join([first, *others])

    @property
    def gmacs(self) -> float:
        """10^9 multiply-accumulates a second; 0 where there are none, or no time."""
        return self.macs / self.microseconds / 1e3 if self.microseconds else 0.0

    @property
    def of_peak(self) -> float | None:
        """The share of `peak` that it reaches."""
        return self.gmacs / self.peak if self.peak else None


@dataclass(frozen=True)
class Bench:
    """Times are of one picture, in microseconds; memory in bytes."""

    cpu: str
    isa: str
    isas: tuple[str, ...]  # that this CPU has, best first
    threads: int
    batch: int  # pictures a call
    runs: int  # calls that were timed
    load_milliseconds: float
    median: float
    best: float
    macs: int
    model_bytes: int
    arena_bytes: int
    rows: tuple[Row, ...]

    @property
    def pictures_a_second(self) -> float:
        return 1e6 / self.median

    @property
    def gmacs(self) -> float:
        return self.macs / self.median / 1e3

    def facts(self) -> dict[str, Any]:
        """All of it, for JSON."""
        rows = [{**asdict(row), "text": row.text, "gmacs": row.gmacs, "of_peak": row.of_peak} for row in self.rows]
        return {
            **asdict(self), "rows": rows, "pictures_a_second": self.pictures_a_second, "gmacs": self.gmacs,
        }  # fmt: skip


def bench(
    path: Path, *, isa: str | None = None, threads: int | None = None, seconds: float = 2.0, batch: int = 1
) -> Bench:
    """Time the engine on pictures of noise: `batch` of them a call for half of the `seconds`, layers for the other half.

    Arguments and errors as for `onebit.load`; the engine must be there.
    """
    library.load()
    began = time.perf_counter()
    model = load(path, isa=isa, threads=threads)
    loads = [time.perf_counter() - began]
    ready = model.engine
    if ready is None:
        raise OnebitError("isa reference: only the engine is timed; name one of " + ", ".join(_here()))
    for _ in range(LOADS - 1):
        began = time.perf_counter()
        load(path, isa=isa, threads=threads)
        loads.append(time.perf_counter() - began)
    channels, height, width = model.shape
    pictures = np.random.default_rng(0).integers(0, 256, (batch, height, width, channels), np.uint8)
    ready.run(pictures)  # touch all memory, start the threads
    calls = [took / batch for took in _repeat(lambda: ready.run(pictures), seconds / 2)]
    times: list[Any] = []
    for _ in _repeat(lambda: times.append(ready.timed(pictures[0])), seconds / 2):
        pass
    return Bench(
        cpu_model(), ready.isa, _here(), ready.threads, batch, len(calls), 1e3 * median(loads),
        1e6 * median(calls), 1e6 * min(calls), ready.macs, ready.memory, ready.arena, tuple(_rows(ready, np.median(times, 0) / 1e3)),
    )  # fmt: skip


def _here() -> tuple[str, ...]:
    return tuple(name for name, here in library.isas().items() if here)


def _repeat(call: Callable[[], Any], seconds: float) -> Iterator[float]:
    """Seconds that each of repeated calls took."""
    end, done = time.perf_counter() + seconds, 0
    while done < FEWEST or time.perf_counter() < end:
        began = time.perf_counter()
        call()
        yield time.perf_counter() - began
        done += 1


def _rows(ready: Engine, microseconds: Any) -> Iterator[Row]:
    lanes = {nibbles: ready.peak(nibbles) for nibbles in {NIBBLES in layer.kernel for layer in ready.layers}}
    row: Row | None = None
    for i, (layer, took) in enumerate(zip(ready.layers, microseconds, strict=True)):
        if row and layer.kernel == "fused":
            operations = (*row.operations, layer.operation)
            row = replace(row, last=i, operations=operations, shape=layer.shape)
            continue
        if row:
            yield row
        row = Row(
            i, i, (layer.operation,), layer.window, layer.stride, layer.shape, layer.kernel, float(took), layer.macs,
            layer.group * lanes[NIBBLES in layer.kernel] * ready.threads / 1e9,
        )  # fmt: skip
    if row:
        yield row
