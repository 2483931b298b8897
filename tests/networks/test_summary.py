"""Costs against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from onebit import binarize
from onebit.networks import Network, build
from onebit.networks.summary import summarize


def test_a_small_network_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),  # 108 weights at 4x4 positions
        nn.BatchNorm2d(4),  # 16 numbers
        nn.Conv2d(4, 8, 1, groups=2),  # 16 weights at 4x4, 8 biases
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),  # 40 weights, 5 biases
    )
    binarize(net, exclude="5")
    costs = summarize(net, channels=3, size=8)
    assert [(layer.name, layer.weights, layer.bits, layer.macs) for layer in costs.layers] == [
        ("0", 108, 1, 108 * 16),
        ("2", 16, 1, 16 * 16),
        ("5", 40, 32, 40),
    ]
    assert costs.params == 164 and costs.other == 16 + 8 + 5
    assert costs.macs == 108 * 16 + 16 * 16 + 40
    assert costs.float_bytes == 4 * (164 + 29)
    assert costs.packed_bytes == 14 + 2 + 160 + 4 * 29  # 108 bits are 14 bytes


def test_shared_weights_count_once_and_every_use_is_work() -> None:
    layer = nn.Conv2d(2, 2, 1, bias=False)
    net = nn.Sequential(layer, layer, nn.Conv2d(2, 2, 1, bias=False))
    net[2].weight = layer.weight
    costs = summarize(net, channels=2, size=3)
    assert costs.params == 4 and costs.other == 0 and costs.macs == 3 * 4 * 9


def test_nothing_changes() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.BatchNorm2d(2)).train()
    net[2].eval()  # a frozen layer stays frozen
    before = {k: v.clone() for k, v in net.state_dict().items()}
    summarize(net, channels=1, size=5)
    assert [m.training for m in net] == [True, True, False]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not net[0]._forward_hooks


@pytest.mark.parametrize(
    ("network", "classes", "size", "mebibytes"),
    [
        (Network(depth=20, width=10), 10, 32, 3.2),
        (Network(family="imagenet", depth=18, width=2.5, norm="learned"), 1000, 224, 8.3),
    ],
)
def test_the_papers_model_sizes(network: Network, classes: int, size: int, mebibytes: float) -> None:
    with torch.device("meta"):
        net = build(network, classes=classes, channels=3, size=size)
    costs = summarize(net, channels=3, size=size)
    weights = sum(-(-layer.weights // 8) for layer in costs.layers)
    assert round(weights / 2**20, 1) == mebibytes
    assert weights < costs.packed_bytes < 1.02 * weights  # moments, gains and offsets are small beside it
