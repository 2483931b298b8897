"""Files that are written whole or not at all. No torch."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from onebit.errors import OnebitError, reason


def atomic_write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` on a temporary file beside `path`, flush it to the disk, rename it. An error leaves `path` as it was.

    The folder is made if it is not there. Raises OnebitError when the file cannot be written (a full disk, no
    permission). A process killed meanwhile leaves a temporary file, which `remove_temporary` finds.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     atomic_write(Path(folder, "x.bin"), lambda file: file.write(b"whole"))
    ...     Path(folder, "x.bin").read_bytes()
    b'whole'
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        _forget(temporary)
        older = "the older file is untouched; " if path.exists() else ""
        raise OnebitError(
            f"{path}: cannot be written ({reason(error)}); {older}free space or make the folder writable, then try again"
        ) from error
    except BaseException:
        _forget(temporary)
        raise


def write_text(path: Path, text: str) -> None:
    """`atomic_write` of UTF-8 text."""
    atomic_write(path, lambda file: file.write(text.encode()))


def remove_temporary(folder: Path) -> None:
    """Delete what `atomic_write` left in `folder` when its process was killed."""
    for path in folder.glob(".*.tmp"):
        if re.fullmatch(r"\..+\.\d+\.tmp", path.name):
            path.unlink(missing_ok=True)


def _forget(temporary: Path) -> None:
    with contextlib.suppress(OSError):  # a read-only disk refuses even to remove what is not there
        temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Bring the renaming itself to the disk, where the system can (not on Windows)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
