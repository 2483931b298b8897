"""The container: what `decode` refuses, one attack a rule; round trips; random damage; what other readers see."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import numpy as tensors_of
from safetensors import safe_open

from onebit.errors import OnebitError
from onebit.packed import file
from onebit.packed.file import Packed
from support.packed_files import Opened, example, sealed
from support.programs import programs

GOOD = file.encode(*example())
LENGTH = 8 + struct.unpack_from("<Q", GOOD)[0]  # of the header with its own length
TESTS = Path(__file__).resolve().parents[1]


def refused(content: bytes, words: str) -> None:
    with pytest.raises(OnebitError) as caught:
        file.decode(content)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300 and str(caught.value).isprintable()


# -- attacks on bytes ----------------------------------------------------------------------------

BYTES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "it is too short"),
    "15 bytes": (GOOD[:15], "it is too short"),
    "header length 2^64 - 1": (sealed(b"\xff" * 8 + GOOD[8:]), "its header would have 18446744073709551615 bytes"),
    "header into the CRC": (sealed(struct.pack("<Q", len(GOOD) - 11) + GOOD[8:]), "the file is cut short"),
    "header beyond 1 MiB": (
        sealed(struct.pack("<Q", (1 << 20) + 8) + GOOD[8:LENGTH] + b" " * (1 << 20) + GOOD[LENGTH:]),
        "its header would have 1048584 bytes",
    ),
    "a checkpoint (zip)": (b"PK\x03\x04" + bytes(200), "the file is cut short, or no packed model"),
    "a bit of the data": (GOOD[:-9] + bytes([GOOD[-9] ^ 4]) + GOOD[-8:], "its checksum does not fit: it is damaged"),
    "a bit of the CRC": (GOOD[:-1] + bytes([GOOD[-1] ^ 128]), "its checksum does not fit"),
    "an end that is missing": (GOOD[:-1], "its checksum does not fit"),
    "more behind the end": (GOOD + b"\n", "its checksum does not fit"),
    "more bytes, sealed": (sealed(GOOD + bytes(8)), "bytes follow the last tensor"),
    "fewer bytes, sealed": (sealed(GOOD[:-1]), "tensor 'crc': it ends behind the file"),
    "safetensors, no metadata": (tensors_of.save({"a": np.zeros(9, np.float32)}), "it is no packed model of onebit"),
    "safetensors of torch": (
        tensors_of.save({"a": np.zeros(9, np.float32)}, {"format": "pt"}),
        "it is no packed model of onebit",
    ),
    "header does not begin with {": (sealed(GOOD[:8] + b" " + GOOD[8 : LENGTH - 1] + GOOD[LENGTH:]), "begin with {"),
    "header of odd length": (
        sealed(struct.pack("<Q", LENGTH - 7) + GOOD[8:LENGTH] + b" " + GOOD[LENGTH:]),
        "end at a multiple of 8",
    ),
    "not UTF-8": (sealed(GOOD.replace(b"example", b"ex\xffmple")), "header: not valid JSON ('utf-8' codec"),
}


@pytest.mark.parametrize("name", BYTES)
def test_attack_on_bytes(name: str) -> None:
    refused(*BYTES[name])


# -- attacks on the header -----------------------------------------------------------------------

Edit = Callable[[str], str]


def text(old: str, new: str) -> Edit:
    def edit(header: str) -> str:
        assert header.count(old) == 1, header
        return header.replace(old, new)

    return edit


NESTED = "[" * 100_000
TEXTS: dict[str, tuple[Edit, str]] = {
    "cut JSON": (lambda header: header[:-1], "header: not valid JSON"),
    "text behind JSON": (lambda header: header + "x", "header: not valid JSON (Extra data"),
    "a control character": (text("example", "exa\x01mple"), "header: not valid JSON (Invalid control character"),
    "nested without end": (text('"data":"example"', f'"data":{NESTED}'), "header: not valid JSON"),
    "a key twice": (text('"bits":', '"bits":{},"bits":'), "header: a key occurs twice"),
    "a metadata key twice": (text('"data":', '"data":"x","data":'), "header: a key occurs twice"),
    "a shape twice": (text('"shape":[4]', '"shape":[4],"shape":[4]'), "header: a key occurs twice"),
    "a minus": (text('"shape":[4]', '"shape":[-4]'), "header: a number is not whole"),
    "minus zero": (text('"data_offsets":[0,384]', '"data_offsets":[-0,384]'), "header: a number is not whole"),
    "a point": (text('"shape":[4]', '"shape":[4.0]'), "header: a number is not whole"),
    "an exponent": (text('"shape":[4]', '"shape":[4e0]'), "header: a number is not whole"),
    "NaN": (text('"shape":[4]', '"shape":[NaN]'), "header: a number is not whole"),
    "Infinity": (text('"shape":[4]', '"shape":[-Infinity]'), "header: a number is not whole"),
    "31 bits": (text('"shape":[4]', '"shape":[2147483648]'), "header: a number is not whole"),
    "five thousand digits": (text('"shape":[4]', f'"shape":[{"9" * 5000}]'), "header: a number is not whole"),
    "metadata of numbers": (text('"data":"example"', '"data":1'), "its metadata are not texts"),
    "metadata of a list": (text('"data":"example"', '"data":["example"]'), "its metadata are not texts"),
    "metadata null": (text('"__metadata__":{', '"__metadata__":null,"bits ":{'), "its metadata are not texts"),
    "no metadata": (text('"__metadata__"', '"metadata"'), "its metadata are not texts"),
    "no format": (text('"format"', '"form"'), "it is a safetensors file, but no packed model"),
    "another format": (text('"format":"onebit 1"', '"format":"pt","by":"onebit 1"'), "it is a safetensors file, but"),
    "a newer format": (text("onebit 1", "onebit 2"), "its format is 'onebit 2', this version reads 'onebit 1'; update"),
    "a format of a megabyte": (text("onebit 1", "onebit 1" + "\\n" * 99_000), "this version reads 'onebit 1'"),
    "an unknown tensor": (text('"crc":', '"more":{},"crc":'), "tensor 'more' is unknown"),
    "an unknown tensor's name": (text('"crc":', '"\\u001b[2J":{},"crc":'), "tensor '\\x1b[2J' is unknown"),
    "no tensor": (text('"bits":', '"__metadata_":'), "tensor 'bits' is missing"),
    "an entry of text": (text('{"data_offsets":[970,974],"dtype":"U8","shape":[4]}', '"crc"'), "'crc': its entry is not a tensor's"),
    "an entry without a type": (text('"dtype":"U8","shape":[4]', '"shape":[4]'), "its entry is not a tensor's"),
    "an entry with more": (text('"shape":[4]', '"shape":[4],"strides":[1]'), "its entry is not a tensor's"),
    "another type": (text('"dtype":"U8","shape":[4]', '"dtype":"I8","shape":[4]'), "tensor 'crc': its type is not U8"),
    "a type of a list": (text('"dtype":"U8","shape":[4]', '"dtype":[[]],"shape":[4]'), "its type is not U8"),
    "a shape of text": (text('"shape":[4]', '"shape":"4"'), "its shape or place is not one or two whole numbers"),
    "a shape of a number": (text('"shape":[4]', '"shape":4'), "its shape or place is not one or two whole numbers"),
    "a shape of truth": (text('"shape":[4]', '"shape":[true]'), "its shape or place is not one or two whole numbers"),
    "a shape of lists": (text('"shape":[4]', '"shape":[[4]]'), "its shape or place is not one or two whole numbers"),
    "a shape of three": (text('"shape":[2,2]', '"shape":[2,2,1]'), "its shape or place is not one or two"),
    "a place of text": (text('"data_offsets":[0,384]', '"data_offsets":"0"'), "its shape or place is not one or two"),
    "a shape of none": (text('"shape":[4]', '"shape":[]'), "tensor 'crc': its shape is []"),
    "an axis more": (text('"shape":[12]', '"shape":[12,1]'), "tensor 'bits': its shape is [12, 1]"),
    "an axis less": (text('"shape":[2,2]', '"shape":[4]'), "tensor 'logits': its shape is [4]"),
    "other columns": (text('"shape":[2,2]', '"shape":[1,4]'), "tensor 'logits': its shape is [1, 4]"),
    "no rows": (text('"shape":[12]', '"shape":[0]'), "tensor 'bits': its shape is [0]"),
    "a long CRC": (text('"shape":[4]', '"shape":[5]'), "tensor 'crc': its shape is [5]"),
    "a place with one end": (text('"data_offsets":[0,384]', '"data_offsets":[0]'), "its place is [0], not [0, 384]"),
    "overlapping tensors": (
        text('"data_offsets":[384,400]', '"data_offsets":[368,384]'),
        "tensor 'logits': its place is [368, 384], not [384, 400]",
    ),
    "a place larger than its shape": (
        text('"data_offsets":[970,974]', '"data_offsets":[970,975]'),
        "tensor 'crc': its place is [970, 975], not [970, 974]",
    ),
    "a shape of gigabytes": (
        text('[958,970],"dtype":"U8","shape":[12]', '[958,2147000958],"dtype":"U8","shape":[2147000000]'),
        "tensor 'bits': it ends behind the file",
    ),
    "no classes": (text('"classes"', '"class"'), "class names: not valid JSON"),
    "classes of an object": (text(r'"[\"ant\", \"Käfer\"]"', '"{}"'), "class names are not a list"),
    "classes with a key twice": (text(r'"[\"ant\"', r'"[{\"a\":1,\"a\":2}'), "class names: a key occurs twice"),
    "classes of NaN": (text(r'"[\"ant\"', '"[NaN'), "class names: a number is not whole"),
    "classes without end": (text(r'"[\"ant\"', f'"{NESTED}'), "class names: not valid JSON"),
    "a class less": (text(r'"[\"ant\", ', '"['), "1 class names for 2 logits"),
    "a class more": (text(r'"[\"ant\", ', r'"[\"a\",\"b\",'), "3 class names for 2 logits"),
    "a class of a number": (text(r"[\"ant\"", "[1"), "a class name is not text, or empty"),
    "a class of nothing": (text(r"[\"ant\"", r"[\"\""), "a class name is not text, or empty"),
    "a class twice": (text(r"\"ant\"", r"\"Käfer\""), "two classes have one name"),
    "a key of nothing": (text('"data":', '"":'), "metadata '': its name is empty"),
}  # fmt: skip


def as_json(edit: Edit) -> bytes:
    opened = Opened(GOOD)

    def edited(header: str) -> str:
        return edit(json.dumps(json.loads(header), separators=(",", ":"), ensure_ascii=False))

    return opened.close(edited)


@pytest.mark.parametrize("name", TEXTS)
def test_attack_on_the_header(name: str) -> None:
    edit, words = TEXTS[name]
    refused(as_json(edit), words)


UNSEEN = ["\0", "\x1b[2J", "\x7f", "\x85", "\x9b", "\u2028", "\u202e", "\u2066", "\u2069", "\ud83d", "\udfff"]


@pytest.mark.parametrize("character", UNSEEN, ids=[f"{ord(c[0]):04x}" for c in UNSEEN])
def test_attack_by_characters_that_cannot_be_seen(character: str) -> None:
    for place in ("class", "key", "text"):
        opened = Opened(GOOD)
        if place == "class":
            opened.metadata["classes"] = json.dumps(["a", f"b{character}"])
        else:
            opened.metadata.update({f"b{character}": "a"} if place == "key" else {"a": f"b{character}"})
        refused(opened.close(), "holds characters that cannot be seen")


def test_lines_and_columns_are_for_notes_only() -> None:
    program, classes, _ = example()
    about = {"recipe": "a\n\tb"}
    assert file.decode(file.encode(program, classes, about)).about == about
    for wrong in (Packed(program, ("a\n", "b"), {}), Packed(program, classes, {"a\tb": ""})):
        with pytest.raises(OnebitError, match="characters that cannot be seen"):
            file.encode(*wrong)
    seen = ("👩‍🔬 naïve", "می‌خواهم")  # joiners are part of writing
    assert file.decode(file.encode(program, seen)).classes == seen


def test_the_header_may_be_written_otherwise() -> None:
    opened = Opened(GOOD)
    opened.header = dict(reversed(opened.header.items()))
    other = opened.close(lambda header: json.dumps(json.loads(header), indent=1) + "\n")
    assert other != GOOD
    assert file.encode(*file.decode(other)) == GOOD
    escaped = Opened(GOOD).close(lambda header: header.replace("onebit 1", r"\u006fnebit 1"))
    assert file.encode(*file.decode(escaped)) == GOOD


@pytest.mark.parametrize("name", file.TENSORS)
def test_attack_by_leaving_a_tensor_out(name: str) -> None:
    opened = Opened(GOOD)
    del opened.header[name], opened.tensors[name]
    opened.lay_out()
    words = {"norms": "its part of 'norms' ends", "averages": "its part of 'averages' ends"}
    refused(opened.close(), words.get(name, f"tensor '{name}' is missing"))


# -- what encode refuses -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "about", "words"),
    [
        (["a"], {}, "1 class names for 2 logits"),
        (["a", 2], {}, "a class name is not text"),
        (["a", ""], {}, "a class name is not text, or empty"),
        (["a", "a"], {}, "two classes have one name"),
        (["a", "b"], {"format": "x"}, "metadata 'format': its name is empty or reserved"),
        (["a", "b"], {"classes": "x"}, "metadata 'classes': its name is empty or reserved"),
        (["a", "b"], {"": "x"}, "metadata '': its name is empty"),
        (["a", "b"], {"error": 1.5}, "metadata 'error': its name is empty or reserved, or it is not text"),
        (["a", "b"], {3: "x"}, "metadata '3': its name"),
        (["a", "b" * (1 << 20)], {}, "class names and notes take"),
    ],
)
def test_what_is_not_written(classes: Any, about: Any, words: str) -> None:
    with pytest.raises(OnebitError) as caught:
        file.encode(example().program, classes, about)
    assert words in str(caught.value)


def test_a_file_has_at_most_2_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "MAX_FILE", len(GOOD))
    assert file.decode(file.encode(*example())) is not None
    monkeypatch.setattr(file, "MAX_FILE", len(GOOD) - 1)
    refused(GOOD, f"it has {len(GOOD)} bytes, a packed file has at most {len(GOOD) - 1}")
    with pytest.raises(OnebitError, match="a packed file has at most"):
        file.encode(*example())


# -- round trips ---------------------------------------------------------------------------------


@settings(max_examples=60)
@given(programs(operations=6), st.randoms(use_true_random=False))
def test_any_program_comes_back_from_its_bytes(program: file.Program, random: Any) -> None:
    classes = [f"class {k}" for k in range(program.classes)]
    notes = {"data": "ä", "b": '"\\', "a": ""}
    written = file.encode(program, classes, notes)
    shuffled = dict(random.sample(list(notes.items()), len(notes)))
    assert file.encode(program, classes, shuffled) == written
    packed = file.decode(written)
    assert (packed.classes, packed.about) == (tuple(classes), notes)
    assert file.encode(*packed) == written
    for one, other in zip(program.operations, packed.program.operations, strict=True):
        assert type(one) is type(other)
        for name, number in vars(one).items():
            found = vars(other)[name]
            if isinstance(number, np.ndarray):
                assert found.dtype == number.dtype and np.array_equal(found, number), name
            else:
                assert found == number, name
    assert packed.program.values == program.values


def test_no_time_no_place_no_chance_in_the_bytes(tmp_path: Path) -> None:
    code = f"""import sys; sys.path.insert(0, {str(TESTS)!r})
import hashlib; from onebit.packed import file; from support.packed_files import example
print(hashlib.sha256(file.encode(*example())).hexdigest())"""
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": f"UTC-{seed}", "HOSTNAME": seed, "USER": seed}
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == hashlib.sha256(GOOD).hexdigest(), done.stderr


def test_the_safetensors_library_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(GOOD)
    with safe_open(path, "numpy") as opened:
        assert opened.metadata() == Opened(GOOD).metadata
        assert set(opened.keys()) == set(file.TENSORS)
        for name, array in Opened(GOOD).tensors.items():
            found = opened.get_tensor(name)
            assert found.dtype == array.dtype and np.array_equal(found, array), name


# -- files ---------------------------------------------------------------------------------------


def test_save_then_load(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model.onebit"
    assert file.save(path, example()) == len(GOOD) == path.stat().st_size
    assert path.read_bytes() == GOOD
    assert file.encode(*file.load(path)) == GOOD
    assert file.is_packed(path) and not file.is_packed(tmp_path / "none") and not file.is_packed(tmp_path)
    path.write_bytes(b"PK\x03\x04" + bytes(200))
    assert not file.is_packed(path)


def test_save_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onebit"
    path.write_bytes(b"older")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OnebitError, match=r"model\.onebit: cannot be written \(No space left on device\)"):
        file.save(path, example())
    assert path.read_bytes() == b"older" and [p.name for p in tmp_path.iterdir()] == ["model.onebit"]


def test_load_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onebit"
    with pytest.raises(OnebitError, match=r"model\.onebit: cannot be read \(No such file"):
        file.load(path)
    with pytest.raises(OnebitError, match=r"cannot be read \(Is a directory\)"):
        file.load(tmp_path)
    path.write_bytes(GOOD[:-1])
    with pytest.raises(OnebitError, match=r"model\.onebit: not a valid packed model: its checksum"):
        file.load(path)
    with open(path, "wb") as sparse:
        sparse.truncate(1 << 31)
    with pytest.raises(OnebitError, match=r"model\.onebit: not a valid packed model: it has 2147483648 bytes"):
        file.load(path)
