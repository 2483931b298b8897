"""What standard output can show."""

from __future__ import annotations

import sys


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
