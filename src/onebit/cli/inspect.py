"""``onebit inspect FILE``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from onebit.examine.inspect import Shape, Summary
    from onebit.packed.file import Packed

CLASSES = 20  # names to print


@click.command("inspect")
@click.argument("model", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--firmware", is_flag=True, help="Flash and RAM that it needs on microcontrollers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: Path, firmware: bool, as_json: bool) -> None:
    """What the packed model FILE (or a run folder's) is made of: layers, bits, bytes, work, memory, model card.

    A row is an operation, or a batch-norm with the one that reads it. Shapes are height x width x channels, bytes those in
    the file, MACs multiply-accumulates a picture. Under "numbers" stands what the operation reads and writes: u8 and u4
    are activations of 8 and 4 bits, i16 the stream.
    """
    from onebit.cli.terminal import console
    from onebit.examine.inspect import summary
    from onebit.examine.predict import find
    from onebit.packed.file import load

    path = find(model)
    packed = load(path)
    if firmware:
        _firmware(path, packed, as_json)
        return
    found = summary(packed, path.stat().st_size)
    if as_json:
        click.echo(json.dumps({"file": str(path), **found.facts()}))
        return
    _print(console(), path, found)


def _firmware(path: Path, packed: Packed, as_json: bool) -> None:
    """What it needs on each core, with both schedules."""
    from rich.markup import escape

    from onebit.cli.terminal import console, table
    from onebit.export.firmware import CORES, footprint

    found = [footprint(packed, core=core, low_memory=low) for core in CORES for low in (False, True)]
    if as_json:
        click.echo(json.dumps({"file": str(path), "firmware": [need.facts() for need in found]}))
        return
    out = console()
    out.print(f"[bold]{escape(click.format_filename(path))}[/]: bytes on a microcontroller\n", soft_wrap=True)
    rows = table("core", "schedule", "flash", "constants", "code", "RAM", "arena", "stack", left=(0, 1))
    for need in found:
        schedule = "low memory" if need.low_memory else "fast"
        numbers = (need.flash, need.constants, need.code, need.ram, need.arena, need.stack)
        rows.add_row(need.core, schedule, *(f"{n:,}" for n in numbers))
    out.print(rows)
    compilers = ", ".join(dict.fromkeys(need.measured for need in found))
    out.print(
        f"\nConstants and arena are exact, and hold the picture and all that is computed; code and stack were measured once, "
        f"with {escape(compilers)}."
    )
    out.print(f"write it: onebit export firmware {escape(click.format_filename(path))} -o DIR")


def _print(console: Console, path: Path, s: Summary) -> None:
    from rich.markup import escape

    from onebit.cli.terminal import table
    from onebit.report.tables import kilobytes

    console.print(f"[bold]{escape(click.format_filename(path))}[/]", soft_wrap=True)
    console.print(
        f"{s.weights:,} one-bit weights, {_count(s.macs)} MACs a picture of "
        f"{_shape(s.operations[0].input)}, {len(s.classes)} classes\n"
    )
    console.print(_layers(s))
    console.print(
        f"\n[bold]File[/]: {s.file_bytes:,} bytes; the weights alone are {kilobytes(s.float_bytes)} as float32, "
        f"{s.ratio:.1f} times as much"
    )
    console.print(_parts(s))
    values = ", ".join("the picture" if v < 0 else str(v) for v in s.peak.values)
    console.print(
        f"\n[bold]Memory[/]: {s.peak.bytes:,} bytes of maps at most, while operation {s.peak.operation} runs: "
        f"values {values}"
    )
    console.print("\n[bold]Model card[/]")
    names = ", ".join(s.classes[:CLASSES]) + (f" and {len(s.classes) - CLASSES} more" * (len(s.classes) > CLASSES))
    card = {**s.about, "classes": names, "temperature": f"{s.temperature:.4g}", "format": s.format}
    for key in ("error", "published"):
        if key in s.about:
            card[key] = f"{s.about[key]} %"
    listed = table("", "", left=(0, 1), wrap=(1,))
    listed.show_header = False
    for key, text in card.items():
        listed.add_row(f"  {escape(key)}", escape(text))
    console.print(listed)


def _layers(s: Summary) -> Table:
    from rich.markup import escape

    from onebit.cli.terminal import shows, table

    arrow = "→" if shows("→") else "->"
    names = ("#", "operation", f"in {arrow} out", "weights", "bytes", "MACs", "numbers")
    rows = table(*names, left=(0, 1, 2, 6), wrap=(1,), gap=1)
    for row in s.layers():
        first, last = row[0], row[-1]
        number = str(first.number) if len(row) == 1 else f"{first.number},{last.number}"
        rows.add_row(
            number, escape(", ".join(entry.text for entry in row)), _shapes(first.input, last.output, f" {arrow} "),
            *(_positive(n) for n in (last.weights, sum(e.bytes for e in row))),
            _count(last.macs) if last.macs else "", f"{last.reads}{arrow}{last.writes}",
        )  # fmt: skip
    rows.add_section()
    own = sum(e.bytes for e in s.operations)
    rows.add_row("", "total", "", f"{s.weights:,}", f"{own:,}", _count(s.macs), "", style="bold")
    return rows


def _parts(s: Summary) -> Table:
    from onebit.cli.terminal import table

    rows = table("bytes", "", "what", "numbers", "why", left=(2, 3, 4), wrap=(4,))
    share = max(s.file_bytes, 1)
    for part in s.parts:
        kind = f"{part.numbers:,} x {part.type}" if part.name != "header" else part.type
        rows.add_row(f"{part.bytes:,}", f"{100 * part.bytes / share:.2f} %", part.what, kind, part.why)
    return rows


def _shapes(before: Shape, after: Shape, arrow: str) -> str:
    return _shape(after) if before == after else f"{_shape(before)}{arrow}{_shape(after)}"


def _shape(shape: Shape) -> str:
    channels, height, width = shape
    return f"{height}x{width}x{channels}"


def _positive(number: int) -> str:
    return f"{number:,}" if number else ""


def _count(number: int) -> str:
    """
    >>> _count(4_100_000_000), _count(235_929_600), _count(1280)
    ('4.10 G', '235.9 M', '1,280')
    """
    if number >= 1e9:
        return f"{number / 1e9:.2f} G"
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number:,}"
