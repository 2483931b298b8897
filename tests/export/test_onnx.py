"""ONNX files beside the packed program in real numbers, computed by NumPy in float64."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from onebit.errors import OnebitError
from onebit.export import onnx as exporter
from onebit.model import Model
from onebit.packed import file
from onebit.packed.calibration import softmax
from onebit.packed.program import Conv, Logits, Norm, Program, Table
from packed.test_golden import GOLDEN, NAMES, pictures
from support import programs, real
from support.forms import FORMS, Form, layered, row_bits, with_head
from support.models import left_or_right, wide
from support.onnx_graphs import LEVELS, POOLS, attribute, executed, packed, pooled
from support.pages import python_blocks

CONVOLUTIONS = ("Conv", "FusedConv", "QLinearConv")


def check(program: Program, images: programs.NDArray[np.uint8], folder: Path, int8: bool) -> None:
    """Every logit lies where float32 may put it."""
    path = folder / "model.onnx"
    exporter.export(packed(program), path, int8=int8)
    onnx.checker.check_model(str(path), full_check=True)
    want, error = real.logits(program, images, rounded=int8)
    got = exporter.logits(path, images)
    assert got.dtype == np.float64 and got.shape == want.shape
    assert (np.abs(got - want) <= error).all()


@pytest.mark.parametrize("int8", [False, True])
@settings(max_examples=60)
@given(data=st.data())
def test_any_program_computes_what_its_constants_say(
    int8: bool, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program = data.draw(programs.programs())
    check(program, data.draw(programs.pictures(program)), tmp_path_factory.getbasetemp(), int8)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("form", [f for f in FORMS if f.channels < 64], ids=str)
def test_networks_of_every_form(form: Form, int8: bool, tmp_path: Path) -> None:
    _, content, images, _ = layered(form)
    check(file.decode(content).program, images, tmp_path, int8)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("zero", [-1, 0, 60])
@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("kind", ["average", "max"])
def test_pools_of_every_kind(kind: str, pool: Any, zero: int, int8: bool, tmp_path: Path) -> None:
    program = pooled(kind, *pool, zero)
    _, height, width = program.input.shape
    images = np.random.default_rng(1).integers(0, 256, (3, height, width, 5), np.uint8)
    check(program, images, tmp_path, int8)


@pytest.mark.parametrize("name", NAMES)
def test_trained_networks_are_within_2e_6_of_the_largest_logit(name: str, tmp_path: Path) -> None:
    model = file.load(GOLDEN / f"{name}.onebit")
    images = pictures(name)[:40]
    exporter.export(model, tmp_path / "a.onnx")
    got, (want, _) = exporter.logits(tmp_path / "a.onnx", images), real.logits(model.program, images)
    assert np.abs(got - want).max() <= 2e-6 * np.abs(want).max()
    assert (got.argmax(1) == want.argmax(1)).all()


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_trained_networks_answer_as_the_packed_model(name: str, int8: bool, tmp_path: Path) -> None:
    """Rounding differs, decisions do not: real pictures of the golden data, with the recorded logits."""
    model = file.load(GOLDEN / f"{name}.onebit")
    images = pictures(name)
    recorded = np.load(GOLDEN / f"{name}-logits.npy") * 2.0**-model.program.logits.fraction
    exporter.export(model, tmp_path / "a.onnx", int8=int8)
    got = exporter.logits(tmp_path / "a.onnx", images)
    assert (got.argmax(1) == recorded.argmax(1)).mean() >= 0.99
    assert np.sqrt(((got - recorded) ** 2).mean()) <= 0.03 * recorded.std()


def test_probabilities_have_the_model_s_temperature(tmp_path: Path) -> None:
    model = file.load(GOLDEN / "digits.onebit")
    images = pictures("digits")[:20]
    exporter.export(model, tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    logits, probabilities = session.run(["logits", "probabilities"], {"pixels": images})
    want = softmax(logits.astype(np.float64) / Model(model, isa="reference").temperature)
    assert np.allclose(probabilities, want, rtol=1e-5, atol=1e-7)
    assert not np.allclose(probabilities, softmax(logits), atol=0.01)


def test_any_number_of_pictures_and_the_same_for_each(tmp_path: Path) -> None:
    exporter.export(file.load(GOLDEN / "digits.onebit"), tmp_path / "a.onnx")
    images = pictures("digits")[:70]  # more than one call takes
    together = exporter.logits(tmp_path / "a.onnx", images)
    alone = np.concatenate([exporter.logits(tmp_path / "a.onnx", image[None]) for image in images])
    assert np.allclose(together, alone, rtol=0, atol=1e-4)


# -- what engines make of it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_onnx_runtime_is_left_with_one_convolution_a_layer(name: str, tmp_path: Path) -> None:
    """All unpacking is done when the file is loaded, and a batch-norm behind a convolution has become part of it."""
    program = file.load(GOLDEN / f"{name}.onebit").program
    layers = len(list(program.convolutions()))
    exporter.export(packed(program), tmp_path / "a.onnx")
    nodes = executed(tmp_path / "a.onnx", tmp_path, LEVELS.ORT_ENABLE_EXTENDED)
    assert sum(n.op_type in CONVOLUTIONS for n in nodes) == layers == 20
    # the layout of its last step makes depthwise convolutions of the batch-norms that are left; those are no layers
    best = executed(tmp_path / "a.onnx", tmp_path)
    assert sum(n.op_type in CONVOLUTIONS and attribute(n, "group", 1) == 1 for n in best) == layers
    for kinds in ({n.op_type for n in nodes}, {n.op_type for n in best}):
        assert not kinds & {"Gather", "Reshape", "Slice"}
    assert (
        sum(n.op_type == "BatchNormalization" for n in nodes) == 10
    )  # of the stream, once before each block and the end


@pytest.mark.parametrize("name", NAMES)
def test_int8_has_integer_convolutions_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    program = file.load(GOLDEN / f"{name}.onebit").program
    exporter.export(packed(program), tmp_path / "a.onnx", int8=True)
    nodes = executed(tmp_path / "a.onnx", tmp_path)
    assert sum(n.op_type == "QLinearConv" for n in nodes) == 9  # the first convolution of each block
    assert sum(n.op_type in CONVOLUTIONS and attribute(n, "group", 1) == 1 for n in nodes) == 20
    assert sum(n.op_type == "DequantizeLinear" for n in nodes) <= 10  # of activations; weights are made once
    assert not {n.op_type for n in nodes} & {"Gather", "Reshape", "Slice"}


def test_weights_are_bits_in_the_file_and_have_static_shapes(tmp_path: Path) -> None:
    program = file.load(GOLDEN / "cifar10-20-1.onebit").program
    exporter.export(packed(program), tmp_path / "a.onnx")
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "a.onnx"), strict_mode=True, data_prop=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 13)]
    bits = [c for c in model.graph.initializer if c.data_type == onnx.TensorProto.UINT8]
    assert sum(len(c.raw_data) for c in bits) == sum(program.weights(op) for _, op in program.convolutions()) // 8
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.value_info}
    read = [shapes[n.input[1]] for n in model.graph.node if n.op_type == "Conv"]
    want = [[len(op.bits), program.values[op.source].shape[0], *op.kernel] for _, op in program.convolutions()]
    assert read == want


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("int8", [False, True])
def test_it_is_hardly_larger_than_the_packed_file(int8: bool, tmp_path: Path) -> None:
    small, large = file.load(GOLDEN / "cifar10-20-1.onebit"), wide(3, 10)
    sizes = []
    for model in (small, large):
        exporter.export(model, tmp_path / "a.onnx", int8=int8)
        sizes.append(((tmp_path / "a.onnx").stat().st_size, len(file.encode(*model))))
    assert sizes[0][0] - sizes[0][1] <= 25_000
    assert sizes[1][0] <= 1.03 * sizes[1][1]


def test_names_and_texts_are_in_the_metadata(tmp_path: Path) -> None:
    model = left_or_right(about={"data": "made", "recipe": '{"name":"x"}', "source": "Käfer\nzwei"})
    exporter.export(model, tmp_path / "a.onnx")
    kept = {entry.key: entry.value for entry in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert json.loads(kept.pop("classes")) == ["left", "right"] and kept == model.about


def test_the_page_s_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/export-onnx.md: a picture file in, its class out; and what ONNX Runtime is left with."""
    monkeypatch.chdir(tmp_path)
    exporter.export(file.load(GOLDEN / "cifar10-20-1.onebit"), Path("c10.onnx"))
    image = pictures("cifar10-20-1")[0]
    Image.fromarray(image).save("cat.png")
    ours, _, optimised = python_blocks("export-onnx.md")  # the second is OpenVINO's
    names: dict[str, Any] = {}
    exec(ours, names)
    assert capsys.readouterr().out.split()[0] == "cat" == names["classes"][3]
    assert np.array_equal(names["pixels"][0], image)
    exec(optimised, {})
    assert capsys.readouterr().out == "20 convolutions; 0 gathers are left\n"


def test_equal_models_give_equal_files(tmp_path: Path) -> None:
    for name in "ab":
        exporter.export(file.load(GOLDEN / "digits.onebit"), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# -- numbers at their ends ---------------------------------------------------------------------------------------------


def one_layer(multiplier: int, offset: int, mean: int = 0) -> Program:
    """1 x 1: twice the pixel plus 1, through two batch-norms, of which the second follows a convolution alone."""

    def arrays(*values: int) -> list[programs.NDArray[np.int16]]:
        return [np.array([value], np.int16) for value in values]

    one = np.array([[1]], np.uint8)
    return Program([
        Table(1, 1, np.arange(1, 512, 2, dtype=np.int16)[None]),
        Norm(0, *arrays(0, 16384, 0)),
        Conv(1, one, (1, 1), 0),
        Norm(2, *arrays(mean, multiplier, offset)),
        Logits(3, one, (1, 1), 0, np.array([1], np.int32), np.array([0], np.int32), 0),
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("multiplier", "offset", "folds"), [(32767, 0, True), (-300, 40, True), (0, 17, False), (1, 32767, True)]
)
def test_int8_folds_a_batch_norm_where_it_can(multiplier: int, offset: int, folds: bool, tmp_path: Path) -> None:
    """A gain of 0 has no scale of weights: then the batch-norm stays."""
    program = one_layer(multiplier, offset, mean=100)
    images = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1)
    check(program, images, tmp_path, int8=True)
    kinds = [n.op_type for n in onnx.load(tmp_path / "model.onnx").graph.node]
    assert kinds.count("BatchNormalization") == 2 - folds


def test_int8_weights_keep_their_numbers_behind_a_batch_norm_that_stays(tmp_path: Path) -> None:
    """Gains from 0 to 1/4 in one layer: ONNX Runtime must not round gain times weight to 8 bits with one scale for all."""
    rng = np.random.default_rng(0)
    gains = np.array([0, 50, 200, 700, 2000, 8000, 30, 9], np.int16)
    none = np.zeros(8, np.int16)
    operations = [
        Table(6, 6, rng.integers(-900, 900, (8, 256)).astype(np.int16)),
        Norm(0, none, np.full(8, 9000, np.int16), none),
        Conv(1, row_bits(rng, 8, 72), (3, 3), 0, 1, (1, 1, 1, 1)),
        Norm(2, none, gains, np.full(8, 60, np.int16)),
    ]
    program = with_head(operations, 3, rng)  # type: ignore[arg-type]
    check(program, rng.integers(0, 256, (4, 6, 6, 8), np.uint8), tmp_path, int8=True)


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "install"), [("onnx", r"onebit\[export\]"), ("onnxruntime", "onnxruntime")])
def test_a_missing_package_is_named(module: str, install: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter.export(left_or_right(), tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OnebitError, match=f"{module}.*pip install '?{install}"):
        exporter.export(left_or_right(), tmp_path / "b.onnx")
        exporter.logits(tmp_path / "a.onnx", np.zeros((1, 8, 8, 1), np.uint8))


def test_a_file_that_is_none_and_pictures_that_do_not_fit(tmp_path: Path) -> None:
    exporter.export(left_or_right(), tmp_path / "a.onnx")
    (tmp_path / "b.onnx").write_bytes(b"no protobuf")
    for name, side in (("b.onnx", 8), ("c.onnx", 8), ("a.onnx", 9)):
        with pytest.raises(OnebitError, match=f"{name}.*onebit export onnx"):
            exporter.logits(tmp_path / name, np.zeros((1, side, side, 1), np.uint8))


def test_nothing_is_left_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OnebitError, match="cannot be written"):
        exporter.export(left_or_right(), tmp_path / "taken" / "a.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]
