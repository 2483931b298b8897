"""What the columns of results/engine/*.json are, and the ratios between contenders.

A contender has, a round: `wall_ms` and `cpu_ms` (median of the calls of its slice, a picture), `burst_ms` (the slower of the
bursts before and after the slice) and `waited` (wall time of the slice over CPU time, a thread); over all rounds `median_ms`,
`median_cpu_ms`, `best_ms` (the fastest call), and `disturbed`, the number of slices whose burst took 1.25 times the
fastest one, or which waited for 10 % of their time.
"""

from __future__ import annotations

import statistics
from typing import Any

SLOW_BURST, LONG_WAIT = 1.25, 1.1

Row = dict[str, Any]


def batch_times(slices: list[Row], batch: int) -> Row:
    """The columns out of a worker's answers."""
    wall, cpu = ([_digits(1000 * s[k] / batch) for s in slices] for k in ("wall", "cpu"))
    bursts = [_digits(1000 * max(s["bursts"])) for s in slices]
    waited = [_digits(s["total_wall"] / s["total_cpu"]) for s in slices]
    least = min(min(s["bursts"]) for s in slices) * 1000
    disturbed = sum(b > SLOW_BURST * least or w > LONG_WAIT for b, w in zip(bursts, waited, strict=True))
    return {
        "median_ms": statistics.median(wall), "best_ms": _digits(1000 * min(s["best"] for s in slices) / batch),
        "median_cpu_ms": statistics.median(cpu), "calls": sum(s["calls"] for s in slices), "disturbed": disturbed,
        "wall_ms": wall, "cpu_ms": cpu, "burst_ms": bursts, "waited": waited,
    }  # fmt: skip


def ratio(row: Row, ours: Row, what: str = "wall_ms") -> float:
    """How many times as long `row` takes: the median over rounds of the quotient in one round."""
    return statistics.median(a / b for a, b in zip(row[what], ours[what], strict=True))


def find(table: Row | None, **wanted: Any) -> Row | None:
    """The first contender with these fields that ran; None: there is none."""
    for row in table["contenders"] if table else ():
        if "failed" not in row and all(row[k] == v for k, v in wanted.items()):
            return row
    return None


def label(row: Row) -> str:
    words = [row["engine"], row["model"], row["isa"] or "", f"batch {row['batch']}", f"{row['threads']} threads"]
    return " ".join(w for w in words if w)


def show(name: str, table: Row) -> str:
    """A table for the terminal: times and ratios to the first contender that ran."""
    ran = [row for row in table["contenders"] if "failed" not in row]
    lines = [f"\n{name}: {table['shows']} (load {table['load_average']})"]
    for row in table["contenders"]:
        if "failed" in row:
            lines.append(f"  {label(row):50} {row['failed'][-150:]}")
        else:
            lines.append(
                f"  {label(row):50} {row['median_ms']:8.3f} ms, best {row['best_ms']:8.3f}, CPU {row['median_cpu_ms']:8.3f}; "
                f"x {ratio(row, ran[0]):5.2f} wall, {ratio(row, ran[0], 'cpu_ms'):5.2f} CPU; {row['disturbed']} disturbed"
            )
    return "\n".join(lines)


def _digits(x: float) -> float:
    return float(f"{x:.5g}")
