"""The hostile files that the tests of the Python reader make, for other readers: they must think the same of them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from onebit.packed import file
from packed import test_file, test_file_damage, test_file_records

Decode = Callable[[bytes], file.Packed]


def visit(see: Callable[[bytes, Decode], file.Packed]) -> None:
    """Run these tests with `see` in the place of `file.decode`, which it is given too."""
    decode = file.decode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "decode", lambda content: see(bytes(content), decode))
        for module in (test_file, test_file_damage, test_file_records):
            for test, values in _cases(module):
                test(**values)


def _cases(module: ModuleType) -> Iterator[tuple[Callable[..., None], dict[str, Any]]]:
    """Every test of a module, with all values of its parameters; not those that need a fixture."""
    for name, test in vars(module).items():
        if not name.startswith("test_"):
            continue
        choices = []
        for mark in getattr(test, "pytestmark", []):
            if mark.name == "parametrize":
                names, values = mark.args
                names = names.split(",") if isinstance(names, str) else names
                choices.append([dict(zip(names, v if len(names) > 1 else [v], strict=True)) for v in values])
        for chosen in itertools.product(*choices):
            arguments = {name: value for part in chosen for name, value in part.items()}
            if set(inspect.signature(test).parameters) <= set(arguments):
                yield test, arguments
