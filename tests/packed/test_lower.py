"""The integer programs of the paper's networks beside torch's float32 ones, on pictures of handwritten digits.

Three bounds, each of which was found to hold with room. An operation alone, given what the program made before it, is
right to about one step. Logits differ no more than by what rounding activations to 8 or 4 bits does to float32, which
random weights amplify from layer to layer more than trained ones do. And nothing saturates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from onebit.graph import nodes as g
from onebit.graph.trace import trace
from onebit.networks import Network, build
from onebit.packed import program as p
from onebit.packed.lower import lower, needs_ranges
from onebit.packed.ranges import Seen, measure
from support.lowering import Result, compared, graph_compared, pictures, settled

ONE_STEP = 1.02  # an average is rounded twice: by its shift, then by its multiplier


def result_of(
    network: Network, channels: int = 3, size: int = 16, *, bits: int = 8, learned: str = "plain", seed: int = 0
) -> Result:
    """A random network with the moments that it has on pictures, lowered and compared on other pictures."""
    torch.manual_seed(seed)
    net = build(network, classes=10, channels=channels, size=size)
    train = pictures(64, channels, size)
    settled(net, train, seed, learned=learned)
    ranges = None
    if network.norm == "none":
        ranges = measure(trace(net, channels=channels, size=size), train)
    return compared(net, pictures(16, channels, size, seed=9), bits=bits, ranges=ranges)


def sound(result: Result) -> None:
    assert result.lowered.notes == []
    assert result.saturated == 0
    assert max(result.local.values()) < ONE_STEP, result.local
    # rms of the difference of all that activations hold: the first is rounded once, each next one reads rounded ones
    errors = list(result.layers.values())
    assert errors[0] < 0.03 and max(errors) < 0.15, result.layers
    assert result.rms < 0.01 + 1.6 * result.rounding < 0.25


FAMILIES = {
    f"{family}, {padding}, {'relu' if relu else 'no relu'}": Network(
        family=family, depth=8, width=1, padding=padding, input_relu=relu
    )
    for family in ("wide", "plain")
    for padding in ("symmetric", "bottom-right")
    for relu in (True, False)
}


@pytest.mark.parametrize("name", FAMILIES)
def test_networks_without_learned_batch_norms(name: str) -> None:
    sound(result_of(FAMILIES[name]))


@pytest.mark.parametrize(
    ("channels", "size", "padding"),
    [(1, 2, "symmetric"), (1, 3, "symmetric"), (1, 5, "symmetric"), (1, 5, "bottom-right"), (3, 8, "symmetric"),
     (3, 8, "bottom-right"), (1, 13, "symmetric"), (3, 13, "bottom-right"), (1, 28, "bottom-right"), (3, 32, "symmetric")],
)  # fmt: skip
def test_sizes_and_channels(channels: int, size: int, padding: Any) -> None:
    sound(result_of(Network(depth=8, width=0.5 if size > 5 else 1, padding=padding), channels, size))


def test_average_pooling_has_every_divisor() -> None:
    seen = set()
    sizes: list[tuple[Any, int, int]] = [("symmetric", 1, 5), ("symmetric", 5, 1), ("symmetric", 1, 1)]
    sizes += [(padding, size, size) for size in (4, 5, 6, 7, 13) for padding in ("symmetric", "bottom-right")]
    for padding, *size in sizes:
        net = build(Network(depth=8, width=0.25, padding=padding), classes=3, channels=1, size=8)
        net = settled(net, pictures(64, 1, (size[0], size[1])))
        result = graph_compared(trace(net, channels=1, size=(size[0], size[1])), pictures(2, 1, (size[0], size[1])))
        pools = [op for op in result.lowered.program.operations if isinstance(op, p.Average) and op.kernel == (3, 3)]
        for op in pools:
            seen |= {int(d) + 1 for d in np.flatnonzero(op.multiplier)}
            assert 2**14 <= op.multiplier.max() <= 32767
        local = [error for name, error in result.local.items() if "pool" in name]
        assert len(local) == len(pools) == 2 and max(local) < ONE_STEP
    assert seen == {1, 2, 3, 4, 6, 9}


@pytest.mark.parametrize(("depth", "width"), [(14, 1.0), (20, 1.0), (20, 0.5)])
def test_deeper_networks(depth: int, width: float) -> None:
    sound(result_of(Network(depth=depth, width=width)))


@pytest.mark.parametrize("padding", ["symmetric", "bottom-right"])
def test_imagenet_networks(padding: Any) -> None:
    result = result_of(Network(family="imagenet", depth=18, width=0.25, padding=padding), 3, 64)
    sound(result)
    conv, pool, *_ = [op for op in result.lowered.program.operations if not isinstance(op, p.Table)]
    assert isinstance(conv, p.Conv) and conv.kernel == (7, 7) and conv.stride == 2
    assert isinstance(pool, p.Max)


@pytest.mark.parametrize("learned", ["plain", "odd"])
@pytest.mark.parametrize("family", ["wide", "plain"])
def test_learned_gains_and_offsets_may_be_negative_tiny_or_zero(family: Any, learned: str) -> None:
    sound(result_of(Network(family=family, depth=8, width=1, norm="learned"), learned=learned))


@pytest.mark.parametrize("activation", ["relu", "shifted-relu"])
def test_networks_without_batch_norm_get_measured_ranges(activation: Any) -> None:
    sound(result_of(Network(depth=8, width=1, norm="none", activation=activation)))


def test_a_shifted_relu_behind_batch_norms() -> None:
    sound(result_of(Network(depth=8, width=1, activation="shifted-relu")))


@pytest.mark.parametrize("scale", ["he", "bwn-layer"])
def test_scales_that_differ_from_layer_to_layer_meet_in_the_stream(scale: Any) -> None:
    result = result_of(Network(depth=14, width=1, scale=scale))
    sound(result)
    rescaled = [op for op in result.lowered.program.operations if isinstance(op, p.Average) and op.kernel == (1, 1)]
    assert bool(rescaled) == (scale == "bwn-layer")


@pytest.mark.parametrize("norm", ["fixed", "learned", "none"])
def test_four_bits_are_as_good_as_four_bits_can_be(norm: Any) -> None:
    network = Network(depth=8, width=1, norm=norm, activation="shifted-relu" if norm == "none" else "relu")
    result = result_of(network, bits=4)
    norms = [op for op in result.lowered.program.operations if isinstance(op, p.Norm)]
    assert {op.limit for op in norms} == {15}
    assert result.saturated == 0 and max(result.local.values()) < ONE_STEP
    assert result.rms < 1.5 * result.rounding


@pytest.mark.parametrize("activation", ["relu", "shifted-relu"])
@pytest.mark.parametrize("bits", [8, 4])
def test_activations_trained_as_deployed(bits: Any, activation: Any) -> None:
    """Torch rounds as the program does; the two differ where a number is at the border of two levels, by one level."""
    result = result_of(Network(depth=8, width=1, activation=activation, activation_bits=bits), bits=12 - bits)
    norms = [op for op in result.lowered.program.operations if isinstance(op, p.Norm)]
    assert {op.limit for op in norms} == {2**bits - 1}
    assert result.saturated == 0 and max(result.local.values()) < ONE_STEP
    first = next(iter(result.layers.values()))
    assert first < (0.02 if bits == 8 else 0.08)  # few are at a border


def test_no_pictures_are_needed_where_batch_norms_tell_all() -> None:
    for norm in ("fixed", "learned", "none"):
        for family in ("wide", "plain"):
            net = build(Network(family=family, depth=8, width=0.5, norm=norm), classes=10, channels=3, size=16)
            assert needs_ranges(trace(net, channels=3, size=16)) == (norm == "none")


def test_ranges_change_nothing_where_batch_norms_tell_all() -> None:
    net = settled(build(Network(depth=8, width=0.5), classes=10, channels=3, size=16), pictures(32, 3, 16))
    graph = trace(net, channels=3, size=16)
    wild = dict.fromkeys(range(len(graph.nodes)), Seen(1e-3, {8: 64.0, 4: 64.0}))
    assert same(lower(graph).program, lower(graph, ranges=wild).program)


def test_lowering_is_deterministic_and_changes_no_graph() -> None:
    def made() -> g.Graph:
        net = settled(build(Network(depth=8, width=0.5), classes=10, channels=3, size=16), pictures(32, 3, 16))
        return trace(net, channels=3, size=16)

    graph = made()
    first = lower(graph)
    again, other = lower(graph), lower(made())
    assert same(first.program, again.program) and same(first.program, other.program)
    assert first.notes == again.notes == []


def test_one_stream_has_one_step_and_a_sum_needs_no_multiplier() -> None:
    """What the paper's constant scale buys: of a wide network's operations, only the shortcuts' pools are averages."""
    net = settled(build(Network(depth=14, width=1), classes=10, channels=3, size=16), pictures(32, 3, 16))
    program = lower(trace(net, channels=3, size=16)).program
    kinds = [type(op).__name__ for op in program.operations]
    assert kinds.count("Average") == 2
    assert next(op.shift for op in program.operations if isinstance(op, p.Conv)) == 4  # a table finer than the stream
    assert [type(op).__name__ for op in program.operations[:4]] == ["Table", "Conv", "Norm", "Conv"]


def same(a: p.Program, b: p.Program) -> bool:
    def facts(program: p.Program) -> list[Any]:
        return [
            (type(op).__name__, {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(op).items()})
            for op in program.operations
        ]

    return facts(a) == facts(b)
