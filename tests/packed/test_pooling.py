"""Layers that see a whole pooled map read the map before pooling: the same numbers, and no average is rounded."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.graph import nodes as g
from onebit.packed import pooling
from onebit.packed.lower import lower
from onebit.packed.pooling import without_means

RNG = np.random.default_rng(0)


def network(pool: type[g.Node], *, size: tuple[int, int], seen: tuple[int, int], **window: object) -> g.Graph:
    """Pixels, an activation, pooling, a convolution with a kernel of `seen`, an activation, and a classifier."""
    graph = g.Graph()
    x = graph.add(g.Input("input", (), (3, *size)))
    x = graph.add(g.Conv("conv", (x,), RNG.random((4, 1, 1, 3)) < 0.5, 0.5))
    x = graph.add(g.BatchNorm("norm", (x,), np.full(4, 20.0), np.full(4, 70.0), np.ones(4), np.zeros(4)))
    x = graph.add(g.Activation("relu", (x,)))
    x = graph.add(pool("pool", (x,), **window))  # type: ignore[arg-type]
    x = graph.add(g.Conv("hidden", (x,), RNG.random((6, *seen, 4)) < 0.5, 0.25))
    x = graph.add(g.BatchNorm("norm2", (x,), np.zeros(6), np.full(6, 0.3), np.ones(6), np.zeros(6)))
    x = graph.add(g.Activation("relu2", (x,)))
    x = graph.add(g.Mean("mean", (x,)))
    graph.add(g.Conv("classifier", (x,), RNG.random((3, 1, 1, 6)) < 0.5, 1.0))
    return graph


MAPS = {
    "mean": lambda: network(g.Mean, size=(4, 6), seen=(1, 1)),
    "one window": lambda: network(g.Average, size=(4, 6), seen=(1, 1), kernel=(4, 6), stride=2),
    "windows": lambda: network(g.Average, size=(4, 6), seen=(2, 3), kernel=(2, 2), stride=2),
    "a row of windows": lambda: network(g.Average, size=(3, 6), seen=(1, 2), kernel=(3, 3), stride=3),
}


@pytest.mark.parametrize("name", MAPS)
def test_pooling_becomes_repeated_weights(name: str) -> None:
    graph = MAPS[name]()
    images = RNG.integers(0, 256, (5, *graph.shapes[0]), np.uint8)
    other = without_means(graph, [8])
    hidden = other.nodes[5]
    assert isinstance(hidden, g.Conv) and hidden.inputs == (3,) and hidden.bits.shape[1:3] == graph.shapes[3][1:]
    assert other.users(4) == [] and isinstance(other.nodes[8], g.Mean)
    np.testing.assert_allclose(g.run(other, images), g.run(graph, images), rtol=1e-4, atol=1e-4)
    lowered = lower(graph)
    assert "Average" not in {type(op).__name__ for op in lowered.program.operations}
    times = hidden.bits.size // graph.nodes[5].bits.size  # type: ignore[attr-defined]
    assert lowered.notes[0].startswith(f"layer 'hidden': its weights are repeated {times} times")


OTHERWISE = {
    "overlapping windows": lambda: network(g.Average, size=(5, 5), seen=(2, 2), kernel=(3, 3), stride=2),
    "a rest that no window sees": lambda: network(g.Average, size=(5, 5), seen=(2, 2), kernel=(2, 2), stride=2),
    "padding": lambda: network(g.Average, size=(3, 3), seen=(2, 2), kernel=(2, 2), stride=2, padding=(0, 0, 1, 1)),
    "a kernel that sees a part": lambda: network(g.Average, size=(6, 6), seen=(2, 2), kernel=(2, 2), stride=2),
    "max pooling": lambda: network(g.Max, size=(4, 4), seen=(2, 2), kernel=(2, 2), stride=2),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_other_pooling_stays(name: str) -> None:
    graph = OTHERWISE[name]()
    assert without_means(graph, [8]).nodes[5] is graph.nodes[5]


def test_a_mean_whose_weights_would_be_too_many_is_an_average(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "MOST_WEIGHTS", 500)
    graph = network(g.Mean, size=(4, 6), seen=(1, 1))  # 6 * 4 * 24 weights
    pool = without_means(graph, [8]).nodes[4]
    assert isinstance(pool, g.Average) and pool.kernel == (4, 6)
    assert "Average" in {type(op).__name__ for op in lower(graph).program.operations}
