"""A packed model takes pictures in the layouts that people have them in, and says what does not fit and why."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onebit
from onebit.engine import library
from onebit.errors import OnebitError
from onebit.model import Model
from onebit.packed import file, reference
from onebit.packed.file import Packed
from onebit.packed.program import Program
from support.models import left_or_right


def model(channels: int = 3, height: int = 4, width: int = 6, sharpness: int = 1 << 16) -> Model:
    packed = left_or_right(channels, height, width, {"data": "toy"})
    last = dataclasses.replace(packed.program.logits, sharpness=sharpness)
    return Model(Packed(Program([*packed.program.operations[:-1], last]), packed.classes, packed.about))


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_facts_of_a_model() -> None:
    m = model(sharpness=3 << 15)
    assert m.shape == (3, 4, 6)
    assert m.classes == ("left", "right") and m.about == {"data": "toy"}
    assert m.scale == 2.0**-10
    assert m.temperature == pytest.approx(2 / 3)


def test_load_reads_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "toy.onebit"
    file.save(path, left_or_right(1, 4, 4, {"data": "toy"}))
    x = pictures(5, 4, 4, 1)
    for name in (path, str(path)):
        loaded = onebit.load(name)
        assert (loaded.classes, loaded.about) == (("left", "right"), {"data": "toy"})
        np.testing.assert_array_equal(loaded.integers(x), model(1, 4, 4).integers(x))


def test_logits_are_the_integers_times_their_scale() -> None:
    m, x = model(), pictures(7, 4, 6, 3)
    integers = m.integers(x)
    assert integers.dtype == np.int32 and integers.shape == (7, 2)
    np.testing.assert_array_equal(integers, reference.run(m.program, x))
    logits = m.logits(x)
    assert logits.dtype == np.float64
    np.testing.assert_array_equal(logits, integers / 1024)


def test_both_layouts_are_the_same_pictures() -> None:
    m, x = model(), pictures(5, 4, 6, 3)
    turned = x.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(m.integers(turned, "NCHW"), m.integers(x))
    np.testing.assert_array_equal(m.integers(np.ascontiguousarray(turned), layout="NCHW"), m.integers(x))
    np.testing.assert_array_equal(m.probabilities(turned, "NCHW"), m.probabilities(x))
    assert m.predict(turned, "NCHW") == m.predict(x)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_grey_pictures_may_come_without_channels(layout: Any) -> None:
    m, x = model(1), pictures(5, 4, 6)
    want = m.integers(x[..., None])
    np.testing.assert_array_equal(m.integers(x, layout), want)
    np.testing.assert_array_equal(m.integers(x[..., None] if layout == "NHWC" else x[:, None], layout), want)


def test_pictures_may_be_views_lists_or_none_at_all() -> None:
    m, x = model(1), pictures(6, 4, 6)
    wide = np.repeat(x, 2, 2)[:, :, ::2]
    np.testing.assert_array_equal(m.integers(wide), m.integers(x))
    np.testing.assert_array_equal(m.integers(list(x)), m.integers(x))  # type: ignore[arg-type]
    assert m.logits(x[:0]).shape == m.probabilities(x[:0]).shape == (0, 2) and m.predict(x[:0]) == []


def test_probabilities_use_the_temperature() -> None:
    x = pictures(9, 4, 6, 3)
    for sharpness in (1 << 16, 1 << 14, 12345):
        m = model(sharpness=sharpness)
        probabilities = m.probabilities(x)
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
        powers = np.exp(m.logits(x) * sharpness / 65536)
        np.testing.assert_allclose(probabilities, powers / powers.sum(1, keepdims=True), rtol=1e-9)


def test_predictions_are_names() -> None:
    m = model(1)
    bright_left, bright_right = np.zeros((2, 4, 6), np.uint8)
    bright_left[:, :3] = bright_right[:, 3:] = 255
    assert m.predict(np.stack([bright_right, bright_left, bright_left])) == ["right", "left", "left"]


def test_of_equal_logits_the_first_wins() -> None:
    m = model(1)
    same = np.full((2, 4, 6), 77, np.uint8)
    assert np.ptp(m.integers(same), axis=1).tolist() == [0, 0]
    assert m.predict(same) == ["left", "left"]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.bool_])
def test_only_raw_pixels_are_taken(kind: type) -> None:
    with pytest.raises(
        OnebitError, match=f"^pictures are {np.dtype(kind)}; give raw pixels 0..255 as uint8, without any norm"
    ):
        model(1).logits(pictures(2, 4, 6).astype(kind))


@pytest.mark.parametrize(
    ("shape", "layout", "message"),
    [
        ((2, 3, 4, 6), "NHWC", r"^pictures have shape \(2, 3, 4, 6\), the model takes \[N, 4, 6, 3\] \(NHWC\); say layout='NCHW'$"),
        ((2, 4, 6, 3), "NCHW", r"the model takes \[N, 3, 4, 6\] \(NCHW\); say layout='NHWC'$"),
        ((4, 6, 3), "NHWC", r"^pictures have shape \(4, 6, 3\), .*; a single picture is a stack of one: picture\[None\]$"),
        ((3, 4, 6), "NCHW", r"; a single picture is a stack of one: picture\[None\]$"),
        ((2, 6, 4, 3), "NHWC", r"^pictures have shape \(2, 6, 4, 3\), the model takes \[N, 4, 6, 3\] \(NHWC\)$"),
        ((2, 4, 6), "NHWC", r"^pictures have shape \(2, 4, 6\), the model takes \[N, 4, 6, 3\] \(NHWC\)$"),
        ((2, 4, 6, 1), "NHWC", r"^pictures have shape \(2, 4, 6, 1\), the model"),
        ((), "NHWC", r"^pictures have shape \(\), the model"),
    ],
)  # fmt: skip
def test_a_wrong_shape_is_refused_with_the_remedy(shape: tuple[int, ...], layout: Any, message: str) -> None:
    for call in (model().integers, model().logits, model().probabilities, model().predict):
        with pytest.raises(OnebitError, match=message):
            call(np.zeros(shape, np.uint8), layout)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1)])
def test_a_single_grey_picture_is_refused_with_the_remedy(shape: tuple[int, ...]) -> None:
    with pytest.raises(OnebitError, match=r"a single picture is a stack of one: picture\[None\]$"):
        model(1).logits(np.zeros(shape, np.uint8))


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(OnebitError, match=r"^layout 'HWCN' is unknown: NHWC or NCHW$"):
        model().logits(pictures(2, 4, 6, 3), "HWCN")  # type: ignore[arg-type]


def test_the_reference_may_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "toy.onebit"
    file.save(path, left_or_right(1, 4, 6))
    x = pictures(5, 4, 6)
    slow = onebit.load(path, isa="reference")
    assert slow.engine is None
    np.testing.assert_array_equal(onebit.load(path).integers(x), slow.integers(x))
    monkeypatch.setenv("ONEBIT_ISA", "reference")
    assert onebit.load(path).engine is None and model().engine is None


def test_loading_and_running_imports_little(tmp_path: Path) -> None:
    """What takes longer to import than a model takes to load is left until it is asked for."""
    if not library.available():
        pytest.skip(library.missing())
    path = tmp_path / "toy.onebit"
    file.save(path, left_or_right(1, 4, 6))
    code = f"""
import sys
import numpy as np
before = set(sys.modules)
import onebit
model = onebit.load({str(path)!r})
model.logits(np.zeros((1, 4, 6), np.uint8))
new = set(sys.modules) - before
assert not [m for m in new if m.split(".")[0] in ("rich", "click", "PIL", "json", "pathlib", "dataclasses", "difflib")], new
assert not {{m for m in new if m.startswith("onebit.packed.")}} - {{"onebit.packed.calibration"}}, new
assert model.classes == ("left", "right")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_file_that_changed_after_it_was_loaded_is_not_mixed_with_it(tmp_path: Path) -> None:
    path = tmp_path / "toy.onebit"
    first, second = left_or_right(1, 4, 6, {"data": "one"}), left_or_right(1, 4, 6, {"data": "two"})
    for change in (lambda: file.save(path, second), path.unlink):
        file.save(path, first)
        loaded, kept = onebit.load(path), onebit.load(path)
        assert len(kept.program.operations) == 2
        change()
        assert loaded.about == kept.about == {"data": "one"}
        assert len(kept.program.operations) == 2
        if loaded.engine:
            with pytest.raises(OnebitError, match=r"toy\.onebit: (has changed since it was loaded|cannot be read)"):
                _ = loaded.program


def test_a_relative_path_stays_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.save(tmp_path / "toy.onebit", left_or_right(1, 4, 6))
    monkeypatch.chdir(tmp_path)
    loaded = onebit.load("toy.onebit")
    monkeypatch.chdir("/")
    assert loaded.program.classes == 2


def test_bad_files_are_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "bad.onebit"
    path.write_bytes(b"no model, but long enough")
    for isa in (None, "reference"):
        with pytest.raises(OnebitError, match=r"bad\.onebit: not a valid packed model: its header would have"):
            onebit.load(path, isa=isa)
    path.write_bytes(file.encode(*left_or_right())[:-1])
    with pytest.raises(OnebitError, match=r"bad\.onebit: not a valid packed model: its checksum does not fit"):
        onebit.load(path)
    with open(path, "wb") as sparse:
        sparse.truncate(1 << 31)
    with pytest.raises(OnebitError, match=r"bad\.onebit: not a valid packed model: it has 2147483648 bytes"):
        onebit.load(path)
