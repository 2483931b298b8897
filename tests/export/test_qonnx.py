"""QONNX files beside the NumPy reference: the same integers. Executed by onnx alone; tests/targets has the qonnx package."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.export import qonnx as exporter
from onebit.packed import file, reference
from onebit.packed.program import Conv, Logits, Norm, Program, Table
from packed.test_golden import GOLDEN, NAMES, pictures
from support import programs
from support.forms import FORMS, Form, layered
from support.models import left_or_right
from support.onnx_graphs import POOLS, attribute, execute_qonnx, packed, pooled


def check(program: Program, images: NDArray[np.uint8], folder: Path) -> None:
    """The integers of the reference, but for the gain and offset of a class, which a float32 constant rounds."""
    path = folder / "model.onnx"
    exporter.export(packed(program), path)
    want = reference.run(program, images).astype(np.float64)
    scale, offset = 2.0**-program.logits.fraction, np.abs(program.logits.offset.astype(np.float64))
    got = execute_qonnx(path, images)
    assert got.shape == want.shape
    assert (np.abs(got - want * scale) <= 2.0**-23 * scale * (np.abs(want) + 2 * offset)).all()


@settings(max_examples=60)
@given(data=st.data())
def test_any_program_gives_the_integers_of_the_reference(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program = data.draw(programs.programs())
    check(program, data.draw(programs.pictures(program)), tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("form", [f for f in FORMS if f.channels < 33 and max(f.side) < 30], ids=str)
def test_networks_of_every_form(form: Form, tmp_path: Path) -> None:
    _, content, images, _ = layered(form)
    check(file.decode(content).program, images[:1], tmp_path)


@pytest.mark.parametrize("zero", [-1, 0, 60])
@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("kind", ["average", "max"])
def test_pools_of_every_kind(kind: str, pool: Any, zero: int, tmp_path: Path) -> None:
    program = pooled(kind, *pool, zero)
    check(program, np.random.default_rng(1).integers(0, 256, (3, 7, 9, 5), np.uint8), tmp_path)


def test_a_trained_network_gives_the_recorded_logits(tmp_path: Path) -> None:
    model = file.load(GOLDEN / "digits.onebit")
    exporter.export(model, tmp_path / "a.onnx")
    got = execute_qonnx(tmp_path / "a.onnx", pictures("digits")[355:370])  # real ones and made ones
    want = np.load(GOLDEN / "digits-logits.npy")[355:370] * 2.0**-model.program.logits.fraction
    assert np.abs(got - want).max() <= 1e-6 * np.abs(want).max()


def saturating(multiplier: int) -> Program:
    """Sums of 40,000 and more in a batch-norm of this multiplier: beyond 16 bits, whether that shows or not."""
    table = np.where(np.arange(256) < 128, -8000, 8000).astype(np.int16)[None]
    one = np.array([[255, 1]], np.uint8)  # nine weights of +1
    zeros = np.zeros(1, np.int16)
    return Program([
        Table(3, 3, table),
        Conv(0, one, (3, 3), 0),
        Norm(1, zeros, np.array([multiplier], np.int16), zeros, limit=255),
        Logits(2, one[:, :1] & 1, (1, 1), 0, np.array([1], np.int32), np.array([0], np.int32), 0),
    ])  # fmt: skip


@pytest.mark.parametrize(("multiplier", "needed"), [(300, False), (200, True)])
def test_saturation_at_16_bits_is_written_where_it_can_show(multiplier: int, needed: bool, tmp_path: Path) -> None:
    """32767 * 300 / 2^15 is above the limit of 255, so that no more saturation is needed; 200 leaves it below."""
    program = saturating(multiplier)
    check(program, np.array([200, 10], np.uint8)[:, None, None, None].repeat(3, 1).repeat(3, 2), tmp_path)
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    assert sum(n.op_type == "Quant" for n in nodes) == 2 + 2 * needed  # pixels, activation


def test_a_sum_saturates_as_the_stream_does(tmp_path: Path) -> None:
    """Twice what 16 bits hold, in a batch-norm whose mean lets that show."""
    table, conv, norm, logits = saturating(200).operations
    assert isinstance(conv, Conv) and isinstance(norm, Norm) and isinstance(logits, Logits)
    wide = replace(conv, padding=(1, 1, 1, 1))  # 9 positions
    norm = replace(norm, source=2, mean=np.array([20_000], np.int16))
    program = Program([table, wide, replace(wide, base=1), norm, replace(logits, source=3)])
    check(program, np.array([200, 10, 130], np.uint8)[:, None, None, None].repeat(3, 1).repeat(3, 2), tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_quantisers_say_what_tools_ask(name: str, tmp_path: Path) -> None:
    """Weights of one bit and scale 1, activations of 8, windows with all attributes."""
    program = file.load(GOLDEN / f"{name}.onebit").program
    exporter.export(packed(program), tmp_path / "a.onnx")
    graph = onnx.load(tmp_path / "a.onnx").graph
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in graph.initializer}
    weights = [n for n in graph.node if n.op_type == "BipolarQuant"]
    assert all(constants[n.input[1]] == 1 and set(np.unique(constants[n.input[0]])) == {-1, 1} for n in weights)
    assert sum(constants[n.input[0]].size for n in weights) == sum(
        program.weights(op) for _, op in program.convolutions()
    )
    convolutions = [n for n in graph.node if n.op_type == "Conv"]
    assert len(convolutions) == 19 and len(weights) == 20  # the classifier is a MatMul
    for node in convolutions:
        names = {a.name for a in node.attribute}
        assert names == {"kernel_shape", "strides", "dilations", "group", "pads"} and attribute(node, "group") == 1
    quants = [n for n in graph.node if n.op_type == "Quant"]
    activations = [n for n in quants if not attribute(n, "signed") and constants[n.input[3]] == 8]
    assert len(activations) == 19 + 1  # and the pixels
    assert {attribute(n, "rounding_mode") for n in activations} == {b"FLOOR"}
    assert {n.domain for n in [*weights, *quants]} == {"qonnx.custom_op.general"}


def test_activations_of_4_bits_are_quantisers_of_4_bits(tmp_path: Path) -> None:
    program = file.decode(layered(Form(limit=15)).content).program
    exporter.export(packed(program), tmp_path / "a.onnx")
    graph = onnx.load(tmp_path / "a.onnx").graph
    bits = [onnx.numpy_helper.to_array(c) for c in graph.initializer if c.name.startswith("bits")]
    assert 4 in bits and not any(n.op_type == "Min" for n in graph.node)


def test_names_and_texts_are_in_the_metadata(tmp_path: Path) -> None:
    model = left_or_right(about={"data": "made", "error": "0.00"})
    exporter.export(model, tmp_path / "a.onnx")
    kept = {entry.key: entry.value for entry in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert json.loads(kept.pop("classes")) == ["left", "right"] and kept == model.about


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter.export(left_or_right(), tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "qonnx.core.onnx_exec", None)
    with pytest.raises(OnebitError, match=r"qonnx.*pip install qonnx"):
        exporter.logits(tmp_path / "a.onnx", np.zeros((1, 8, 8, 1), np.uint8))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(OnebitError, match="package onnx;"):
        exporter.export(left_or_right(), tmp_path / "b.onnx")


def test_too_many_weights_for_four_bytes_each_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "MAX_FILE", 500)  # 128 weights
    with pytest.raises(OnebitError, match=r"128 weights.*export onnx"):
        exporter.export(left_or_right(), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())
