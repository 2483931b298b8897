"""What a network costs, layer by layer: weights, bits, multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onebit.binary import latent_weight, layer_scale


@dataclass(frozen=True)
class Layer:
    """One convolution or linear layer. `shape`: its weight's; `bits` a weight; `macs`: multiply-accumulates a picture."""

    name: str
    shape: tuple[int, ...]
    bits: int
    macs: int

    @property
    def weights(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Summary:
    """Totals of a network. `packed_bytes`: one bit a binary weight and four bytes of everything else."""

    layers: tuple[Layer, ...]
    other: int  # parameters and moments that are not convolution or linear weights
    macs: int  # multiply-accumulates of one picture

    @property
    def params(self) -> int:
        """Convolution and linear weights: what the paper counts."""
        return sum(layer.weights for layer in self.layers)

    @property
    def float_bytes(self) -> int:
        return 4 * (self.params + self.other)

    @property
    def packed_bytes(self) -> int:
        return sum(-(-layer.weights * layer.bits // 8) for layer in self.layers) + 4 * self.other


def summarize(module: nn.Module, *, channels: int, size: int) -> Summary:
    """Run one picture of zeros [1, channels, size, size] through `module` (in eval mode, nothing changes) and count.

    A layer that runs twice counts its weights once and its multiply-accumulates twice; so do layers that share a
    weight. Layers that did not run count no multiply-accumulates.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False))
    >>> summarize(net, channels=3, size=8).macs == 3 * 4 * 9 * 64
    True
    """
    layers = {name: m for name, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    macs = dict.fromkeys(layers, 0)
    training = [(m, m.training) for m in module.modules()]

    def counting(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
            weight = latent_weight(layer)
            macs[name] += weight.numel() * (output.numel() // weight.shape[0])  # weights times positions

        return hook

    handles = [layer.register_forward_hook(counting(name)) for name, layer in layers.items()]
    state = {id(t): t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()}
    try:
        module.eval()
        with torch.no_grad():
            module(torch.zeros(1, channels, size, size, device=next(iter(state.values())).device))
    finally:
        for m, flag in training:
            m.training = flag
        for handle in handles:
            handle.remove()
    once = {id(latent_weight(layer)): name for name, layer in reversed(layers.items())}  # the first of a shared weight
    counted = []
    for name in (n for n in layers if n in once.values()):
        weight = latent_weight(layers[name])
        bits = 1 if layer_scale(layers[name]) else 8 * weight.element_size()
        counted.append(Layer(name, tuple(weight.shape), bits, macs[name]))
    weights = sum(layer.weights for layer in counted)
    return Summary(tuple(counted), sum(t.numel() for t in state.values()) - weights, sum(macs.values()))
