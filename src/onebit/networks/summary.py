"""What a network costs, layer by layer: weights, bits, multiply-accumulates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from onebit.binary import latent_weight, layer_scale


@dataclass(frozen=True)
class Layer:
    """One convolution or linear layer: `macs` are multiply-accumulates for one picture."""

    name: str
    shape: tuple[int, ...]
    bits: int
    macs: int

    @property
    def weights(self) -> int:
        return int(torch.Size(self.shape).numel())


@dataclass(frozen=True)
class Summary:
    """Totals of a network. `packed_bytes`: one bit a binary weight and four bytes of everything else."""

    layers: tuple[Layer, ...]
    other: int  # parameters and moments that are not convolution or linear weights

    @property
    def params(self) -> int:
        return sum(layer.weights for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def float_bytes(self) -> int:
        return 4 * (self.params + self.other)

    @property
    def packed_bytes(self) -> int:
        return sum(-(-layer.weights * layer.bits // 8) for layer in self.layers) + 4 * self.other


def summarize(module: nn.Module, *, channels: int, size: int) -> Summary:
    """Run one picture of zeros through `module` (in eval mode, moments untouched) and count.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False))
    >>> summarize(net, channels=3, size=8).macs == 3 * 4 * 9 * 64
    True
    """
    layers: list[Layer] = []
    handles = []

    def counting(name: str) -> object:
        def hook(layer: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            weight = latent_weight(layer)
            positions = output[0].numel() // weight.shape[0]
            bits = 1 if layer_scale(layer) else 8 * weight.element_size()
            layers.append(Layer(name, tuple(weight.shape), bits, weight.numel() * positions))

        return hook

    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            handles.append(layer.register_forward_hook(counting(name)))  # type: ignore[arg-type]
    training = module.training
    device = next(module.parameters()).device
    module.eval()
    try:
        with torch.no_grad():
            module(torch.zeros(1, channels, size, size, device=device))
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    state = [*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())]
    return Summary(tuple(layers), sum(t.numel() for t in state) - sum(layer.weights for layer in layers))
