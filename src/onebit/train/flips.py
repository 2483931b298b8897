"""How many weights change sign: all that an update ever changes in a 1-bit network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from onebit.binary import binary_layers, latent_weight


def signs_of(net: nn.Module) -> dict[str, Tensor]:
    """By 1-bit layer, which weights are +1: bool of the weight's shape, on its device; nothing for a float network."""
    return {name: latent_weight(layer).detach() >= 0 for name, layer in binary_layers(net).items()}


@torch.no_grad()
def share_of_flips(before: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> dict[str, float]:
    """By layer, the share of weights whose sign (bool) is another one; the device is waited for once.

    >>> share_of_flips({"a": torch.tensor([True, False])}, {"a": torch.tensor([True, True])})
    {'a': 0.5}
    """
    if not now:
        return {}
    counts = torch.stack([(now[name] != before[name]).sum() for name in now]).tolist()
    return {name: count / now[name].numel() for name, count in zip(now, counts, strict=True)}
