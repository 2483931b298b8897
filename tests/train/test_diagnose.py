"""The diagnosis names the place where the numbers end."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from onebit import binarize
from onebit.binary import latent_weight
from onebit.train.diagnose import non_finite, weights_finite


class Breaks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 0.0


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return binarize(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 1)))  # type: ignore[return-value]


X = torch.rand(2, 1, 6, 6)


def test_a_weight() -> None:
    broken = net()
    with torch.no_grad():
        latent_weight(broken[3])[0, 0] = math.nan
    assert torch.isfinite(broken(X)).all()  # one bit hides it,
    assert weights_finite(net()) and not weights_finite(broken)  # so it is looked for
    message = non_finite(broken, X, 3, 17, 0.1)
    assert "epoch 3, mini-batch 17" in message and "weights of 3;" in message and "--set lr=0.033" in message
    assert "\n" not in message


def test_the_first_layer_whose_output_is_not_finite() -> None:
    assert "output of layer 2;" in non_finite(nn.Sequential(*net()[:2], Breaks(), net()[3]), X, 1, 1, 0.1)
    # a binary convolution is a layer, its parametrization is not
    assert "output of layer 0;" in non_finite(net(), X * math.inf, 1, 1, 0.1)
    assert not any(m._forward_hooks for m in net().modules())


def test_the_loss_and_the_largest_weight() -> None:
    fine = net()
    with torch.no_grad():
        latent_weight(fine[3])[1, 1] = 77.0
    message = non_finite(fine, X, 1, 1, 0.1)
    assert "first seen in the loss itself" in message and "largest weight 77 in 3;" in message
