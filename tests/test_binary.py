"""eq. 1: scale, sign and gradient against the closed form; any module; the machinery people use around it."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from onebit import binarize, binary_layers, float_weights
from onebit.binary import latent_weight
from onebit.errors import OnebitError


def conv() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(5, 7, 3, bias=False)


def test_weight_is_scale_times_sign_and_sign_of_zero_is_plus() -> None:
    layer = conv()
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = 0.0
        layer.weight[0, 0, 0, 1] = -0.0
    latent = layer.weight.detach().clone()
    binarize(layer)
    s = math.sqrt(2 / (3 * 3 * 5))
    expected = torch.tensor([s if v >= 0 else -s for v in latent.flatten().tolist()]).view_as(latent)
    assert torch.equal(layer.weight, expected)
    assert layer.weight[0, 0, 0, 0] > 0 and layer.weight[0, 0, 0, 1] > 0


def test_gradient_goes_to_the_latent_weight_unscaled_and_unclipped() -> None:
    layer = conv()
    with torch.no_grad():
        layer.weight.mul_(50)  # far outside [-1, 1]: a clipped estimator would give zeros
    binarize(layer)
    x = torch.randn(2, 5, 6, 6)
    w = layer.weight.detach().clone().requires_grad_()
    F.conv2d(x, w).square().sum().backward()
    layer(x).square().sum().backward()
    assert w.grad is not None
    torch.testing.assert_close(latent_weight(layer).grad, w.grad)


@pytest.mark.parametrize("scale", ["bwn-layer", "bwn-channel"])
def test_bwn_gradient_is_the_closed_form(scale: str) -> None:
    layer = conv().double()
    latent = layer.weight.detach().clone()
    binarize(layer, scale)  # type: ignore[arg-type]
    g = torch.randn_like(latent)
    (layer.weight * g).sum().backward()
    sign = torch.where(latent >= 0, 1.0, -1.0)
    dims = (0, 1, 2, 3) if scale == "bwn-layer" else (1, 2, 3)
    n = latent.numel() if scale == "bwn-layer" else latent[0].numel()
    alpha = latent.abs().sum(dims, keepdim=True) / n
    torch.testing.assert_close(layer.weight.detach(), alpha * sign)
    expected = alpha * g + sign * (g * sign).sum(dims, keepdim=True) / n
    torch.testing.assert_close(latent_weight(layer).grad, expected)


def test_float_weights_context_restores_even_after_an_error() -> None:
    layer = binarize(conv())
    one_bit = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match="boom"), float_weights(layer):
        assert torch.equal(layer.weight, latent_weight(layer))
        raise RuntimeError("boom")
    assert torch.equal(layer.weight, one_bit)


def test_exclusions_by_name_and_their_errors() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 1))
    binarize(net, exclude=["0"])
    assert list(binary_layers(net)) == ["2"]
    with pytest.raises(OnebitError, match="'3'"):
        binarize(net, exclude=["3"])
    with pytest.raises(OnebitError, match="nothing to binarize"):
        binarize(nn.ReLU())
    with pytest.raises(OnebitError, match="'he'"):
        binarize(conv(), "hee")  # type: ignore[arg-type]


def test_deepcopy_and_state_dict_hold_the_latent_weights() -> None:
    net = binarize(nn.Sequential(conv(), nn.Flatten()))
    other = copy.deepcopy(net)
    with torch.no_grad():
        latent_weight(other[0]).neg_()
    assert torch.equal(other[0].weight, -net[0].weight)
    other.load_state_dict(net.state_dict())
    assert torch.equal(latent_weight(other[0]), latent_weight(net[0]))


def test_autocast_keeps_signs_and_float32_gradients() -> None:
    layer = binarize(conv())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(torch.randn(2, 5, 6, 6)).float().sum().backward()
    gradient = latent_weight(layer).grad
    assert gradient is not None and gradient.dtype == torch.float32 and gradient.abs().sum() > 0


class PlainResNet(nn.Module):
    """A residual network of a user, in plain torch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm, self.conv = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.conv(self.norm(x).relu())
        return self.head(x.relu().mean((2, 3)))


def test_a_plain_torch_resnet_trains_binarized() -> None:
    torch.manual_seed(0)
    net = binarize(PlainResNet())
    x = torch.randn(64, 1, 8, 8)
    y = (x.amax((1, 2, 3)) > 2.5).long()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(80):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert len(net.conv.weight.detach().abs().unique()) == 1
