"""``onebit export TARGET MODEL -o OUT``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from onebit.packed.file import Packed


class Targets(click.Group):
    """Subcommands; a name that is none gets the names that there are."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from onebit.errors import nearest

        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise click.UsageError(f"no target {args[0]!r}: {nearest(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


def _list(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        _print_targets()
        ctx.exit()


@click.group("export", cls=Targets, invoke_without_command=True)
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=_list, help="What each target is for."
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Turn a packed model into what another world runs: firmware, a web page, ONNX, QONNX.

    `onebit export TARGET -h` has each target's options; `onebit verify MODEL OUT` proves what was made.
    """
    if ctx.invoked_subcommand is None:
        _print_targets()


def _print_targets() -> None:
    from rich.markup import escape

    from onebit.cli.terminal import console, table
    from onebit.export.targets import TARGETS

    out = console()
    for target in TARGETS.values():
        out.print(f"[bold]{target.name}[/]  {target.use}", soft_wrap=True)
        rows = table("", "", left=(0, 1), wrap=(1,))
        rows.show_header = False
        lines = {
            "makes": target.makes,
            "weights": target.weights,
            "same logits": target.same,
            "needs": target.needs,
            "read": target.page,
        }
        for name, text in lines.items():
            if text:
                rows.add_row(f"  {name}", escape(text))
        out.print(rows)


def _target(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A subcommand with the two things that all have: MODEL and -o."""

    def make(function: Callable[..., Any]) -> click.Command:
        function = click.option(
            "-o", "--out", required=True, type=click.Path(path_type=Path), help="File or folder to make."
        )(function)
        function = click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))(function)
        return command.command(name)(function)

    return make


@_target("onnx")
@click.option("--int8", is_flag=True, help="For 8-bit kernels (QDQ) instead of float32.")
def onnx(model: Path, out: Path, int8: bool) -> None:
    """ONNX: weights stay one bit each in the file and are unpacked when it is loaded. OUT is a file."""
    from onebit.export import onnx as target

    packed = _load(model)
    target.export(packed, out, int8=int8)
    _made(model, out)


@_target("qonnx")
def qonnx(model: Path, out: Path) -> None:
    """QONNX, for FINN and hls4ml: BipolarQuant weights, Quant activations. OUT is a file."""
    from onebit.export import qonnx as target

    packed = _load(model)
    target.export(packed, out)
    _made(model, out)


@_target("firmware")
@click.option("--core", default="cortex-m4", show_default=True, metavar="CORE", help="Whose kernels and sizes.")
@click.option("--low-memory", is_flag=True, help="Run layers row by row where that saves RAM; takes longer.")
@click.option("--name", default="network", show_default=True, help="Begins the names in C.")
@click.option(
    "--picture", "pictures", multiple=True, type=click.Path(path_type=Path), help="For the self-test (repeatable)."
)
def firmware(model: Path, out: Path, core: str, low_memory: bool, name: str, pictures: tuple[Path, ...]) -> None:
    """C for microcontrollers: no heap, no stdio, no float; weights stay bits in flash. OUT is a folder.

    \b
    CORE: cortex-m0plus, cortex-m3, cortex-m4, cortex-m7, cortex-m55, riscv32
    """
    import numpy as np

    from onebit.examine.predict import read_picture
    from onebit.export import firmware as target
    from onebit.model import Model

    packed = _load(model)
    shown = [read_picture(Model(packed), picture) for picture in pictures]
    made = target.export(
        packed, out, name=name, core=core, low_memory=low_memory, pictures=np.stack(shown) if shown else None
    )
    _made(model, out)
    click.echo(made.line())
    click.echo(f"test it here: make -C {click.format_filename(out)}")


@_target("web")
def web(model: Path, out: Path) -> None:
    """A web page that needs no server: drop a picture, see classes. OUT is a folder."""
    from onebit.export import web as target

    packed = _load(model)
    target.export(packed, out)
    _made(model, out)
    click.echo(f"open {click.format_filename(out / 'index.html')} in a browser")


def _load(path: Path) -> Packed:
    from onebit.examine.predict import find
    from onebit.packed.file import load

    return load(find(path))


def _made(model: Path, out: Path) -> None:
    files = sorted(path for path in out.rglob("*") if path.is_file()) if out.is_dir() else [out]
    size = sum(path.stat().st_size for path in files)
    what = f"{len(files)} files, {size:,} bytes" if out.is_dir() else f"{size:,} bytes"
    click.echo(f"{click.format_filename(out)}: {what}")
    click.echo(f"prove it: onebit verify {click.format_filename(model)} {click.format_filename(out)}")
