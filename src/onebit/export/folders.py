"""Folders that are made whole or not at all; a later export replaces what an earlier one made and keeps all else."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from onebit.errors import OnebitError, reason

MARK = "model.onebit"  # the packed model that an export was made of lies in it, and marks it


@contextlib.contextmanager
def whole(folder: Path, earlier: tuple[str, ...]) -> Iterator[Path]:
    """A temporary folder beside `folder`, which takes its place at the end; an error leaves `folder` as it was.

    Files of `folder` that the new one does not have, a project's own beside the export's, go over to it. `earlier` are names
    that a folder of the same target holds. Raises OnebitError where `folder` is there, not empty and no such folder, and
    where it cannot be written.
    """
    if folder.name in ("", ".."):
        raise OnebitError(f"{folder}: is the folder you are in, or above it, and would be replaced; name another one")
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or _is_export(folder, earlier))):
        raise OnebitError(f"{folder}: is there and no earlier export; name another folder, or remove it")
    temporary, old = (folder.with_name(f".{folder.name}.{os.getpid()}{end}") for end in (".tmp", ".old.tmp"))
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if folder.exists():
            _keep(folder, temporary)
            folder.rename(old)
        temporary.rename(folder)
    except OSError as error:
        raise OnebitError(
            f"{folder}: cannot be written ({reason(error)}); free space or make its parent writable, then try again"
        ) from error
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for rest in (temporary, old):
            shutil.rmtree(rest, ignore_errors=True)


def _keep(old: Path, new: Path) -> None:
    """Copy what only the old folder has."""
    for path in sorted(old.rglob("*")):
        target = new / path.relative_to(old)
        if path.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)


def _is_export(folder: Path, names: tuple[str, ...]) -> bool:
    return all((folder / name).exists() for name in (MARK, *names))
