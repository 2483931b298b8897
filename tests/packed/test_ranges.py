"""Ranges that pictures show."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.graph import nodes as g
from onebit.packed import reference
from onebit.packed.lower import lower
from onebit.packed.ranges import EXPONENTS, measure, zero_level


def network(low: float, heavy: float) -> g.Graph:
    """Pixels, a convolution whose sums are `heavy` times larger in one channel of eight, an activation, a classifier."""
    random = np.random.default_rng(0)
    graph = g.Graph()
    i = graph.add(g.Input("input", (), (1, 8, 8)))
    i = graph.add(g.Affine("scaled", (i,), np.full(1, 1 / 64), np.full(1, -2.0)))
    i = graph.add(g.Conv("conv", (i,), random.random((8, 3, 3, 1)) > 0.5, 0.5, 1, (1, 1, 1, 1)))
    i = graph.add(g.Affine("bias", (i,), np.where(np.arange(8) == 0, heavy, 1.0), np.zeros(8)))
    i = graph.add(g.Activation("act", (i,), low))
    i = graph.add(g.Conv("classifier", (i,), random.random((3, 1, 1, 8)) > 0.5, 0.5))
    graph.add(g.Mean("mean", (i,)))
    return graph


IMAGES = np.random.default_rng(1).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)


def test_sizes_are_of_every_node_over_all_pictures() -> None:
    graph = network(0.0, 1.0)
    found: dict[int, float] = {}
    for image in IMAGES:
        g.run(graph, image[None], lambda i, x: found.__setitem__(i, max(found.get(i, 0.0), float(np.abs(x).max()))))
    seen = measure(graph, IMAGES, batch=16)
    assert {i: s.largest for i, s in seen.items()} == pytest.approx(found)
    assert [i for i, s in seen.items() if s.steps] == [4]


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("low", [0.0, -1.0])
@pytest.mark.parametrize("heavy", [1.0, 30.0, 1000.0])
def test_the_step_is_the_best_power_of_two(bits: int, low: float, heavy: float) -> None:
    """Against every power of two, with levels searched one by one."""
    graph = network(low, heavy)
    values: list[np.ndarray] = []
    g.run(graph, IMAGES, lambda i, x: values.append(x.astype(np.float64).ravel()) if i == 4 else None)
    x = values[0]
    errors = {}
    for step in 2.0 ** np.array(EXPONENTS):
        below = int(-low / step)
        if below > 2 ** (bits - 1):
            continue
        levels = (np.arange(2**bits) - below) * step
        nearest = levels[np.clip(np.searchsorted(levels, x), 1, len(levels) - 1)]
        lower_one = np.maximum(nearest - step, levels[0])
        errors[step] = np.minimum((x - nearest) ** 2, (x - lower_one) ** 2).sum()
    assert measure(graph, IMAGES)[4].steps[bits] == min(errors, key=errors.__getitem__)


@pytest.mark.parametrize("heavy", [1.0, 30.0, 1000.0])
def test_a_shifted_relu_of_any_size_is_lowered(heavy: float) -> None:
    """Where steps are larger than 1 the lowest value -1 falls to level 0."""
    graph = network(-1.0, heavy)
    program = lower(graph, ranges=measure(graph, IMAGES)).program
    logits = reference.run(program, IMAGES.transpose(0, 2, 3, 1)) * 2.0**-program.logits.fraction
    wanted = g.run(graph, IMAGES)
    assert np.sqrt(((logits - wanted) ** 2).mean()) < 0.02 * wanted.std()


def test_the_level_of_zero() -> None:
    assert [zero_level(-1.0, step) for step in (0.25, 1.0, 2.0, 64.0)] == [4, 1, 0, 0]
    assert zero_level(0.0, 0.25) == 0
