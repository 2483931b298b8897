"""``onebit bench FILE``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from onebit.examine.bench import Bench


@click.command("bench")
@click.argument("model", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--threads", type=int, metavar="N", help="That share the work on a picture. Default: one a core.")
@click.option(
    "--isa", metavar="NAME", help="Instruction set. Default: the best of this CPU; the table names those here."
)
@click.option("--seconds", type=click.FloatRange(0), default=2.0, show_default=True, help="How long to measure.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Pictures a call.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: Path, threads: int | None, isa: str | None, seconds: float, batch: int, as_json: bool) -> None:
    """How fast the packed model FILE (or a run folder's) runs on this machine: all of it, and layer by layer.

    A row is an operation with those fused into it: its kernel, the median time, 10^9 multiply-accumulates a second, how
    much that is of what its tables could do at best on this CPU, and its share of the time. Layers are timed one by one,
    which takes a little longer than the whole at once.
    """
    from onebit.cli.progress import busy
    from onebit.examine.bench import bench
    from onebit.examine.predict import find

    path = find(model)
    with busy("measuring"):
        found = bench(path, isa=isa, threads=threads, seconds=seconds, batch=batch)
    if as_json:
        click.echo(json.dumps({"file": str(path), **found.facts()}))
        return
    from rich.markup import escape

    from onebit.cli.terminal import console

    out = console()
    out.print(f"[bold]{escape(click.format_filename(path))}[/]", soft_wrap=True)
    others = ", ".join(name for name in found.isas if name != found.isa)
    out.print(
        f"{escape(found.cpu)}, {found.isa}{f' (also here: {others})' if others else ''}, "
        f"{found.threads} thread{'s' * (found.threads > 1)}\n"
    )
    out.print(_layers(found))
    out.print(
        f"\n[bold]A picture[/]: {_time(found.median)} (median of {found.runs} calls of {found.batch}), best {_time(found.best)}; "
        f"{found.pictures_a_second:,.4g} pictures a second, {found.gmacs:.4g} GMAC/s"
    )
    out.print(f"[bold]Loading[/]: {found.load_milliseconds:.3g} ms")
    out.print(
        f"[bold]Memory[/]: {found.model_bytes / 1e6:,.2f} MB of weights and constants, "
        f"{found.arena_bytes / 1e6:,.2f} MB to compute in"
    )


def _layers(b: Bench) -> Table:
    from onebit.cli.terminal import table

    names = ["#", "layer", "makes", "kernel", "us", "GMAC/s", "of peak", "share"]
    out = table(*names, left=(0, 1, 2, 3), wrap=(1,))
    total = sum(row.microseconds for row in b.rows) or 1.0
    for row in b.rows:
        channels, height, width = row.shape
        out.add_row(
            str(row.first) if row.first == row.last else f"{row.first},{row.last}", row.text, f"{height}x{width}x{channels}",
            row.kernel, f"{row.microseconds:,.1f}", f"{row.gmacs:,.1f}" if row.macs else "",
            "" if row.of_peak is None else f"{100 * row.of_peak:.0f} %",
            f"{100 * row.microseconds / total:.1f} %",
        )  # fmt: skip
    return out


def _time(microseconds: float) -> str:
    """
    >>> _time(27123.4), _time(82.25)
    ('27.1 ms', '82.2 us')
    """
    return f"{microseconds / 1e3:.3g} ms" if microseconds >= 1e3 else f"{microseconds:.3g} us"
