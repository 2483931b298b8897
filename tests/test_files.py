"""Whole or not at all: errors, kills and full disks while a file is being written."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from onebit import files
from onebit.errors import OnebitError


def test_a_process_killed_while_writing_leaves_the_older_file_and_a_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "c.bin"
    path.write_bytes(good := b"older")
    child = os.fork()
    if child == 0:

        def half(file: object) -> None:
            file.write(b"half")  # type: ignore[attr-defined]
            file.flush()  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGKILL)

        files.atomic_write(path, half)
    os.waitpid(child, 0)
    assert path.read_bytes() == good
    assert [p.read_bytes() for p in tmp_path.glob(".*.tmp")] == [b"half"]
    (tmp_path / ".keep.tmp").write_text("a file of somebody else")
    files.remove_temporary(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".keep.tmp", "c.bin"]


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def broken(_file: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.atomic_write(tmp_path / "c.bin", broken)
    (tmp_path / "file").write_text("")
    with pytest.raises(OnebitError, match="cannot be written"):
        files.write_text(tmp_path / "file" / "c.txt", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    files.write_text(tmp_path / "new" / "folder" / "c.txt", "x")  # made on the way
    assert (tmp_path / "new" / "folder" / "c.txt").read_text() == "x"
