"""What Python believes about the C library, against its header; and what it says where there is none."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import onebit
from onebit.engine import library
from onebit.errors import OnebitError, OnebitWarning
from onebit.packed import file
from support.command import call
from support.models import left_or_right

HEADER = (Path(__file__).resolve().parents[2] / "core" / "include" / "onebit.h").read_text(encoding="utf-8")


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """No library where it is looked for; the path of one that would be loaded."""
    path = tmp_path / "libother.so"
    monkeypatch.setenv("ONEBIT_LIBRARY", str(path))
    monkeypatch.delenv("ONEBIT_ISA", raising=False)
    library._open.cache_clear()
    yield path
    library._open.cache_clear()


def arguments(text: str) -> int:
    return 0 if text.strip() in ("", "void") else text.count(",") + 1


def test_every_function_is_declared_with_as_many_arguments() -> None:
    code = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.S)
    functions = {
        name: (result.strip(), arguments(rest))
        for result, name, rest in re.findall(r"OB_API ([\w ]+?[ *]+)(ob_\w+)\(([^)]*)\)", code)
    }
    assert functions.keys() == library.SIGNATURES.keys()
    for name, (result, count) in functions.items():
        declared, given = library.SIGNATURES[name]
        assert len(given) == count, name
        kinds: dict[str, object] = {"void": None, "size_t": ctypes.c_size_t, "const char *": ctypes.c_char_p}
        assert declared is kinds.get(result, ctypes.c_int), name


@pytest.mark.parametrize(("name", "declared"), [("ob_shape", library.Shape), ("ob_layer", library.RawLayer)])
def test_structures_have_the_fields_of_the_header(name: str, declared: type[ctypes.Structure]) -> None:
    body = re.sub(r"/\*.*?\*/", "", re.search(rf"struct {name} \{{(.*?)\}}", HEADER, re.S)[1], flags=re.S)
    kinds = {"int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "const char *": ctypes.c_char_p}
    fields = [
        (field.strip(" *"), kinds[kind])
        for kind, names in re.findall(r"(int32_t|int64_t|const char \*) ?([^;]+);", body)
        for field in names.split(",")
    ]
    assert fields == declared._fields_


def test_statuses_have_the_numbers_of_the_header() -> None:
    names = re.findall(r"^\s+(OB_(?:OK|ERROR_\w+))", HEADER, re.M)
    assert names[library.ERROR_THREADS] == "OB_ERROR_THREADS"
    if library.available():
        assert [library.load().ob_status_name(i).decode() for i in range(len(names))] == names


def test_without_a_library_models_run_in_numpy_with_a_warning(without: Path, tmp_path: Path) -> None:
    assert not library.available()
    file.save(tmp_path / "m.onebit", left_or_right())
    with pytest.warns(OnebitWarning, match=r"100 times slower: ONEBIT_LIBRARY=.*: no such file; install a C compiler"):
        model = onebit.load(tmp_path / "m.onebit")
    assert model.engine is None and model.shape == (1, 8, 8)
    assert model.predict(np.zeros((1, 8, 8), np.uint8)) == ["left"]


def test_the_command_line_says_it_in_a_note(without: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    file.save(tmp_path / "m.onebit", left_or_right())
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    code, out, err = call(capsys, "predict", tmp_path / "m.onebit", tmp_path / "a.png")
    assert code == 0 and "left" in out
    assert err.startswith("note: packed models run in NumPy") and err.count("\n") == 1


def test_without_a_library_an_instruction_set_is_an_error(without: Path, tmp_path: Path) -> None:
    file.save(tmp_path / "m.onebit", left_or_right())
    with pytest.raises(OnebitError, match="no such file; install a C compiler"):
        onebit.load(tmp_path / "m.onebit", isa="scalar")


def test_a_library_that_does_not_load_says_why(without: Path) -> None:
    without.write_bytes(b"no library")
    assert re.search(r"libother\.so: does not load \(.*\); install a C compiler", library.missing())
    with pytest.raises(OnebitError, match="does not load"):
        library.load()


def test_another_library_has_not_the_functions(without: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import _ctypes

    if not getattr(_ctypes, "__file__", None):
        pytest.skip("this Python has no shared library of its own at hand")
    monkeypatch.setenv("ONEBIT_LIBRARY", _ctypes.__file__)
    library._open.cache_clear()
    assert "ob_" in library.missing() and not library.available()
