"""The ``onebit`` command: one command a file; each parses, calls one function and prints.

Nothing here imports torch until a command that needs it runs, so that ``onebit --help`` is immediate.
"""

from __future__ import annotations

import sys
from importlib import import_module
from keyword import iskeyword
from typing import Any

import click

from onebit import __version__
from onebit.cli.terminal import forgive, notes
from onebit.errors import OnebitError

# name -> one line of help, in the order of the tour
COMMANDS = {
    "demo": "Train a 1-bit network and its float twin on real digits (a few minutes, no download).",
    "recipes": "List the experiments, or show one with every field.",
    "data": "List the data sets, fetch one, or look at a folder of pictures.",
    "train": "Train a recipe into a run folder.",
    "resume": "Go on with a run that was stopped, or beyond its end.",
    "evaluate": "Test a trained network; confusion matrix as a picture.",
    "pack": "Pack a trained 1-bit network into one file of bits and integers.",
    "verify": "Compare two forms of a network on test pictures: checkpoint, packed model, export.",
    "import": "Pack a network that the paper's author published.",
    "export": "Turn a packed model into firmware, a web page, ONNX or QONNX.",
    "inspect": "Show what a packed model is made of: layers, bits, bytes, work, memory, model card.",
    "predict": "Classes of pictures, with probabilities, from a packed model.",
    "models": "The trained models that come with onebit, by name.",
    "bench": "How fast a packed model runs here: every layer, its kernel, its time.",
    "trace": "Write every integer of a picture's way through a packed model, to check gates against.",
    "report": "Mean and spread over runs, beside the published numbers.",
}


class Tour(click.Group):
    """Commands in the order of a tour, each imported only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        command: click.Command = import_module(f"onebit.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from onebit.errors import nearest

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"no command {args[0]!r}: {nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=Tour, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="onebit")
def cli() -> None:
    """Train convolutional networks whose every weight is one bit.

    \b
    A first tour:
      onebit demo                                   a 1-bit network beside its float twin
      onebit recipes                                every experiment of the paper, by name
      onebit train digits --out runs/digits         train one
      onebit train photos --data PHOTOS --out runs/mine    your own folders of pictures
      onebit evaluate runs/digits                   test it
      onebit report runs/*                          compare runs
      onebit inspect runs/digits                    what its packed file is made of, bit by bit
      onebit predict runs/digits 7.png              what a picture shows
    """


def main(args: list[str] | None = None) -> None:
    """Entry point: an OnebitError is one line on stderr and exit status 2."""
    forgive()
    notes()
    try:
        cli.main(args=args, standalone_mode=True)
    except OnebitError as error:
        click.echo(f"onebit: {error}", err=True)
        sys.exit(130 if type(error).__name__ == "Interrupted" else 2)
    except ModuleNotFoundError as error:
        extra = {"torch": "train", "matplotlib": "train"}.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        click.echo(f"onebit: this needs {error.name}: pip install 'onebit[{extra}]'", err=True)
        sys.exit(2)
