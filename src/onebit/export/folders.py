"""Folders that are made whole or not at all, and that only replace what an earlier export made."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from onebit.errors import OnebitError, reason

MARK = "model.onebit"  # the packed model that an export was made of lies in it, and marks it


@contextlib.contextmanager
def whole(folder: Path, earlier: Mapping[str, object] | tuple[str, ...]) -> Iterator[Path]:
    """A temporary folder beside `folder`, which takes its place at the end; an error leaves `folder` as it was.

    `earlier` are names that a folder of the same target holds. Raises OnebitError where `folder` is there, not empty and
    no such folder, and where it cannot be written.
    """
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or _is_export(folder, tuple(earlier)))):
        raise OnebitError(f"{folder}: is there and no earlier export; name another folder, or remove it")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        old = folder.with_name(f".{folder.name}.{os.getpid()}.old.tmp")
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OnebitError(
            f"{folder}: cannot be written ({reason(error)}); free space or make its parent writable, then try again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_export(folder: Path, names: tuple[str, ...]) -> bool:
    return all((folder / name).exists() for name in (MARK, *names))
