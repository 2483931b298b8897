"""Bytes known beforehand; tests/targets/test_firmware_boards.py holds them to what compilers make."""

from __future__ import annotations

import importlib
import json

import pytest

from onebit.errors import OnebitError
from onebit.export.firmware import CORES, C, footprint
from support.models import left_or_right

module = importlib.import_module("onebit.export.firmware.footprint")


def test_every_c_file_has_a_stored_size() -> None:
    stored = json.loads(module.SIZES.read_text(encoding="utf-8"))
    parts = {path.name for path in C.glob("*.c")} - {"host.c", "selftest.c"}
    assert set(stored["code"]) == set(stored["stack"]) == set(stored["compiler"]) == set(CORES)
    for sizes in stored["code"].values():
        assert set(sizes) == parts | {"library"}


def test_a_file_without_a_stored_size_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = json.loads(module.SIZES.read_text(encoding="utf-8"))
    del stored["code"]["cortex-m4"]["run.c"]
    monkeypatch.setattr(module, "_sizes", lambda: stored)
    with pytest.raises(OnebitError, match=r"run\.c.*code_sizes\.json.*measure_firmware"):
        footprint(left_or_right())
