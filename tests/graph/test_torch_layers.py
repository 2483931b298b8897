"""What of torch cannot be packed is refused with the layer, the reason and the remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from onebit.binary import binarize, float_weights
from onebit.errors import OnebitError
from onebit.graph.trace import trace
from onebit.networks import Network, build
from support.traced import CONV, Call, headed


class Several(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * mask


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class OwnForward(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


class Floor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.floor(x)


def poisoned(layer: Any, name: str) -> nn.Module:
    with torch.no_grad():
        tensor = layer.get_parameter(name) if name in dict(layer.named_parameters()) else layer.get_buffer(name)
        tensor.view(-1)[0] = float("nan")
    return layer


def twice_parametrized() -> nn.Module:
    conv = binarize(nn.Conv2d(2, 2, 1))
    parametrize.register_parametrization(conv, "weight", nn.Identity())
    return conv


def bits(*args: Any, **kwargs: Any) -> nn.Module:
    return binarize(nn.Conv2d(*args, **kwargs))


@pytest.mark.parametrize(
    ("layer", "name", "says"),
    [
        (nn.Conv2d(2, 2, 1), "0", "its weights are float; binarize it"),
        (binarize(nn.Conv2d(2, 2, 1), scale="bwn-channel"), "0", "one scale; train with 'he' or 'bwn-layer'"),
        (twice_parametrized(), "0", "second parametrization"),
        (bits(2, 2, 3, groups=2), "0", "groups 2: only 1"),
        (bits(2, 2, 2, dilation=2), "0", r"dilation \(2, 2\): only \(1, 1\)"),
        (bits(2, 2, 3, padding=1, padding_mode="circular"), "0", "padding_mode 'circular': only 'zeros'"),
        (bits(2, 2, 3, stride=(1, 2)), "0", r"stride \(1, 2\): use one for height and width"),
        (bits(2, 2, (9, 1), stride=(1, 2)), "0", "a window of 9x1 does not fit"),
        (bits(2, 2, 9), "0", "a window of 9x9 does not fit into a map of 6x6"),
        (bits(3, 2, 1), "0", "do not fit a map of 2 channels"),
        (poisoned(bits(2, 2, 1), "parametrizations.weight.original"), "0", "its weight is not finite"),
        (poisoned(bits(2, 2, 1), "bias"), "0", "its bias is not finite"),
        (OwnForward(2, 2, 1), "0.conv2d", "conv2d cannot be packed: use a Conv2d layer"),
        (binarize(OwnForward(2, 2, 1)), "0", "OwnForward cannot be packed"),
        (lambda x: F.conv2d(x, CONV.weight), "0.conv2d", "use a Conv2d layer"),
        (nn.ConvTranspose2d(2, 2, 1), "0", "ConvTranspose2d cannot be packed: use a Conv2d layer"),
        (binarize(nn.Linear(6, 2)), "0", r"flatten\(1\) in front of it"),
        (nn.BatchNorm2d(2, track_running_stats=False), "0", "train it with track_running_stats=True"),
        (nn.BatchNorm2d(3), "0", "the map has 2 channels"),
        (nn.BatchNorm1d(2), "0", "use BatchNorm2d"),
        (poisoned(nn.BatchNorm2d(2), "running_mean"), "0", "its running_mean is not finite: .* earlier checkpoint"),
        (poisoned(nn.BatchNorm2d(2), "running_var"), "0", "its running_var is not finite"),
        (poisoned(nn.BatchNorm2d(2), "weight"), "0", "its weight is not finite"),
        (nn.LayerNorm([2, 6, 6]), "0", "LayerNorm cannot be packed: use BatchNorm2d"),
        (nn.GELU(), "0", "GELU cannot be packed: use ReLU"),
        (lambda x: F.gelu(x), "0.gelu", "gelu cannot be packed: use ReLU"),
        (nn.Softmax(1), "0", "Softmax cannot be packed: a packed model is made of"),
        (nn.ReLU6(), "0", "ReLU6 cannot be packed: use ReLU"),
        (nn.MaxUnpool2d(2), "0", "MaxUnpool2d cannot be packed: a packed model is made of"),
        (nn.AvgPool2d(3, 2, 1), "0", "set count_include_pad=False"),
        (nn.AvgPool2d(2, divisor_override=3), "0", "divides otherwise"),
        (nn.MaxPool2d(2, dilation=2), "0", "dilation or indices"),
        (nn.MaxPool2d(2, return_indices=True), "0", "dilation or indices"),
        (nn.MaxPool2d(9), "0", "a window of 9x9 does not fit"),
        (nn.AdaptiveAvgPool2d(4), "0", "windows of several sizes; pool to 1"),
        (nn.ConstantPad2d(1, 0.5), "0", "only zeros around a map"),
        (nn.ZeroPad2d((-1, 0, 0, 0)), "0", "only zeros around a map"),
        (nn.ReflectionPad2d(1), "0", "ReflectionPad2d cannot be packed"),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), "0.pad", "only zeros around a map"),
        (lambda x: F.pad(x, (0, 0, 0, 0, 1, 0)), "0.pad", "or behind its channels"),
        (nn.Sequential(nn.ZeroPad2d(1), nn.ReLU()), "0.1", "only a convolution can read padded maps"),
        (nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(2)), "0.1", "only a convolution can read padded maps"),
        (lambda x: F.pad(x, (1, 1)).mean((2, 3), keepdim=True), "0.mean", "only a convolution"),
        (lambda x: torch.cat([x, x], 1), "0.cat", "cat cannot be packed: add maps instead"),
        (lambda x: x.chunk(2, 1)[0], "0.chunk", "chunk cannot be packed"),
        (lambda x: x[:, :, ::2, ::2], "0.getitem", "getitem cannot be packed"),
        (lambda x: x.cumsum(1), "0.cumsum", "cumsum cannot be packed"),
        (lambda x: Floor.apply(x), "0.floor", "floor cannot be packed"),
        (lambda x: x.T + 1, "0.getattr_1", "attribute 'T' of a tensor"),
        (lambda x: x.clamp(0, 6), "0.clamp", r"only max\(0, x\) and max\(-1, x\)"),
        (nn.Threshold(0.5, 0.5), "0", r"only max\(0, x\) and max\(-1, x\)"),
        (lambda x: F.dropout(x, 0.5), "0.dropout", "give it training=self.training"),
        (lambda x: x.int(), "0.int_1", "int cannot be packed"),
        (lambda x: x.to(torch.uint8), "0.to", "rounds"),
        (lambda x: x - x, "0.sub", "only their sum"),
        (lambda x: x * x, "0.mul", "only a product with a constant"),
        (lambda x: 1 / x, "0.truediv", "only a division by a constant"),
        (lambda x: x / 0, "0.truediv", "division by zero"),
        (lambda x: torch.div(x, 2, rounding_mode="floor"), "0.div", "with rounding"),
        (lambda x: torch.add(x, x, alpha=2), "0.add", "alpha=2"),
        (lambda x: x + x.mean((2, 3), keepdim=True), "0.add", "cannot add maps"),
        (lambda x: x + x.flatten(1), "0.add", "cannot add a map"),
        (lambda x: x * [1.0, 2.0], "0.mul", "constant of type .*list: use a number"),
        (lambda x: x * torch.ones(6), "0.mul", r"one number a channel, \[1, 2, 1, 1\]"),
        (lambda x: x * torch.ones(3, 1, 1), "0.mul", "on a map of 2 channels"),
        (lambda x: x + torch.ones(2, 1, 1) / torch.zeros(1), "0.add", "constant is not finite"),
        (lambda x: x.mean(1, keepdim=True), "0.mean", "only over height and width"),
        (lambda x: x.mean((2, 3), dtype=torch.float64), "0.mean", "unexpected keyword argument 'dtype'"),
        (lambda x: x.view(1, -1), "0.view", "only flatten"),
        (lambda x: x.view(torch.int32), "0.view", "only flatten"),
        (lambda x: torch.flatten(x), "0.flatten", "only flatten"),
        (lambda x: x + torch.ones(x.size(1)) @ torch.ones(3), "0.matmul", "mend the arithmetic of its constants"),
        (Branch(), "0", "decides by the data .* take the decision out of forward"),
        (lambda x: x + np.asarray(x).sum(), "0", "cannot be recorded by torch.fx"),
    ],
)
def test_refusals_name_the_layer_the_reason_and_the_remedy(layer: Any, name: str, says: str) -> None:
    with pytest.raises(OnebitError, match=says) as caught:
        trace(headed(layer), channels=2, size=6)
    assert str(caught.value).startswith(f"layer {name!r}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (nn.Sequential(*headed(), nn.Softmax(1)), "layer '2': Softmax at the end: leave it out"),
        (Call(lambda x: F.log_softmax(x.mean((2, 3)), 1)), "layer 'log_softmax': log_softmax at the end: leave it out"),
        (Call(lambda x: (x.mean((2, 3)), x)), "layer 'mean': the network returns several outputs"),
        (Call(lambda x: {"logits": x.mean((2, 3))}), "layer 'mean': the network returns several outputs"),
        (Call(lambda x: 3), "something else than a tensor"),
        (
            nn.Sequential(nn.ReLU()),
            r"layer '0': the network returns a map of \(2, 6, 6\) .*, not logits \[N, classes\]",
        ),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1)), "end it with global average pooling and flatten"),
        (nn.Sequential(nn.Flatten()), "returns the features of a map"),
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(72)), "layer '1': .* use BatchNorm2d in front of flatten"),
        (nn.Sequential(nn.Flatten(), nn.MaxPool2d(2)), "layer '1': .* move it in front of flatten"),
        (nn.Sequential(*headed(), nn.BatchNorm2d(2)), "layer '2': .* use BatchNorm1d"),
        (binarize(nn.Sequential(nn.Flatten(), nn.Linear(70, 2))), "layer '1': 70 features do not fit .* 72 numbers"),
        (Several(), "network Several: its forward takes 'mask'"),
        (Branch(), "network Branch: its forward decides by the data"),
    ],
)
def test_refusals_of_whole_networks(net: nn.Module, says: str) -> None:
    with pytest.raises(OnebitError, match=says):
        trace(net, channels=2, size=6)


def test_float_weights_of_a_binary_network_for_a_while_are_refused() -> None:
    net = headed(binarize(nn.Conv2d(2, 2, 1)))
    with float_weights(net), pytest.raises(OnebitError, match="layer '0': its weights are float"):
        trace(net, channels=2, size=4)
    trace(net, channels=2, size=4)


def test_a_float_network_is_refused_at_its_first_layer() -> None:
    net = build(Network(depth=8, width=0.25, weights="float"), classes=2, channels=3, size=8)
    with pytest.raises(OnebitError, match=r"layer 'stem': its weights are float; binarize it \(onebit.binarize\)"):
        trace(net, channels=3, size=8)
