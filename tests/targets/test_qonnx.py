"""QONNX in the tools that read it: executed and counted by the qonnx package, converted and simulated by hls4ml."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onebit.data import catalog
from onebit.errors import OnebitError
from onebit.export import qonnx as exporter
from onebit.packed import file, reference
from onebit.packed.file import Packed
from onebit.packed.program import Conv, Max, Norm, Operation, Program, Table
from packed.test_golden import GOLDEN, pictures
from support.forms import row_bits, with_head
from support.models import left_or_right, wide
from support.onnx_graphs import packed
from support.pages import python_blocks
from support.small import digits


def needs(package: str) -> None:
    if not importlib.util.find_spec(package):
        pytest.skip(f"needs pip install {package}")


@pytest.mark.target("qonnx")
def test_qonnx_gives_the_logits_of_the_packed_model(tmp_path: Path) -> None:
    """Of the trained 20-1 on 16 real pictures; the numbers are the reference's, rounded to float32."""
    needs("qonnx")
    model = file.load(GOLDEN / "cifar10-20-1.onebit")
    exporter.export(model, tmp_path / "a.onnx")
    got = exporter.logits(tmp_path / "a.onnx", pictures("cifar10-20-1")[:16])
    want = np.load(GOLDEN / "cifar10-20-1-logits.npy")[:16] * 2.0**-model.program.logits.fraction
    assert (got.argmax(1) == want.argmax(1)).all()
    assert np.abs(got - want).max() <= 1e-6 * np.abs(want).max()  # 1e-4 would do


@pytest.mark.target("qonnx")
def test_other_files_and_pictures_are_refused(tmp_path: Path) -> None:
    needs("qonnx")
    exporter.export(left_or_right(), tmp_path / "a.onnx")
    (tmp_path / "b.onnx").write_bytes(b"no protobuf")
    for name, side in (("a.onnx", 9), ("b.onnx", 8), ("c.onnx", 8)):
        with pytest.raises(OnebitError, match=f"{name}: qonnx cannot run it"):
            exporter.logits(tmp_path / name, np.zeros((1, side, side, 1), np.uint8))


@pytest.mark.target("qonnx")
@pytest.mark.parametrize("model", [file.load(GOLDEN / "cifar10-20-1.onebit"), wide(1, 2)], ids=["20-1", "8-2"])
def test_qonnx_counts_one_bit_a_weight(model: Packed, tmp_path: Path) -> None:
    needs("qonnx")
    from qonnx.util.inference_cost import inference_cost

    exporter.export(model, tmp_path / "a.onnx")
    cost = inference_cost(str(tmp_path / "a.onnx"), discount_sparsity=False)["total_cost"]
    weights = sum(model.program.weights(op) for _, op in model.program.convolutions())
    assert cost["total_mem_w_bits"] == cost["mem_w_BIPOLAR"] == weights
    assert cost["total_macs"] == sum(model.program.macs(i) for i in range(len(model.program.operations)))


def simulated(packed: Packed, images: NDArray[np.uint8], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Logits of hls4ml's C code, by what docs/export-qonnx.md says to do."""
    monkeypatch.chdir(folder)
    exporter.export(packed, Path("c10-qonnx.onnx"))
    names: dict[str, Any] = {"images": images}
    exec(python_blocks("export-qonnx.md")[1], names)
    return names["logits"]


@pytest.mark.target("hls4ml")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hls4ml_simulates_a_small_trained_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The C code that it writes, compiled and run on all test digits, beside the reference."""
    needs("hls4ml")
    model, test = digits(), catalog.load("digits").test
    images = test.images.transpose(0, 2, 3, 1)  # type: ignore[union-attr]
    want = reference.run(model.program, images) * 2.0**-model.program.logits.fraction
    assert (want.argmax(1) == test.labels).mean() >= 0.9  # it is trained
    got = simulated(model, images, tmp_path, monkeypatch)
    assert (got.argmax(1) == want.argmax(1)).all()
    assert np.abs(got - want).max() <= 1e-6 * np.abs(want).max()


def coloured(limit: int, zero: int, residual: bool = False) -> Program:
    """Two convolutions of a colour picture, a third that is added to the first if `residual`, max pooling, a linear layer."""
    rng = np.random.default_rng(0)
    lines = [(np.arange(256) - middle) * slope for middle, slope in ((120, 20.3137), (110, 15.1719), (130, 9.71357))]

    def norm(source: int, gain: int) -> Norm:
        numbers = rng.integers(-9, 9, 4), rng.integers(gain, 2 * gain, 4), np.zeros(4)
        return Norm(source, *(a.astype(np.int16) for a in numbers), zero, limit)

    def conv(source: int, inputs: int, shift: int, base: int = -1) -> Conv:
        return Conv(source, row_bits(rng, 4, 9 * inputs), (3, 3), shift, 1, (1, 1, 1, 1), base)

    found: list[Operation] = [
        Table(5, 6, np.round(lines).astype(np.int16)),
        conv(0, 3, 4),
        norm(1, 20 * limit),
        conv(2, 4, 0),
    ]
    found += [norm(3, 6000), conv(4, 4, 1, base=1)] if residual else []
    found += [norm(len(found) - 1, 6000), Max(len(found), (2, 2), 2)]
    return with_head(found, len(found) - 1, rng)


@pytest.mark.target("hls4ml")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("limit", "zero"), [(15, 0), (255, 3)])
def test_hls4ml_simulates_colours_4_bits_and_shifted_activations(
    limit: int, zero: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("hls4ml")
    program = coloured(limit, zero)
    images = np.random.default_rng(1).integers(0, 256, (50, 5, 6, 3), np.uint8)
    got = simulated(packed(program), images, tmp_path, monkeypatch)
    want = reference.run(program, images) * 2.0**-program.logits.fraction
    assert len(np.unique(want)) > 50 and np.abs(got - want).max() <= 1e-6 * np.abs(want).max()


@pytest.mark.target("hls4ml")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hls4ml_does_not_take_residual_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/export-qonnx.md says that it lacks: qonnx connects the two readers of a stream wrongly."""
    needs("hls4ml")
    model = packed(coloured(255, 0, residual=True))
    with pytest.raises(ValueError, match="could not be broadcast together"):
        simulated(model, np.zeros((1, 5, 6, 3), np.uint8), tmp_path, monkeypatch)


@pytest.mark.target("hls4ml")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hls4ml_does_not_take_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/export-qonnx.md says that it lacks: qonnx leaves average pooling with its channels first."""
    needs("hls4ml")
    with pytest.raises(RuntimeError, match="Please convert the model to channels-last format"):
        simulated(wide(1, Fraction(1, 4), size=8), np.zeros((1, 8, 8, 3), np.uint8), tmp_path, monkeypatch)
