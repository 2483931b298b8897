"""Shapes, paddings and pooling divisors against direct formulas."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from onebit.errors import OnebitError
from onebit.networks import build, parameter_count
from onebit.networks.activations import QuantizedActivation, ShiftedReLU
from onebit.networks.wide_resnet import Shortcut, convolution
from onebit.recipe import Network

BASE = Network(depth=8, width=0.5)


def pooled(x: torch.Tensor, before: int) -> torch.Tensor:
    """3x3 average pooling, stride 2, window by window, dividing by the pixels inside."""
    n = x.shape[-1]
    out = (n + 2 - 3) // 2 + 1 if before else (n + 1 - 3) // 2 + 1
    result = torch.zeros(*x.shape[:2], out, out)
    for i in range(out):
        for j in range(out):
            top, left = max(0, 2 * i - before), max(0, 2 * j - before)
            result[:, :, i, j] = x[:, :, top : 2 * i - before + 3, left : 2 * j - before + 3].mean((2, 3))
    return result


@pytest.mark.parametrize("padding", ["symmetric", "bottom-right"])
@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 8, 32])
def test_shortcut_pools_without_padding_in_the_divisor_and_appends_zeros(padding: str, size: int) -> None:
    x = torch.rand(2, 3, size, size)
    y = Shortcut(3, padding)(x)
    torch.testing.assert_close(y[:, :3], pooled(x, 1 if padding == "symmetric" else 0))
    assert y.shape[1] == 6 and not y[:, 3:].any()
    assert convolution(3, 6, 3, 2, padding)(x).shape[-1] == y.shape[-1]


@pytest.mark.parametrize("size", [8, 9, 28, 33])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weights": "float", "norm": "learned"},
        {"family": "plain"},
        {"family": "imagenet", "depth": 18, "padding": "bottom-right", "width": 0.1},
        {"norm": "none", "activation": "shifted-relu", "logit_divisor": 40.0},
        {"padding": "bottom-right", "input_relu": False, "activation_bits": 4},
        {"scale": "bwn-layer"},
    ],
)
def test_every_variant_runs_at_any_size_and_counts_by_the_formula(changes: dict[str, object], size: int) -> None:
    network = dataclasses.replace(BASE, **changes)  # type: ignore[arg-type]
    if network.family == "imagenet" and size < 32:
        with pytest.raises(OnebitError, match="at least 32"):
            build(network, classes=3, channels=1, size=size)
        return
    net = build(network, classes=3, channels=1, size=size)
    logits = net(torch.randint(0, 256, (2, 1, size, size), dtype=torch.uint8))
    assert logits.shape == (2, 3) and torch.isfinite(logits).all()
    weights = sum(p.numel() for p in net.parameters() if p.dim() == 4)
    assert weights == parameter_count(network, classes=3, channels=1)
    learned = sum(p.numel() for n, p in net.named_parameters() if p.dim() == 1 and not n.startswith("input_norm"))
    assert (learned > 0) == (network.norm == "learned")
    assert not any(n.endswith("conv1.bias") for n, _ in net.named_parameters())


def test_he_standard_deviation_and_the_plain_networks_gain() -> None:
    torch.manual_seed(0)
    for family, variance in (("wide", 2.0), ("plain", 4.0)):
        net = build(dataclasses.replace(BASE, family=family, width=4), classes=10, channels=3, size=32)  # type: ignore[arg-type]
        latent = net.state_dict()["body.2.conv2.parametrizations.weight.original"]
        assert abs(latent.var().item() * 9 * 256 / variance - 1) < 0.02
        assert abs(net.body[2].conv2.weight.abs().max().item() - (variance / (9 * 256)) ** 0.5) < 1e-7  # type: ignore[index, union-attr]


@pytest.mark.parametrize(("depth", "family"), [(21, "wide"), (7, "plain"), (20, "imagenet"), (2, "wide")])
def test_impossible_depth_is_refused_with_a_possible_one(depth: int, family: str) -> None:
    with pytest.raises(OnebitError, match="try"):
        build(Network(depth=depth, family=family), classes=2, channels=1, size=64)  # type: ignore[arg-type]


@pytest.mark.parametrize(("bits", "offset"), [(8, 0.0), (4, 0.0), (8, -1.0), (4, -1.0)])
def test_quantized_activation_is_the_packed_rounding(bits: int, offset: float) -> None:
    x = torch.linspace(-3, 12, 4001).requires_grad_()
    layer = QuantizedActivation(bits, offset)
    y = layer(x)
    step = {8: 1 / 32, 4: 1 / 4}[bits]
    low = round(offset / step)
    for value, got in zip(x.tolist(), y.tolist(), strict=True):
        q = int((value / step + 0.5) // 1)  # the packed model's (a * b + half) >> 15: round half up
        assert got == max(low, min(low + 2**bits - 1, q)) * step
    y.sum().backward()
    inside = (y > low * step) & (y < (low + 2**bits - 1) * step)
    assert x.grad is not None and bool((x.grad[inside] == 1).all())
    assert x.grad[0] == 0 and (bits == 8 or x.grad[-1] == 0)


def test_shifted_relu() -> None:
    assert ShiftedReLU()(torch.tensor([-2.0, -1.0, -0.5, 3.0])).tolist() == [-1.0, -1.0, -0.5, 3.0]
