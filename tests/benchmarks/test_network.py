"""The network that peers are measured with is the packed one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from onebit.packed import file, reference
from onebit.packed.program import Conv, Program

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benchmarks" / "peers"
GOLDEN = ROOT / "tests" / "golden"

pytestmark = pytest.mark.skipif(not PEERS.is_dir(), reason="benchmarks are in the repository, not in the sdist")


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(PEERS))
    yield
    for name in ("network", "to_torch"):
        sys.modules.pop(name, None)


@pytest.fixture
def network() -> ModuleType:
    return importlib.import_module("network")


def program() -> Program:
    return file.load(GOLDEN / "cifar10-20-1.onebit").program


def test_its_layers_are_those_of_the_program(network: ModuleType) -> None:
    layers = network.layers(program())
    convolutions = [layer for layer in layers if layer.kind == "conv"]
    assert len(convolutions) == sum(isinstance(op, Conv) for op in program().operations) == 19
    for layer in convolutions:  # one bit a weight: one size a channel
        sizes = np.abs(layer.weight).reshape(len(layer.weight), -1)
        assert np.allclose(sizes, sizes[:, :1], rtol=1e-6)
    kinds = [layer.kind for layer in layers]
    assert kinds.count("add") == 9 and kinds.count("average") == 2 and kinds[-1] == "head"
    # batch-norms behind a convolution that nothing else reads are folded; the input's and those of the stream are not
    assert kinds.count("affine") == 11


@pytest.mark.parametrize("name", ["cifar10-20-1", "digits"])
def test_its_logits_are_those_of_the_reference(name: str, network: ModuleType) -> None:
    torch = pytest.importorskip("torch")
    to_torch = importlib.import_module("to_torch")
    packed = file.load(GOLDEN / f"{name}.onebit").program
    real = GOLDEN / "cifar10-test-64.npy" if name.startswith("cifar") else GOLDEN / "digits-made-64.npy"
    images = np.load(real)[:16]
    want = reference.run(packed, images) * 2.0**-packed.logits.fraction
    with torch.no_grad():
        x = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32))
        got = to_torch.Network(network.layers(packed)).eval()(x).numpy()
    assert np.abs(got - want).max() < 0.15 * want.std()  # activations are rounded there, and not here
    if real.stem == "cifar10-test-64":
        assert (got.argmax(1) == want.argmax(1)).all()
