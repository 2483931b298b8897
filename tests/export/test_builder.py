"""What the ONNX exporters share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebit.errors import OnebitError
from onebit.export import builder, qonnx
from onebit.export import onnx as exporter
from support.models import left_or_right


@given(
    slopes=st.lists(st.floats(-30, 30), min_size=1, max_size=3),
    start=st.floats(-500, 500),
    cut=st.sampled_from([None, 0, -64]),
)
def test_rounded_lines_are_found_and_float32_gives_each_entry(
    slopes: list[float], start: float, cut: int | None
) -> None:
    pixels = np.arange(256)
    line = np.round(np.array(slopes)[:, None] * pixels + start)
    table = (line if cut is None else np.maximum(line, cut)).astype(np.int16)
    found = builder.pixel_line(table)
    if found is None:  # an entry so near a half that no line is safe: rare, then it is looked up
        gaps = np.abs(np.array(slopes)[:, None] * pixels + start)
        assert np.abs(gaps % 1 - 0.5).min() < 0.02
        return
    slope, offset, low = found
    assert slope.dtype == offset.dtype == np.float32
    made = slope[:, None] * pixels.astype(np.float32) + offset[:, None]
    assert np.array_equal(np.round(made if low is None else np.maximum(made, np.float32(low))), table)


@given(st.integers(0, 2**32 - 1))
def test_other_tables_are_no_line(seed: int) -> None:
    assert builder.pixel_line(np.random.default_rng(seed).integers(-100, 100, (2, 256)).astype(np.int16)) is None
    bent = np.abs(np.arange(-128, 128))[None].astype(np.int16)
    assert builder.pixel_line(bent) is None


def test_exports_say_what_they_are(tmp_path: Path) -> None:
    model = left_or_right(3, 4, 8, {"data": "made", "source": "ä"})
    exporter.export(model, tmp_path / "a.onnx", int8=True)
    qonnx.export(model, tmp_path / "b.onnx")
    for name, kind in (("a.onnx", "onnx"), ("b.onnx", "qonnx")):
        assert builder.describe(tmp_path / name) == (kind, (3, 4, 8), ("left", "right"), model.about)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"text")
    graph = onnx.helper.make_graph([], "g", [], [])
    onnx.save(onnx.helper.make_model(graph, producer_name="pytorch"), tmp_path / "b.onnx")
    for name, words in (("a.onnx", "cannot be read"), ("b.onnx", "'pytorch'"), ("c.onnx", "cannot be read")):
        with pytest.raises(OnebitError, match=f"{name}.*{words}"):
            builder.describe(tmp_path / name)


def test_a_file_beyond_what_protobuf_can_hold_is_refused(tmp_path: Path) -> None:
    class Large:
        def ByteSize(self) -> int:
            return 2**31

    with pytest.raises(OnebitError, match="at most 2147483647 bytes, this one would have 2147483648"):
        builder.save(Large(), tmp_path / "a.onnx")
