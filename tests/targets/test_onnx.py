"""ONNX files in OpenVINO: read, folded, and computed with its integer convolutions."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onebit.data import catalog
from onebit.export import onnx as exporter
from onebit.packed import file, reference
from onebit.packed.program import Program
from packed.test_golden import GOLDEN, NAMES, pictures
from support import real
from support.forms import Form, layered
from support.onnx_graphs import POOLS, packed, pooled
from support.pages import python_blocks

# Run by another process, as oneDNN reads what limits it when it is loaded. Prints the kernels and the logits.
RUN = """
import collections, json, sys
import numpy as np, openvino
model = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
infos = [node.get_rt_info() for node in model.get_runtime_model().get_ops()]
kinds = collections.Counter(f"{i['layerType'].astype(str)} {i['runtimePrecision'].astype(str)}" for i in infos)
print(json.dumps(kinds))
np.save(sys.argv[3], model([np.load(sys.argv[2])])["logits"])
"""


def run(path: Path, images: NDArray[np.uint8], folder: Path, isa: str = "") -> tuple[Counter[str], NDArray[Any]]:
    """Layers by kind and precision that OpenVINO executes, and its logits."""
    if not importlib.util.find_spec("openvino"):
        pytest.skip("needs pip install openvino")
    np.save(folder / "images.npy", images)
    environment = os.environ | ({"ONEDNN_MAX_CPU_ISA": isa} if isa else {})
    command = [sys.executable, "-c", RUN, path, folder / "images.npy", folder / "logits.npy"]
    done = subprocess.run(list(map(str, command)), env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return Counter(json.loads(done.stdout)), np.load(folder / "logits.npy").astype(np.float64)


@pytest.mark.target("openvino")
@pytest.mark.parametrize("name", NAMES)
def test_float_is_folded_and_within_1e_4(name: str, tmp_path: Path) -> None:
    model = file.load(GOLDEN / f"{name}.onebit")
    exporter.export(model, tmp_path / "a.onnx")
    images = pictures(name)[:40]
    kinds, got = run(tmp_path / "a.onnx", images, tmp_path)
    assert not any(kind.startswith("Gather") for kind in kinds)
    assert sum(n for kind, n in kinds.items() if kind.startswith("Convolution")) == 20
    want = real.logits(model.program, images).x
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.target("openvino")
def test_the_page_s_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not importlib.util.find_spec("openvino"):
        pytest.skip("needs pip install openvino")
    monkeypatch.chdir(tmp_path)
    exporter.export(file.load(GOLDEN / "cifar10-20-1.onebit"), Path("c10.onnx"))
    names: dict[str, Any] = {"pixels": pictures("cifar10-20-1")[:2]}
    exec(python_blocks("export-onnx.md")[1], names)
    assert names["probabilities"].shape == (2, 10) and np.allclose(names["probabilities"].sum(1), 1)


@pytest.mark.target("openvino")
@pytest.mark.parametrize("isa", ["", "AVX2"])
@pytest.mark.parametrize("name", NAMES)
def test_int8_runs_in_integer_convolutions_and_agrees(name: str, isa: str, tmp_path: Path) -> None:
    """All but the first convolution and the classifier. AVX2 has no VNNI: products of larger weights would saturate there."""
    model = file.load(GOLDEN / f"{name}.onebit")
    exporter.export(model, tmp_path / "a.onnx", int8=True)
    images = pictures(name)
    kinds, got = run(tmp_path / "a.onnx", images, tmp_path, isa)
    assert not any(kind.startswith("Gather") for kind in kinds)
    assert kinds["Convolution u8"] == 18 and kinds["Convolution f32"] == 2
    want = np.load(GOLDEN / f"{name}-logits.npy") * 2.0**-model.program.logits.fraction
    assert (got.argmax(1) == want.argmax(1)).mean() >= 0.99
    assert np.sqrt(((got - want) ** 2).mean()) <= 0.03 * want.std()


@pytest.mark.data  # not marked target: CI has no such data
def test_int8_agrees_on_the_test_set(data_root: Path, tmp_path: Path) -> None:
    model = file.load(GOLDEN / "cifar10-20-1.onebit")
    images = np.ascontiguousarray(catalog.load("cifar10", data_root).test.images[:2000].transpose(0, 2, 3, 1))  # type: ignore[union-attr]
    exporter.export(model, tmp_path / "a.onnx", int8=True)
    _, got = run(tmp_path / "a.onnx", images, tmp_path)
    want = reference.run(model.program, images)
    assert (got.argmax(1) == want.argmax(1)).mean() >= 0.99


def programs() -> dict[str, tuple[Program, int]]:
    forms = (
        Form(channels=32, limit=15),
        Form(channels=24, zero=128, offsets=True),
        Form((11, 16), 14, (2, 3), stride=2),
    )
    found = {str(form): (file.decode(layered(form).content).program, 3) for form in forms}
    return found | {f"{kind} {pool}": (pooled(kind, *pool, 60), 5) for kind in ("average", "max") for pool in POOLS[:4]}


# In int8 OpenVINO averages activations as integers, and so rounds them once more than the file says.
CASES = [(name, int8) for name in programs() for int8 in (False, True) if not (int8 and name.startswith("average"))]


@pytest.mark.target("openvino")
@pytest.mark.parametrize(("name", "int8"), CASES)
def test_other_networks(name: str, int8: bool, tmp_path: Path) -> None:
    """4 bits, zeros that are not 0, odd kernels and pools; its own order of rounding is given some room."""
    program, channels = programs()[name]
    _, height, width = program.input.shape
    images = np.random.default_rng(1).integers(0, 256, (3, height, width, channels), np.uint8)
    exporter.export(packed(program), tmp_path / "a.onnx", int8=int8)
    _, got = run(tmp_path / "a.onnx", images, tmp_path)
    want, error = real.logits(program, images, rounded=int8)
    assert (np.abs(got - want) <= 4 * error).all()
