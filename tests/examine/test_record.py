"""The files of a trace, read as a test bench would read them, against the reference; what may be overwritten."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onebit.errors import OnebitError
from onebit.examine.record import record
from onebit.model import Model
from onebit.packed import reference
from onebit.packed.file import Packed
from onebit.packed.program import Conv, Logits, Program, sources
from support.models import left_or_right, wide
from support.programs import pictures, programs

BITS = {"u8": 8, "i16": 16, "i32": 32}


def memory(path: Path) -> list[int]:
    """What $readmemh makes of a file: hexadecimal words apart by blanks, // to the end of the line left out."""
    words = [word for line in path.read_text().splitlines() for word in line.partition("//")[0].split()]
    return [int(word, 16) for word in words]


def signed(words: list[int], bits: int) -> np.ndarray:
    return np.array([w - (1 << bits) if w >> (bits - 1) else w for w in words], np.int64)


def numbers(path: Path, kind: str) -> np.ndarray:
    return np.array(memory(path), np.int64) if kind == "u8" else signed(memory(path), BITS[kind])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(programs(), st.data())
def test_files_hold_what_the_reference_computes(tmp_path: Path, program: Program, data: st.DataObject) -> None:
    model = Model(Packed(program, tuple(map(str, range(program.classes))), {}))
    picture = data.draw(pictures(program, most=1))
    folder = tmp_path / "trace"
    index = record(model, picture[0], folder)
    maps: dict[int, Any] = {}
    logits = reference.run(program, picture, watch=lambda i, x: maps.update({i: x[0]}))
    assert {path.name for path in folder.iterdir()} == set(index["files"])
    assert json.loads((folder / "trace.json").read_text()) == json.loads(json.dumps(index))
    assert np.array_equal(np.load(folder / "input.npy"), picture[0])
    assert memory(folder / "input.hex") == picture.ravel().tolist()
    assert index["logits"] == logits[0].tolist() and index["class"] == str(logits[0].argmax())
    assert np.allclose(index["probabilities"], model.probabilities(picture)[0])
    for i, (entry, op, value) in enumerate(zip(index["operations"], program.operations, program.values, strict=True)):
        stored = np.load(folder / entry["npy"])
        assert entry["number"] == i and entry["sources"] == list(sources(op))
        assert stored.dtype.itemsize * 8 == BITS[value.kind] and np.array_equal(stored, maps[i])
        assert np.array_equal(numbers(folder / entry["hex"], value.kind), maps[i].ravel())
        assert entry["shape"] == list(maps[i].shape) and entry["numbers"] == value.kind
        if isinstance(op, Conv | Logits):
            words, fan_in = memory(folder / entry["weights"]), program.fan_in(op)
            bits = np.array([[w >> k & 1 for k in range(fan_in)] for w in words])
            assert np.array_equal(bits, np.unpackbits(op.bits, axis=1, count=fan_in, bitorder="little"))
            assert entry["shift"] == op.shift and entry["kernel"] == list(op.kernel)
        for name in ("values", "mean", "multiplier", "offset", "gain"):
            if name in entry:
                kind = "i32" if isinstance(op, Logits) else "i16"
                assert np.array_equal(numbers(folder / entry[name], kind), getattr(op, name).ravel())


def test_equations_say_what_operations_do(tmp_path: Path) -> None:
    """Every equation of a residual network, evaluated by a machine that knows only what README.txt defines."""
    packed = wide(1, Fraction(1, 4), size=8)
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    folder = tmp_path / "t"
    index = record(Model(packed), pixels, folder)
    readme = (folder / "README.txt").read_text()
    env: dict[str, Any] = {
        "sat16": lambda x: np.clip(x, -32768, 32767), "rsh": lambda x, k: (x + ((1 << k) >> 1)) >> k,
        "q15mulr": lambda x, m: (x * m + 0x4000) >> 15, "min": np.minimum, "max": np.maximum,
    }  # fmt: skip
    x = {e["number"]: np.load(folder / e["npy"]).astype(np.int64) for e in index["operations"]}
    for e in index["operations"]:
        text, number = e["equation"], e["number"]
        assert f"x{number} = {text}\n" in readme
        values = {name: numbers(folder / e[name], "i16") for name in ("mean", "multiplier") if name in e}
        if e["kind"] == "norm":
            found = eval(text.replace("[c]", ""), {**env, **values, **{f"x{n}": v for n, v in x.items()}})
            assert np.array_equal(found, x[number])
        if e["kind"] == "conv":
            (top, left), (k, _) = (e["padding"]["top"], e["padding"]["left"]), e["kernel"]
            source, out = x[e["sources"][0]], np.zeros(x[number].shape, np.int64)
            padded = np.pad(source, ((top, top), (left, left), (0, 0)))
            words = memory(folder / e["weights"])
            fan_in = k * k * source.shape[2]
            w = np.array([[2 * (word >> b & 1) - 1 for b in range(fan_in)] for word in words])
            for row, column in np.ndindex(out.shape[:2]):
                at = padded[row * e["stride"] :, column * e["stride"] :][:k, :k]
                out[row, column] = w @ at.ravel()
            text = text.replace(f"sum of w * x{e['sources'][0]}", "total")
            assert np.array_equal(eval(text, {**env, "total": out, **{f"x{n}": v for n, v in x.items()}}), x[number])


def test_one_operation_comes_with_what_it_reads(tmp_path: Path) -> None:
    model = Model(wide(1, Fraction(1, 4), size=8))
    every = record(model, np.zeros((8, 8, 3), np.uint8), tmp_path / "every")
    one = record(model, np.zeros((8, 8, 3), np.uint8), tmp_path / "one", only=5)
    assert [e["number"] for e in one["operations"]] == [1, 4, 5] and one["operations"][2]["sources"] == [4, 1]
    assert one["operations"] == [e for e in every["operations"] if e["number"] in (1, 4, 5)]
    for e in one["operations"]:
        assert (tmp_path / "one" / e["hex"]).read_bytes() == (tmp_path / "every" / e["hex"]).read_bytes()
    for wrong in (-1, len(model.program.operations)):
        with pytest.raises(OnebitError, match=f"operation {wrong}: the model has 0 to"):
            record(model, np.zeros((8, 8, 3), np.uint8), tmp_path / "none", only=wrong)
    assert not (tmp_path / "none").exists()


def test_only_a_trace_or_an_empty_folder_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, pixels = Model(left_or_right()), np.zeros((8, 8, 1), np.uint8)
    folder = tmp_path / "deep" / "t"
    record(model, pixels, folder)
    record(model, pixels + 9, folder, only=0)  # an earlier trace
    assert np.load(folder / "input.npy").max() == 9 and not (folder / "1-logits.npy").exists()
    (folder / "mine.txt").write_text("x")
    with pytest.raises(OnebitError, match=r"holds mine\.txt, which is of no trace"):
        record(model, pixels, folder)
    assert (folder / "mine.txt").read_text() == "x" and np.load(folder / "input.npy").max() == 9
    (tmp_path / "other").mkdir()
    record(model, pixels, tmp_path / "other")  # empty
    for content in ("x", '{"format": "onebit trace 1"}', '{"format": "other", "files": ["trace.json"]}', "[]"):
        (tmp_path / "foreign").mkdir(exist_ok=True)
        (tmp_path / "foreign" / "trace.json").write_text(content)
        with pytest.raises(OnebitError, match="holds no trace"):
            record(model, pixels, tmp_path / "foreign")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OnebitError, match="is a file"):
        record(model, pixels, tmp_path / "file")
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(OnebitError, match="the folder you are in"):
        record(model, pixels, Path("."))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "file", "foreign", "other"]


def test_a_failure_leaves_the_earlier_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, pixels = Model(left_or_right()), np.zeros((8, 8, 1), np.uint8)
    record(model, pixels, tmp_path / "t")
    before = {p.name: p.read_bytes() for p in (tmp_path / "t").iterdir()}

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OnebitError, match=r"t: cannot be written \(No space left"):
            record(model, pixels, tmp_path / "t")
    with pytest.raises(OnebitError, match="pictures of"):
        record(model, np.zeros((9, 8, 1), np.uint8), tmp_path / "t")
    assert {p.name: p.read_bytes() for p in (tmp_path / "t").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["t"]
