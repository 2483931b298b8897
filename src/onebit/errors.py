"""The one error type that a user is meant to read, and the one warning."""

from __future__ import annotations

from collections.abc import Iterable


class OnebitError(Exception):
    """Something the user can mend: its one line names the file or field, the value and the remedy.

    The command line prints it without a traceback and exits with status 2.
    """


class OnebitWarning(UserWarning):
    """Something that works, and that the user might want otherwise. The command line prints it as a note."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The remedy for a misspelt name: ``"did you mean 'width'?"`` or the list of known names.

    >>> nearest("widht", ["depth", "width"])
    "did you mean 'width'?"
    >>> nearest("zzz", ["depth", "width"])
    'known: depth, width'
    """
    import difflib  # here: loading a model should import little

    names = [str(k) for k in known]
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names[:12])}" + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def reason(error: BaseException) -> str:
    """Why something failed, on one line: what the system says, else the first line of the text, else its kind.

    >>> reason(FileNotFoundError(2, "No such file or directory", "x")), reason(ValueError("one\\ntwo")), reason(EOFError())
    ('No such file or directory', 'one', 'EOFError')
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
