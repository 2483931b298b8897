"""The graph of a network computes what torch computes, whoever wrote it, or says which layer cannot be packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from onebit.binary import binarize
from onebit.errors import OnebitError
from onebit.graph import nodes as g
from onebit.graph.trace import trace
from onebit.networks import Network, build
from onebit.networks.activations import QuantizedActivation, ShiftedReLU
from support.traced import Call, check, headed, kinds, randomised, signed


@pytest.mark.parametrize("padding", ["symmetric", "bottom-right"])
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (3, 13), (1, 8)])
@pytest.mark.parametrize("norm", ["fixed", "learned", "none"])
def test_wide_networks(norm: Any, channels: int, size: int, padding: Any) -> None:
    network = Network(
        width=0.25,
        depth=14 if size < 20 else 20,
        norm=norm,
        padding=padding,
        activation="shifted-relu" if norm == "none" else "relu",
        logit_divisor=3.0 if norm == "none" else 1.0,
        input_relu=size % 2 == 0,
    )
    net = randomised(build(network, classes=7, channels=channels, size=size))
    graph = check(net, channels, size)
    assert graph.shapes[-1] == (7, 1, 1)
    assert kinds(graph)[:3] == ["Input", "BatchNorm", "Activation" if size % 2 == 0 else "Conv"]
    assert (kinds(graph)[-1] == "Affine") == (norm == "none")  # the logit divisor; dividing by one is left out


@pytest.mark.parametrize("padding", ["symmetric", "bottom-right"])
@pytest.mark.parametrize(("family", "norm", "size"), [("plain", "fixed", 17), ("imagenet", "learned", 41)])
@pytest.mark.parametrize("scale", ["he", "bwn-layer"])
def test_plain_and_imagenet_networks(family: Any, norm: Any, size: int, padding: Any, scale: Any) -> None:
    depth = 18 if family == "imagenet" else 14
    network = Network(family=family, depth=depth, width=0.2, norm=norm, padding=padding, scale=scale)
    graph = check(randomised(build(network, classes=5, channels=3, size=size)), 3, size)
    assert kinds(graph).count("Max") == (family == "imagenet")
    assert kinds(graph).count("Average") == (3 if family == "imagenet" else 0)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("norm", ["fixed", "none"])
def test_networks_trained_with_quantised_activations(norm: Any, bits: Any) -> None:
    # the scale of bwn-layer is no simple fraction, so no number lies half way between two steps
    kind: Any = "shifted-relu" if norm == "none" else "relu"
    network = Network(depth=14, width=0.3, norm=norm, activation=kind, activation_bits=bits, scale="bwn-layer")
    graph = check(randomised(build(network, classes=10, channels=3, size=14)), 3, 14)
    steps = {(n.low, n.step, n.levels) for n in graph.nodes if isinstance(n, g.Activation) and n.step}
    assert steps == {(-1.0 if norm == "none" else 0.0, {8: 2**-5, 4: 2**-2}[bits], 2**bits)}


def test_nodes_are_named_after_the_layers_and_a_shortcut_is_one_node() -> None:
    net = build(Network(depth=14, width=0.25, padding="bottom-right"), classes=10, channels=3, size=8)
    graph = trace(net, channels=3, size=8)
    names = [node.name for node in graph.nodes]
    assert names[:4] == ["input", "input_norm", "input_act", "stem"]
    assert "body.2.conv1.1" in names and "body.2.add_2" in names  # what forward calls is named after its block
    (first, second) = [node for node in graph.nodes if isinstance(node, g.Average)]
    assert (first.name, first.append, first.padding) == ("body.2.shortcut.pool", 4, (0, 0, 1, 1))
    assert second.append == 8
    conv = next(node for node in graph.nodes if node.name == "body.2.conv1.1")
    assert isinstance(conv, g.Conv) and conv.padding == (0, 0, 1, 1) and conv.stride == 2


def test_the_module_is_left_as_it_was() -> None:
    net = randomised(build(Network(depth=8, width=0.25, norm="learned"), classes=3, channels=1, size=8))
    net.train()
    net.body[1].norm1.eval()  # type: ignore[index, union-attr]
    flags = [m.training for m in net.modules()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    attributes = {name: sorted(vars(m)) for name, m in net.named_modules()}
    trace(net, channels=1, size=8)
    with pytest.raises(OnebitError):
        trace(net, channels=2, size=8)
    assert [m.training for m in net.modules()] == flags
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert {name: sorted(vars(m)) for name, m in net.named_modules()} == attributes


def test_constants_are_not_written_into_the_module() -> None:
    net = headed(lambda x: x.float() / torch.tensor(255.0) - torch.ones(3, 1, 1) * 2)
    before = {name: sorted(vars(m)) for name, m in net.named_modules()}
    check(net, 3, 5)
    assert {name: sorted(vars(m)) for name, m in net.named_modules()} == before


# Networks of users.


def test_a_small_sequential_network() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, stride=2, bias=False),
        nn.BatchNorm2d(8, affine=False),
        nn.ReLU(),
        nn.Dropout2d(0.2),
        nn.Flatten(),
        nn.Linear(8 * 6 * 5, 12),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(12, 10),
    )
    graph = check(randomised(binarize(net)), 1, 28, 22, raw=False)
    assert [n.bits.shape for n in graph.nodes if isinstance(n, g.Conv)] == [
        (6, 3, 3, 1), (8, 3, 3, 6), (12, 6, 5, 8), (10, 1, 1, 12)]  # fmt: skip
    assert [n.name for n in graph.nodes if isinstance(n, g.Affine)] == ["0.bias", "9.bias", "13.bias"]


class PreActivation(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(c_in), nn.BatchNorm2d(c_out)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding="same", bias=False)
        self.extra, self.stride = c_out - c_in, stride

    def forward(self, x: Tensor) -> Tensor:
        skip = x
        if self.stride != 1:
            skip = F.pad(F.avg_pool2d(x, 2, ceil_mode=True), (0, 0, 0, 0, 0, self.extra))
        y = self.conv1(F.relu(self.bn1(x)))
        y = self.conv2(torch.relu(self.bn2(y)))
        y += skip
        return y


class OwnResNet(nn.Module):
    """With everything called in forward, and the pixels normalised by buffers."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1))
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.blocks = nn.ModuleList([PreActivation(6, 6, 1), PreActivation(6, 12, 2), PreActivation(12, 24, 2)])
        self.bn = nn.BatchNorm2d(24)
        self.fc = nn.Linear(24, classes, bias=False)

    def forward(self, x: Tensor, features: bool = False) -> Tensor:
        x = (x.to(torch.float32).div(255) - self.mean) / self.std
        x = F.max_pool2d(self.stem(x), kernel_size=3, stride=2, padding=1)
        for block in self.blocks:
            x = block(x)
        x = self.bn(x).clamp(min=0).contiguous()
        x = F.dropout(F.avg_pool2d(x, x.shape[2:]), 0.5, training=self.training)
        x = x.view(x.size(0), -1)
        return x if features else self.fc(x) * self.scale / (1 + 3)


def test_a_residual_network_of_functional_calls() -> None:
    graph = check(randomised(binarize(OwnResNet(10))), 3, 21, 26)
    assert kinds(graph)[:5] == ["Input", "Affine", "Affine", "Affine", "Conv"]
    assert kinds(graph)[-4:] == ["Mean", "Conv", "Affine", "Affine"]
    assert kinds(graph).count("Average") == 2 and kinds(graph).count("Add") == 3
    assert graph.nodes[1].name == "div"


def test_a_layer_that_is_used_twice_is_two_nodes() -> None:
    conv = binarize(nn.Conv2d(3, 3, 3, padding=1))
    graph = check(randomised(headed(conv, nn.ReLU(), conv)), 3, 6, raw=False)
    assert [n.name for n in graph.nodes if isinstance(n, g.Conv)] == ["0", "0"]


def test_layers_of_derived_classes_and_shared_weights() -> None:
    class Mine(nn.Conv2d):
        pass

    first, second = Mine(3, 3, 1), Mine(3, 3, 1)
    second.weight = first.weight
    graph = check(binarize(headed(first, second)), 3, 4, raw=False)
    bits = [n.bits for n in graph.nodes if isinstance(n, g.Conv)]
    assert np.array_equal(*bits)


def test_zero_weights_are_plus_one_and_bits_have_input_channels_last() -> None:
    conv = nn.Conv2d(2, 1, (1, 3), bias=False)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([[1.0, 0.0, -1.0], [-1.0, -0.0, 1.0]]).view(1, 2, 1, 3)
    node = trace(binarize(headed(conv)), channels=2, size=4).nodes[1]
    assert isinstance(node, g.Conv)
    assert node.bits.tolist() == [[[[True, False], [True, True], [False, True]]]]
    assert node.scale == pytest.approx((2 / 6) ** 0.5)


def test_the_scale_of_bwn_is_the_mean_of_the_layer() -> None:
    conv = binarize(nn.Conv2d(2, 4, 3), scale="bwn-layer")
    node = trace(headed(conv), channels=2, size=4).nodes[1]
    assert isinstance(node, g.Conv) and node.scale == pytest.approx(conv.weight[0, 0, 0, 0].abs().item(), rel=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: x.float().sub(100).relu(),
        lambda x: torch.clamp(x.float() - 100, min=0),
        lambda x: (x.float() - 100).clamp_min(0),
        lambda x: F.threshold(x.float() - 100, -1, -1),
        lambda x: F.relu(input=x - 100.0, inplace=True),
        lambda x: 100 - x.float(),
        lambda x: -x.float() + 7,
        lambda x: 2 * torch.mul(x.float(), 0.3),
        lambda x: sum([x.float(), x.float()]),
        lambda x: torch.add(x.float(), other=x.float()),
        lambda x: x.float().double().to(torch.float32).type_as(torch.zeros(1)).clone().detach(),
        lambda x: x.to(x.device).float() * x.shape[1] / x.ndim + x.dim(),
        lambda x: F.adaptive_avg_pool2d(x.float(), (None, 1)),
        nn.AdaptiveAvgPool2d((2, 2)),
        lambda x: F.pad(F.pad(x.float(), (0, 0, 0, 0, 0, 2)), (0, 0, 0, 0, 0, 1)),
        lambda x: F.avg_pool2d(x.float(), (6, 6), stride=(1, 3)),
        lambda x: F.avg_pool2d(x.float(), (2, 6), stride=(2, 5)),
        nn.Sequential(nn.Identity(), nn.Threshold(-1, -1), ShiftedReLU(), QuantizedActivation(4, -1.0)),
        Call(lambda x, a, b: (x + a) * b, torch.randn(3, 1, 1), torch.randn(1, 3, 1, 1)),
    ],
)
def test_functions_and_methods(layer: Any) -> None:
    check(headed(lambda x: x.float() - 90, layer), 3, 6)


@pytest.mark.parametrize(
    "head",
    [
        lambda x: x.float().mean((2, 3)),
        lambda x: torch.mean(x.float(), dim=[-1, -2], keepdim=True).flatten(1),
        lambda x: F.adaptive_avg_pool2d(x.float(), 1).reshape(x.shape[0], 3),
        lambda x: torch.flatten(x.float().mean((-2, -1), True), start_dim=1).relu() / 2 - torch.ones(3),
        lambda x: x.float().mean((3, 2), keepdim=True).view(-1, 3).view(-1, 3, 1, 1).flatten(1),
        lambda x: F.avg_pool2d(x.float(), 5).view((x.size()[0], -1)) * torch.tensor([[1.0, 2.0, 3.0]]),
    ],
)
def test_heads(head: Any) -> None:
    check(Call(head), 3, 5)


def test_padding_before_two_readers_and_appended_channels_that_are_padded() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(5, 4, 3), nn.Conv2d(5, 4, 3, padding=(1, 0))
            self.pool, self.trim = nn.AvgPool2d(2), nn.MaxPool2d((3, 1), 1)

        def forward(self, x: Tensor) -> Tensor:
            pooled = self.pool(x)
            x = F.pad(F.pad(pooled, (1, 0, 2, 1)), (0, 1, 0, 0, 0, 2))
            y = self.a(x) + self.trim(self.b(x))
            return y.mean((2, 3)) + F.pad(pooled, (0, 0, 0, 0, 0, 1)).mean((2, 3))

    graph = check(binarize(Padded()), 3, 9, raw=False)
    # the pooling has two readers, so that appended channels are nodes of their own
    assert [n.append for n in graph.nodes if isinstance(n, g.Average)] == [0, 2, 1]


def test_what_happens_in_place_is_seen_under_every_name() -> None:
    def forward(x: Tensor) -> Tensor:
        x = x.float() - 100
        same = x.contiguous()
        x -= 20
        F.relu(x, inplace=True)
        x.mul_(2).add_(same)
        y = x
        y /= 3
        for copy in (x.clone(), x * 1, x + 0, F.pad(x, (0, 0)), -x):  # these are tensors of their own
            copy += 5
            copy.relu_()
        return x + same

    check(headed(forward), 3, 4)


def test_layers_whose_result_nothing_reads_are_left_out() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = binarize(nn.Conv2d(1, 2, 1))

        def forward(self, x: Tensor) -> Tensor:
            return F.adaptive_avg_pool2d(x, 1).view(self.conv(x).size(0), 1)

    assert kinds(check(Unused(), 1, 4, raw=False)) == ["Input", "Mean"]


# Any parameters.


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_pooling_of_any_parameters(data: st.DataObject) -> None:
    integers = st.integers
    size = data.draw(st.tuples(integers(1, 9), integers(1, 9)))
    kernel = data.draw(st.tuples(integers(1, 4), integers(1, 4)))
    stride = data.draw(integers(1, 4))
    padding = tuple(data.draw(integers(0, k // 2)) for k in kernel)
    ceil = data.draw(st.booleans())
    maximum = data.draw(st.booleans())
    layer: nn.Module
    if maximum:
        layer = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
    else:
        layer = nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=not any(padding))
    try:
        net = signed(layer, 2, *size)
    except RuntimeError:
        with pytest.raises(OnebitError, match=r"layer '0': a window of .* does not fit"):
            trace(headed(layer), channels=2, size=size)
        return
    check(net, 2, *size, raw=False)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_convolution_of_any_padding(data: st.DataObject) -> None:
    integers = st.integers
    size = data.draw(st.tuples(integers(3, 8), integers(3, 8)))
    kernel = data.draw(st.tuples(integers(1, 4), integers(1, 4)))
    stride = data.draw(integers(1, 3))
    choices: list[Any] = ["valid", *(["same"] if stride == 1 else [])]
    padding = data.draw(st.one_of(st.tuples(integers(0, 3), integers(0, 3)), st.sampled_from(choices)))
    around = data.draw(st.tuples(*[integers(0, 3)] * 4))
    conv = binarize(nn.Conv2d(2, 3, kernel, stride, padding))
    layer = nn.Sequential(nn.ZeroPad2d(around), conv)
    try:
        net = signed(layer, 2, *size)
    except RuntimeError:
        with pytest.raises(OnebitError, match=r"layer '0.1': a window of .* does not fit"):
            trace(headed(layer), channels=2, size=size)
        return
    check(randomised(net), 2, *size, raw=False)


# Refusals.
