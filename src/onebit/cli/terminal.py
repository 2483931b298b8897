"""What standard output can show, and how warnings are told."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

import click

from onebit.errors import OnebitWarning

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPED = 100  # columns where no terminal says how many it has


def shows(text: str) -> bool:
    """Can standard output's encoding express `text`?"""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def forgive() -> None:
    """From now on print ? for what standard output cannot show, a class's name perhaps, instead of an error."""
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="replace")


def notes() -> None:
    """From now on print an OnebitWarning as a note on stderr, without the line of code that gave it."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **rest: Any) -> None:
        if issubclass(category, OnebitWarning):
            click.echo(f"note: {message}", err=True)
        else:
            usual(message, category, *where, **rest)

    warnings.showwarning = show


def console() -> Console:
    """Standard output for tables."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=PIPED)


def table(*columns: str, left: tuple[int, ...], wrap: tuple[int, ...] = (), gap: int = 2) -> Table:
    """A table without lines; `left` and `wrap` are the numbers of columns that do so, `gap` the spaces between columns."""
    from rich.table import Table

    found = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim")
    for i, name in enumerate(columns):
        found.add_column(name, justify="left" if i in left else "right", no_wrap=i not in wrap, overflow="fold")
    return found
