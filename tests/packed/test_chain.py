"""Batch-norms and biases fold into one affine map, and into the table of pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from onebit.graph import nodes as g
from onebit.packed.chain import Chain, chain_before, of_pixels

CHANNELS = 4
Draw = Callable[[st.SearchStrategy[Any]], Any]
GAINS = st.sampled_from((1.0, 0.0, -1.0, 0.03, -2.5, 1e-6, -1e-3, 40.0))
NUMBERS = st.floats(-50, 50)


def vector(draw: Draw, numbers: st.SearchStrategy[float]) -> NDArray[np.float64]:
    return np.array([draw(numbers) for _ in range(CHANNELS)])


@st.composite
def layers(draw: Draw) -> list[g.Node]:
    """One to four batch-norms and affine maps, the first of which reads node 1."""
    found: list[g.Node] = []
    for k in range(draw(st.integers(1, 4))):
        source = (k + 1,)
        if draw(st.booleans()):
            found.append(g.Affine(f"affine{k}", source, vector(draw, GAINS), vector(draw, NUMBERS)))
        else:
            moments = vector(draw, NUMBERS), vector(draw, st.sampled_from((1.0, 0.0032, 30.0)))
            found.append(g.BatchNorm(f"norm{k}", source, *moments, vector(draw, GAINS), vector(draw, NUMBERS)))
    return found


def graph_of(found: list[g.Node]) -> g.Graph:
    """Pixels, a convolution that makes the stored value (node 1), the layers, an activation, and a classifier."""
    graph = g.Graph()
    graph.add(g.Input("input", (), (2, 1, 1)))
    graph.add(g.Conv("conv", (0,), np.ones((CHANNELS, 1, 1, 2), bool), 1.0))
    for node in found:
        graph.add(node)
    x = graph.add(g.Activation("relu", (len(graph.nodes) - 1,)))
    graph.add(g.Conv("classifier", (x,), np.ones((2, 1, 1, CHANNELS), bool), 1.0))
    return graph


def through(node: g.Node, x: NDArray[np.float64]) -> NDArray[np.float64]:
    if isinstance(node, g.BatchNorm):
        return node.gain * (x - node.mean) / node.deviation + node.offset
    assert isinstance(node, g.Affine)
    return node.gain * x + node.offset


def close(a: NDArray[np.float64], b: NDArray[np.float64], size: NDArray[np.float64]) -> None:
    """Equal to the rounding of float64 in sums of numbers as large as `size`."""
    assert (np.abs(a - b) <= 1e-12 * (size + 1)).all(), (a, b)


def size_of(found: list[g.Node], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """How large the parts of the sums are; what cancels between them costs digits."""
    size = np.abs(x)
    for node in found:
        if isinstance(node, g.BatchNorm):
            size = np.abs(node.gain) * (size + np.abs(node.mean)) / node.deviation + np.abs(node.offset)
        elif isinstance(node, g.Affine):
            size = np.abs(node.gain) * size + np.abs(node.offset)
    return size


@given(layers(), st.lists(NUMBERS, min_size=CHANNELS, max_size=CHANNELS))
def test_a_chain_computes_what_its_layers_do(found: list[g.Node], numbers: list[float]) -> None:
    graph, x = graph_of(found), np.array(numbers)
    chain = chain_before(graph, len(found) + 2)
    assert chain.source == 1
    want = x
    for node in found:
        want = through(node, want)
    close(chain.gain * (x - chain.centre) + chain.offset, want, size_of(found, x) + size_of(found, chain.centre))


@given(layers())
def test_centre_and_deviation_are_the_moments_of_the_stored_value(found: list[g.Node]) -> None:
    """The first batch-norm knows them; a value at the centre comes out of it as its offset."""
    chain = chain_before(graph_of(found), len(found) + 2)
    first = next((k for k, node in enumerate(found) if isinstance(node, g.BatchNorm)), None)
    if first is None:
        assert chain.deviation is None and not chain.centre.any()
        return
    norm, before = found[first], found[:first]
    assert isinstance(norm, g.BatchNorm) and chain.deviation is not None
    known = np.ones(CHANNELS, bool)  # where a gain of 0 comes first, nothing is known of the value
    x = [chain.centre, chain.centre + chain.deviation]
    for node in before:
        assert isinstance(node, g.Affine)
        known &= node.gain != 0
        x = [through(node, y) for y in x]
    size = size_of(before, np.abs(chain.centre) + chain.deviation) + np.abs(norm.mean)
    close(x[0][known], norm.mean[known], size[known])
    close(np.abs(x[1] - x[0])[known], norm.deviation[known], size[known])
    assert (chain.deviation > 0).all()


@given(layers())
def test_a_gain_of_zero_leaves_a_constant(found: list[g.Node]) -> None:
    chain = chain_before(graph_of(found), len(found) + 2)
    constant = np.zeros(CHANNELS, bool)
    for node in found:
        assert isinstance(node, g.BatchNorm | g.Affine)
        constant |= node.gain == 0
    assert (chain.gain[constant] == 0).all() and np.isfinite(chain.centre).all() and np.isfinite(chain.offset).all()


def test_a_chain_stops_at_whatever_is_stored() -> None:
    graph = graph_of([])
    chain = chain_before(graph, 2)
    assert (chain.source, chain.deviation) == (1, None)
    assert chain.gain.tolist() == [1] * CHANNELS and chain.offset.tolist() == chain.centre.tolist() == [0] * CHANNELS


def test_a_chain_is_not_changed_by_the_next_layer() -> None:
    one = np.ones(1)
    chain = Chain(0, one * 0, one, one * 0)
    longer = chain.then(g.BatchNorm("norm", (0,), one * 3, one * 2, one, one * 5))
    assert (chain.centre[0], chain.deviation) == (0, None)
    assert (longer.centre[0], longer.gain[0], longer.offset[0]) == (3, 0.5, 5)
    assert longer.deviation is not None and longer.deviation[0] == 2


def test_a_second_batch_norm_does_not_change_the_moments() -> None:
    one = np.ones(1)
    chain = Chain(0, one * 0, one, one * 0).then(g.BatchNorm("norm", (0,), one * 3, one * 2, one * 4, one * 5))
    longer = chain.then(g.BatchNorm("again", (1,), one, one * 8, one, one))
    assert longer.deviation is not None and (longer.centre[0], longer.deviation[0]) == (3, 2)
    assert (longer.gain[0], longer.offset[0]) == (0.25, 1.5)


@given(layers(), st.sampled_from(((0.0, None, None), (-1.0, None, None), (-1.0, 0.25, 16), (0.0, 2.0**-5, 256))))
def test_the_table_of_pixels_is_what_the_network_makes_of_each(
    found: list[g.Node], activation: tuple[float, float | None, int | None]
) -> None:
    graph = g.Graph()
    graph.add(g.Input("input", (), (CHANNELS, 1, 1)))
    graph.add(g.Affine("scale", (0,), np.full(CHANNELS, 1 / 255), np.zeros(CHANNELS)))
    for node in found:
        graph.add(node)
    x = graph.add(g.Activation("act", (len(graph.nodes) - 1,), *activation))
    graph.add(g.Conv("conv", (x,), np.ones((2, 1, 1, CHANNELS), bool), 1.0))
    table = of_pixels(graph)
    assert sorted(table) == list(range(len(graph.nodes) - 1))
    pixels = np.tile(np.arange(256), (CHANNELS, 1))
    assert (table[0] == pixels).all()
    want = pixels / 255
    for node in found:
        want = through(node, want.T).T
    low, step, levels = activation
    if step is None or levels is None:
        want = np.maximum(want, low)
    else:
        assert table[x].min() >= low and table[x].max() <= low + (levels - 1) * step
        assert (table[x] / step % 1 == 0).all()
    error = np.abs(table[x] - np.clip(want, low, np.inf if step is None else low + (levels or 0) * step - step))
    size = max(float(size_of(found, np.ones(CHANNELS)).max()), 1.0)
    assert error.max() <= (step or 0) / 2 + 1e-12 * size


def test_nothing_behind_a_convolution_or_a_window_belongs_to_the_pixels() -> None:
    graph = g.Graph()
    x = graph.add(g.Input("input", (), (1, 4, 4)))
    one = np.ones(1)
    other = graph.add(g.Affine("scale", (x,), one, one))
    pool = graph.add(g.Max("pool", (x,), (2, 2), 2))
    graph.add(g.Affine("behind", (pool,), one, one))
    conv = graph.add(g.Conv("conv", (other,), np.ones((1, 1, 1, 1), bool), 1.0))
    graph.add(g.Activation("relu", (conv,)))
    assert sorted(of_pixels(graph)) == [x, other]
