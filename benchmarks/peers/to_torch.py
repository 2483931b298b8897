"""The layers of `network` as a torch module that can be exported and quantised; input float32 [N, C, H, W]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from network import Layer
from torch import Tensor, nn


class Network(nn.Module):
    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        self.layers = layers
        self.parts = nn.ModuleList(_part(layer) for layer in layers)

    def forward(self, x: Tensor) -> Tensor:
        made: dict[int, Tensor] = {-1: x}
        for i, (layer, part) in enumerate(zip(self.layers, self.parts, strict=True)):
            made[i] = part(*(made[s] for s in layer.sources))
        return made[len(self.layers) - 1]


class Affine(nn.Module):
    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.scale, self.bias = (_fixed(a[:, None, None]) for a in (layer.scale, layer.bias))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.bias


class Add(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class MoreChannels(nn.Module):
    def __init__(self, more: int) -> None:
        super().__init__()
        self.more = more

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, self.more))


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def _part(layer: Layer) -> nn.Module:
    top, left, bottom, right = layer.pads
    even = (top, left) == (bottom, right)
    pad = (top, left) if even else (0, 0)
    parts: list[nn.Module] = []
    if layer.kind == "affine":
        parts.append(Affine(layer))
    elif layer.kind == "conv":
        if not even:
            parts.append(nn.ZeroPad2d((left, right, top, bottom)))
        out, into, *kernel = layer.weight.shape
        conv = nn.Conv2d(into, out, tuple(kernel), layer.stride, pad, bias=layer.bias is not None)
        parts.append(_filled(conv, layer))
    elif layer.kind == "add":
        parts.append(Add())
    elif layer.kind == "head":
        parts.append(Mean() if layer.pooled else nn.Flatten())
        parts.append(_filled(nn.Linear(layer.weight.shape[1], len(layer.weight)), layer))
    else:
        if not even and (top, left) != (0, 0):
            raise SystemExit("torch pools with one padding on both sides, or one beyond the end")
        window = dict(kernel_size=layer.kernel, stride=layer.stride, padding=pad, ceil_mode=not even)
        average = layer.kind == "average"
        parts.append(nn.AvgPool2d(**window, count_include_pad=False) if average else nn.MaxPool2d(**window))
        if layer.more:
            parts.append(MoreChannels(layer.more))
    if layer.low is not None:
        parts.append(nn.ReLU() if layer.low == 0 else nn.Hardtanh(layer.low, float("inf")))
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)


def _filled(module: nn.Conv2d | nn.Linear, layer: Layer) -> nn.Module:
    module.weight = _fixed(layer.weight)
    if layer.bias is not None:
        module.bias = _fixed(layer.bias)
    return module


def _fixed(array: object) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(array), requires_grad=False)
