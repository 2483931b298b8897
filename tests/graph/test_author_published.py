"""The author's own files, where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onebit.data import catalog
from onebit.graph import author
from onebit.graph import nodes as graph

pytestmark = pytest.mark.skipif(
    not os.environ.get("ONEBIT_AUTHOR_MODELS"),
    reason="needs the author's networks: set ONEBIT_AUTHOR_MODELS to the folder of the .mat files",
)


@pytest.fixture(scope="module")
def models() -> list[author.Imported]:
    """Both CIFAR-10 networks."""
    folder = Path(os.environ["ONEBIT_AUTHOR_MODELS"])
    found = [author.read(path) for path in sorted(folder.glob("*CIFAR10_*.mat"))]
    assert {m.layout.partition(",")[0] for m in found} == {"Keras", "MATLAB"}
    return found


def test_they_have_the_published_size(models: list[author.Imported]) -> None:
    for model in models:
        convs = [n for n in model.graph.nodes if isinstance(n, graph.Conv)]
        assert len(convs) == 20 and sum(c.bits.size for c in convs) == 26_737_120
        assert [c.stride for c in convs] == [1] * 7 + [2] + [1] * 5 + [2] + [1] * 6
        assert model.accuracy in (None, pytest.approx(96.18)) and model.graph.shapes[-1] == (10, 1, 1)


@pytest.mark.data
def test_they_classify_test_pictures(models: list[author.Imported], data_root: Path) -> None:
    dataset = catalog.load("cifar10", data_root)
    for model in models:
        assert model.classes == tuple(dataset.classes)
        logits = graph.run(model.graph, dataset.test.images[:32])
        assert (logits.argmax(1) == dataset.test.labels[:32]).sum() >= 29
