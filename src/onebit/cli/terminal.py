"""What standard output can show, and how warnings are told."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import click

from onebit.errors import OnebitWarning


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
