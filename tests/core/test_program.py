"""The loader of the C core against the Python reader: the same files taken and refused, the same numbers read."""

from __future__ import annotations

import ctypes
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit.errors import OnebitError
from onebit.packed import file
from onebit.packed.program import Average, Table
from packed import test_file, test_file_records
from support import hostile
from support.cloader import STATUSES, CProgram, Loader, equal, same
from support.packed_files import Opened, example, sealed
from support.programs import programs

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
GOOD = file.encode(*example())


def test_hostile_files(loader: Loader) -> None:
    """Whatever the tests of the Python reader make of attacks and random damage."""
    seen = {"OK": 0}

    def see(content: bytes, decode: hostile.Decode) -> file.Packed:
        status, _, program = loader.read(content)
        seen[status] = seen.get(status, 0) + 1
        try:
            packed = decode(content)
        except OnebitError as error:
            assert status != "OK", f"Python refuses it: {error}"
            raise
        assert status == "OK", "Python takes it"
        if len(packed.program.operations) < 100:  # one test wants no memory to be taken
            equal(packed, loader, program)
        return packed

    hostile.visit(see)
    assert seen.keys() == {"OK", "FORMAT", "DAMAGED", "NEWER", "HEADER", "TEXT", "PROGRAM"}
    assert sum(seen.values()) > 1000, seen


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("*.onebit")))
def test_golden_files(name: str, loader: Loader) -> None:
    content = (GOLDEN / name).read_bytes()
    assert same(content, loader)
    for cut in (0, 1, 8, 15, 16, 100, len(content) // 2, len(content) - 4, len(content) - 1):
        assert not same(content[:cut], loader)


@settings(max_examples=60)
@given(st.data())
def test_any_program(loader: Loader, data: st.DataObject) -> None:
    program = data.draw(programs())
    assert same(file.encode(program, [f"class {k}" for k in range(program.classes)]), loader)


@settings(max_examples=150)
@given(st.data())
def test_windows(loader: Loader, data: st.DataObject) -> None:
    """Which numbers of positions windows cover decides about averages: sides, windows and paddings of all kinds."""
    numbers = st.one_of(st.integers(1, 6), st.integers(1, 400))
    pads = st.one_of(st.integers(0, 3), st.integers(0, 127))
    side, window, stride = (data.draw(numbers) for _ in range(3))
    ops = [test_file_records.table(1), test_file_records.norm(0), test_file_records.average(1, 1, 1)]
    ops[0] = Table(side, data.draw(st.integers(1, 5)), ops[0].values)
    multiplier = np.full(window, 0, np.int16)
    shift = np.full(window, data.draw(st.integers(0, 15)), np.int16)
    multiplier[:] = data.draw(st.sampled_from((1, 16384, 32767, 100))) // np.arange(1, window + 1)
    multiplier[data.draw(st.integers(0, window - 1))] = 32767
    padding = (data.draw(pads), 0, data.draw(pads), 0)
    ops[2] = Average(1, 1, (window, 1), min(255, stride), padding, shift, multiplier)
    same(test_file_records.unchecked([*ops, test_file_records.logits(2)]), loader)


def test_any_number_of_positions(loader: Loader) -> None:
    """A factor that grows at each d alone: refused where the window covers d positions somewhere, as Python finds."""
    verdicts = set()
    for d in range(1, 13):
        ops = [test_file_records.table(5), test_file_records.norm(0), test_file_records.average(1, 1, 3, 2)]
        multiplier = np.ones(12, np.int16)
        multiplier[d - 1] = 32767
        ops[2] = Average(1, 1, (3, 4), 2, (2, 1, 1, 2), np.zeros(12, np.int16), multiplier)
        verdicts.add(same(test_file_records.unchecked([*ops, test_file_records.logits(2)]), loader))
    assert verdicts == {True, False}


# -- texts ---------------------------------------------------------------------------------------

ODD = st.sampled_from(
    (
        '"', "\\", "\\\\", "/", "\\u0061", "\\u00e4", "ä", "a", "\\ud83d\\ude00", "\\ud83d", "\\ude00", "\U0001f600",
        "\\n", "\\t", "\\b", "\\u000a", "\n", "\t", "\0", "\x7f", "\u2028", "\u2066", "\ufeff", "\\u", "\\uD83D\\u", "\\x",
        "\\u00_1", ",", " ", "\r", "[", "]", "{", "}", ":", "1", "01", "-", "1.0", "1e3", "null", "true", "NaN", "\u0661",
        "classes",
    )
)  # fmt: skip
STRINGS = st.lists(ODD, max_size=5).map("".join)


@settings(max_examples=600)
@given(
    st.lists(STRINGS, min_size=1, max_size=4), st.sampled_from(("names", "names", "raw", "notes", "header")), STRINGS
)
def test_odd_texts(loader: Loader, parts: list[str], where: str, between: str) -> None:
    """Pieces of JSON, put together: what one reader unescapes, calls a space, or takes for one name, so does the other."""
    opened = Opened(GOOD)
    if where == "names":
        names = ["ant", "bee"][: 2 - len(parts)] + parts[:2]
        opened.metadata["classes"] = "[" + ", ".join(f'"{name}"' for name in names) + "]"
    elif where == "raw":
        opened.metadata["classes"] = between.join(['["ant"', *parts, '"bee"]'])
    content = opened.close()
    if where in ("notes", "header"):
        text = ",".join(f'"{part}":"{between}"' for part in parts) if where == "notes" else between.join(parts)
        content = opened.close(lambda header: header.replace('"data":"example"', text))
    same(content, loader)


@pytest.mark.parametrize("name", ["a", "\\u0061", "\\\\u0061", "\\u005cu0061", "\\u005c\\u0075\\u0030061"])
def test_names_that_look_different_and_are_not(name: str, loader: Loader) -> None:
    """A name is JSON in JSON: both layers may escape it."""
    content = Opened(GOOD).close(lambda header: header.replace(r"[\"ant\", \"K\u00e4fer\"]", rf"[\"a\",\"{name}\"]"))
    assert content != GOOD and loader.read(content)[0] == "TEXT"
    assert not same(content, loader)


@pytest.mark.parametrize("name", ["classes", "format", "data", "d\\u0061ta", "\\u0064\\u0061\\u0074\\u0061"])
def test_metadata_keys_that_look_different_and_are_not(name: str, loader: Loader) -> None:
    content = Opened(GOOD).close(lambda header: header.replace('"data":"example"', f'"data":"x","{name}":"onebit 1"'))
    assert not same(content, loader)


def test_header_bytes(loader: Loader) -> None:
    """Every byte at every place of one header: UTF-8, spaces, escapes."""
    end = GOOD.index(b'"table"')
    for at in (8, 9, 24, 32, 39, 48, 49, 50, 51, 52, 60, end, end + 9, GOOD.index(b"}}") + 3):
        for byte in range(256):
            same(sealed(GOOD[:at] + bytes([byte]) + GOOD[at + 1 :]), loader)


@pytest.mark.parametrize(
    "bad",
    [
        "c080",
        "e08080",
        "eda080",
        "f08080 80",
        "f4908080",
        "f5808080",
        "ff",
        "80",
        "c3",
        "e2 80",
        "f09f98",
        "f8888080 80",
    ],
)
def test_bytes_that_are_no_utf8(bad: str, loader: Loader) -> None:
    raw = bytes.fromhex(bad)
    assert not same(sealed(GOOD.replace(b"example", (raw + b"example")[:7])), loader)
    assert not same(sealed(GOOD.replace(b"example", (b"example" + raw)[-7:])), loader)


@pytest.mark.parametrize(
    "shape", ["[12]", "[12,0]", "[12,1]", "[0,12]", "[0]", "[]", "[12,0,0]", "[012]", "[12 ]", "[ 12]"]
)
def test_axes(shape: str, loader: Loader) -> None:
    content = Opened(GOOD).close(lambda header: header.replace('"shape":[12]', f'"shape":{shape}'))
    assert same(content, loader) == (shape.replace(" ", "") == "[12]")


def test_deep_json_is_refused_at_every_depth(loader: Loader) -> None:
    for depth in (1, 2, 60, 61, 62, 63, 64, 65, 500, 100_000):
        for left, right in (("[", "]"), ('{"a":', "}")):
            text = left * depth + "1" + right * depth
            assert not same(
                Opened(GOOD).close(lambda header: header.replace('"data":', f'"x":{text},"data":')),  # noqa: B023
                loader,
            )
            assert not same(Opened(GOOD).close(lambda header: header.replace('"bits":', f'"x":{text},"bits":')), loader)  # noqa: B023


def test_a_newer_file_is_told_apart_whatever_it_has(loader: Loader) -> None:
    opened = Opened(GOOD)
    opened.metadata["format"] = "onebit 2"
    opened.header["more"] = {"dtype": ["F16", {"of": [True, None]}], "shape": [1, 2, 3, 4]}
    opened.header = {"zeros": {}, **opened.header}
    assert loader.read(opened.close())[0] == "NEWER"


# -- statuses ------------------------------------------------------------------------------------


# Parts of messages of the Python reader, and the status for them; else it is the header.
MESSAGES = {
    r"too short|it is a safetensors file|it is no packed model": "FORMAT",
    r"checksum": "DAMAGED",
    r"this version reads": "NEWER",
    r"class name|two classes|metadata '|note holds characters|names for": "TEXT",
    r"^operation|\((conv|norm|average|max|logits|table)\): |^a program has|rows of|third column": "PROGRAM",
    r"^(kernel|its base|a map of|a window of) ": "PROGRAM",
}


def expected(words: str) -> str:
    return next((status for pattern, status in MESSAGES.items() if re.search(pattern, words)), "HEADER")


def attacks() -> dict[str, bytes]:
    """The attacks of the Python reader's tests, each of which breaks a single rule."""
    found = {}
    for number, (operation, columns, words) in enumerate(test_file_records.RECORDS):
        if words:
            opened = Opened(GOOD)
            opened.set(operation, **columns)
            found[f"record {number}: {words}"] = opened.close()
    for name, (edit, words) in test_file_records.ROWS.items():
        opened = Opened(GOOD)
        edit(opened)
        found[f"rows, {name}: {words}"] = opened.close()
    for name, (ops, words) in test_file_records.PROGRAMS.items():
        found[f"program, {name}: {words}"] = test_file_records.unchecked(ops)
    for name, (content, words) in test_file.BYTES.items():
        if "header would have" not in words and "cut short" not in words:
            found[f"bytes, {name}: {words}"] = content
    for name, (header, words) in test_file.TEXTS.items():
        found[f"header, {name}: {words}"] = Opened(GOOD).close(
            lambda text, header=header: header(text.replace("\\u00e4", "ä"))  # type: ignore[misc]
        )
    return found


def test_statuses_and_operations_of_attacks(loader: Loader) -> None:
    for name, content in attacks().items():
        words = name.partition(": ")[2]
        status, operation, _ = loader.read(content)
        assert (status, name) == (expected(words), name)
        if number := re.match(r"operation (\d+)", words):
            # The C reader is done with an operation before it looks at the next one, so it may stop earlier.
            assert operation == int(number[1]) or ("its part of" in words and 0 <= operation < int(number[1])), name


def test_cut_files_are_damaged_and_others_are_not_ours(loader: Loader) -> None:
    assert loader.read(GOOD[:200])[0] == "DAMAGED"  # within the header
    assert loader.read(GOOD[:-1])[0] == "DAMAGED"
    assert loader.read(GOOD[:15])[0] == loader.read(b"PK\x03\x04" + bytes(200))[0] == loader.read(b"")[0] == "FORMAT"


def test_mistakes_of_the_caller(loader: Loader) -> None:
    content = GOOD
    size = loader.c.ob_program_size(content, len(content))
    assert 0 < size < 4096
    assert loader.c.ob_program_size(None, 100) == loader.c.ob_program_size(content[:100], 100) == 0
    assert loader.read(content, less=1)[0] == "MEMORY"
    assert loader.read(content, shift=1)[0] == loader.read(content, shift=32)[0] == "ARGUMENT"
    program = ctypes.POINTER(CProgram)()
    read = loader.c.ob_program_read
    assert read(None, len(content), None, 0, ctypes.byref(program), None) == 1
    assert read(content, len(content), None, size, ctypes.byref(program), None) == 1
    assert read(content, len(content), None, size, None, None) == 1
    assert read(content[:100], 100, None, 0, ctypes.byref(program), None) == STATUSES.index("DAMAGED")


def test_names_of_statuses(loader: Loader) -> None:
    texts = set()
    for number, name in enumerate(STATUSES):
        assert loader.c.ob_status_name(number).decode() == ("OB_OK" if name == "OK" else f"OB_ERROR_{name}")
        texts.add(loader.c.ob_status_text(number))
    assert len(texts) == len(STATUSES)
    for number in (-1, len(STATUSES), 2**31 - 1, -(2**31)):
        assert loader.c.ob_status_name(number) == b"OB_ERROR_UNKNOWN" and loader.c.ob_status_text(number)


@settings(max_examples=100)
@given(st.binary(max_size=100))
def test_checksums(loader: Loader, content: bytes) -> None:
    assert loader.c.ob_crc32(content, len(content)) == zlib.crc32(content)


def test_checksums_of_every_byte_at_every_place(loader: Loader) -> None:
    for at in range(16):
        for byte in range(256):
            content = bytes(at) + bytes([byte]) + bytes(15 - at)
            assert loader.c.ob_crc32(content, 16) == zlib.crc32(content)
