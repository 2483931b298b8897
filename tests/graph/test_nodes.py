"""Each node of a graph against torch.nn.functional, and what `Graph.add` refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from onebit.errors import OnebitError
from onebit.graph.nodes import (
    Activation,
    Add,
    Affine,
    Average,
    BatchNorm,
    Conv,
    Graph,
    Input,
    Max,
    Mean,
    Node,
    run,
)
from onebit.networks.activations import QuantizedActivation
from onebit.patches import Padding

RNG = np.random.default_rng(7)
IMAGES = RNG.integers(0, 256, (3, 2, 7, 6), np.uint8)  # N, C, H, W
POWERS = (np.array([2.0, -0.5]), np.array([-3.0, 0.25]))  # gain and offset; exact in float32


def graph_of(*nodes: Node, shape: tuple[int, int, int] = (2, 7, 6)) -> Graph:
    graph = Graph()
    for node in (Input("pixels", (), shape), *nodes):
        graph.add(node)
    return graph


def last_map(graph: Graph, images: NDArray[np.uint8] = IMAGES) -> Tensor:
    """What the last node computes, [N, C, H, W], of the shape that the graph says. A mean makes logits out of it."""
    end = len(graph.nodes) - 1
    graph.add(Mean("logits", (end,)))
    seen: dict[int, NDArray[np.float32]] = {}
    out = run(graph, images, watch=lambda i, x: seen.__setitem__(i, x))
    assert list(seen) == list(range(len(graph.nodes)))
    for x, (channels, height, width) in zip(seen.values(), graph.shapes, strict=True):
        assert x.dtype == np.float32 and x.shape == (len(images), height, width, channels)
    np.testing.assert_array_equal(out, seen[end + 1][:, 0, 0])
    return torch.from_numpy(seen[end].copy()).permute(0, 3, 1, 2)


def centred() -> list[Node]:
    """Pixels of both signs, exact in float32."""
    return [Affine("centre", (0,), np.array([1 / 64, 1 / 32]), np.array([-2.0, -3.5]))]


def centred_torch(images: NDArray[np.uint8] = IMAGES) -> Tensor:
    x = torch.from_numpy(images).float()
    return x * torch.tensor([1 / 64, 1 / 32])[:, None, None] + torch.tensor([-2.0, -3.5])[:, None, None]


def padded(x: Tensor, padding: Padding, value: float = 0.0) -> Tensor:
    top, left, bottom, right = padding
    return F.pad(x, (left, right, top, bottom), value=value)


def test_input_is_the_pixels_as_they_are() -> None:
    assert torch.equal(last_map(graph_of()), torch.from_numpy(IMAGES).float())


def test_batch_norm() -> None:
    mean, deviation = np.array([100.0, 140.0]), np.array([70.0, 0.3])
    gain, offset = np.array([0.7, -2.0]), np.array([0.1, 3.0])
    m, d, g, o = (torch.tensor(a, dtype=torch.float32) for a in (mean, deviation, gain, offset))
    expected = F.batch_norm(torch.from_numpy(IMAGES).float(), m, d**2, g, o, eps=0.0)
    actual = last_map(graph_of(BatchNorm("bn", (0,), mean, deviation, gain, offset)))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-4)


def test_affine() -> None:
    gain, offset = (torch.tensor(a, dtype=torch.float32)[:, None, None] for a in POWERS)
    expected = torch.from_numpy(IMAGES).float() * gain + offset
    assert torch.equal(last_map(graph_of(Affine("scale", (0,), *POWERS))), expected)


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_activation(low: float) -> None:
    expected = F.threshold(centred_torch(), low, low)
    assert torch.equal(last_map(graph_of(*centred(), Activation("relu", (1,), low))), expected)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("low", [0.0, -1.0])
def test_quantised_activation(bits: int, low: float) -> None:
    """Halves of a step occur, and they go up as they do in training."""
    layer = QuantizedActivation(bits, low)
    x = centred_torch() * 4
    halves = (x / layer.step) % 1 == 0.5
    assert bits == 8 or halves.any()
    node = Activation("act", (2,), low, layer.step, 2**bits)
    scale = Affine("scale", (1,), np.array([4.0, 4.0]), np.zeros(2))
    assert torch.equal(last_map(graph_of(*centred(), scale, node)), layer(x))


@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(1, 3),
    st.tuples(*[st.integers(0, 2)] * 4),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)
def test_conv(kernel: tuple[int, int], stride: int, padding: Padding, rows: int, seed: int) -> None:
    bits = np.random.default_rng(seed).random((rows, *kernel, 2)) < 0.5
    weights = torch.from_numpy(np.where(bits, np.float32(0.125), np.float32(-0.125))).permute(0, 3, 1, 2)
    expected = F.conv2d(padded(centred_torch(), padding), weights, stride=stride)
    actual = last_map(graph_of(*centred(), Conv("conv", (1,), bits, 0.125, stride, padding)))
    assert torch.equal(actual, expected)  # every number is exact in float32


@given(
    st.sampled_from([((1, 1), 2), ((2, 2), 2), ((3, 3), 2), ((3, 2), 1), ((7, 6), 1)]), st.integers(0, 1), st.booleans()
)
def test_average_leaves_padding_out_of_its_divisor(window: tuple[tuple[int, int], int], append: int, pad: bool) -> None:
    kernel, stride = window
    half = (kernel[0] // 2, kernel[1] // 2) if pad else (0, 0)
    expected = F.avg_pool2d(centred_torch(), kernel, stride, half, count_include_pad=False)
    expected = F.pad(expected, (0, 0, 0, 0, 0, append))
    actual = last_map(graph_of(*centred(), Average("pool", (1,), kernel, stride, half * 2, append)))
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


def test_average_with_padding_on_one_side() -> None:
    """The window that hangs over the right edge averages what it sees."""
    x = centred_torch()
    expected = F.avg_pool2d(x, 3, 2, ceil_mode=True, count_include_pad=False)  # hangs over by one column
    actual = last_map(graph_of(*centred(), Average("pool", (1,), (3, 3), 2, (0, 0, 0, 1))))
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


@given(st.tuples(st.integers(1, 3), st.integers(1, 3)), st.integers(1, 3), st.tuples(*[st.integers(0, 2)] * 4))
def test_max_never_takes_padding(kernel: tuple[int, int], stride: int, sides: Padding) -> None:
    padding: Padding = tuple(min(p, kernel[i % 2] - 1) for i, p in enumerate(sides))  # type: ignore[assignment]
    x = centred_torch() - 20  # negative everywhere: a padding of 0 would win
    below = Affine("below", (1,), np.ones(2), np.full(2, -20.0))
    expected = F.max_pool2d(padded(x, padding, -torch.inf), kernel, stride)
    assert torch.equal(last_map(graph_of(*centred(), below, Max("pool", (2,), kernel, stride, padding))), expected)


def test_add_and_mean_and_values_read_twice() -> None:
    x = centred_torch()
    twice = graph_of(*centred(), Add("double", (1, 1)), Add("sum", (0, 2)), Mean("mean", (3,)))
    expected = (torch.from_numpy(IMAGES).float() + 2 * x).mean((2, 3), keepdim=True)
    torch.testing.assert_close(last_map(twice), expected, rtol=1e-6, atol=1e-5)
    assert twice.shapes[4] == (2, 1, 1)
    assert twice.users(1) == [2] and twice.users(0) == [1, 3] and twice.users(4) == [5]


def test_a_residual_network_keeps_its_stream() -> None:
    """A value that is read late is still there, and one output per image and class comes back."""
    bits = RNG.random((2, 3, 3, 2)) < 0.5
    weights = torch.from_numpy(np.where(bits, np.float32(0.25), np.float32(-0.25))).permute(0, 3, 1, 2)
    graph = graph_of(
        *centred(),
        Activation("relu", (1,)),
        Conv("conv1", (2,), bits, 0.25, 1, (1, 1, 1, 1)),
        Activation("relu2", (3,), -1.0),
        Conv("conv2", (4,), bits, 0.25, 1, (1, 1, 1, 1)),
        Add("add", (1, 5)),
        Mean("pool", (6,)),
    )
    x = centred_torch()
    inner = F.threshold(F.conv2d(x.relu(), weights, padding=1), -1.0, -1.0)
    expected = (x + F.conv2d(inner, weights, padding=1)).mean((2, 3))
    torch.testing.assert_close(torch.from_numpy(run(graph, IMAGES)), expected, rtol=1e-5, atol=1e-5)


def refusal(*nodes: Node) -> str:
    graph = graph_of(*nodes[:-1])
    with pytest.raises(OnebitError) as caught:
        graph.add(nodes[-1])
    assert len(graph.nodes) == len(graph.shapes) == len(nodes)  # the refused node left nothing behind
    return str(caught.value)


ONES, THREE = np.ones(2), np.ones(3)
BITS = np.ones((4, 3, 3, 2), bool)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (BatchNorm("bn", (0,), THREE, ONES, ONES, ONES), "mean has shape (3,), the map has 2 channels"),
        (BatchNorm("bn", (0,), ONES, THREE, ONES, ONES), "deviation has shape (3,), the map has 2 channels"),
        (BatchNorm("bn", (0,), ONES, ONES, THREE, ONES), "gain has shape (3,), the map has 2 channels"),
        (BatchNorm("bn", (0,), ONES, ONES, ONES, ONES[None]), "offset has shape (1, 2), the map has 2 channels"),
        (BatchNorm("bn", (0,), np.array([0, np.nan]), ONES, ONES, ONES), "mean of channel 1 is not finite"),
        (BatchNorm("bn", (0,), ONES, np.array([np.inf, 1]), ONES, ONES), "deviation of channel 0 is not finite"),
        (BatchNorm("bn", (0,), ONES, np.array([1, 0.0]), ONES, ONES), "deviation of channel 1 is not positive"),
        (BatchNorm("bn", (0,), ONES, np.array([-1.0, 1]), ONES, ONES), "deviation of channel 0 is not positive"),
        (Affine("a", (0,), THREE, ONES), "gain has shape (3,), the map has 2 channels"),
        (Affine("a", (0,), ONES, np.array([-np.inf, 0])), "offset of channel 0 is not finite"),
        (Conv("c", (0,), BITS[..., :1], 1.0), "weights (4, 3, 3, 1) do not fit a map of 2 channels"),
        (Conv("c", (0,), BITS[0], 1.0), "weights (3, 3, 2) do not fit a map of 2 channels"),
        (Conv("c", (0,), BITS, 0.0), "scale 0.0 is not positive"),
        (Conv("c", (0,), BITS, -1.0), "scale -1.0 is not positive"),
        (Conv("c", (0,), BITS, float("inf")), "scale inf is not positive"),
        (Conv("c", (0,), BITS, float("nan")), "scale nan is not positive"),
        (Conv("c", (0,), np.ones((1, 8, 1, 2), bool), 1.0), "a window of 8x1 does not fit into a map of 7x6"),
        (Average("p", (0,), (1, 7), 1), "a window of 1x7 does not fit into a map of 7x6"),
        (Average("p", (0,), (2, 2), 2, (2, 0, 0, 0)), "a window lies in the padding alone"),
        (Max("p", (0,), (9, 1), 1, (1, 0, 0, 0)), "a window of 9x1 does not fit into a map of 7x6"),
        (Max("p", (0,), (1, 1), 1, (0, 0, 0, 1)), "a window lies in the padding alone"),
    ],
)
def test_add_refuses_by_the_name_of_the_layer(node: Node, message: str) -> None:
    assert refusal(node) == f"layer {node.name!r}: {message}"


def test_add_refuses_sums_of_different_maps() -> None:
    pool = Average("pool", (0,), (1, 1), 1, append=3)
    message = "layer 'sum': cannot add maps of (2, 7, 6) and (5, 7, 6) (channels, height, width)"
    assert refusal(pool, Add("sum", (0, 1))) == message
