"""Networks whose trace is held to torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onebit.binary import binarize
from onebit.graph import nodes as g
from onebit.graph.trace import trace

CONV = nn.Conv2d(2, 2, 1)


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """Moments, gains (some negative, one zero, one tiny) and offsets as after training, or worse."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
                m.running_mean.normal_()
                m.running_var.uniform_(0.3, 3)
                if m.affine:
                    m.weight.normal_()
                    m.bias.normal_()
                    m.weight[0], m.weight[-1] = 0.0, 1e-6
            elif isinstance(m, nn.Conv2d | nn.Linear) and m.bias is not None:
                m.bias.normal_()
    return net


def pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def check(net: nn.Module, channels: int, *size: int, raw: bool = True) -> g.Graph:
    """The graph of `net` agrees with torch to float32 rounding; `raw` False: torch needs the pixels as float."""
    height, width = (*size, size[0])[:2]
    x = pixels(3, channels, height, width)
    graph = trace(net, channels=channels, size=(height, width))
    was = net.training
    with torch.no_grad():
        want = net.eval()(x if raw else x.float()).numpy()
    net.train(was)
    got = g.run(graph, x.numpy())
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * max(np.abs(want).max(), 1e-3))
    return graph


def kinds(graph: g.Graph) -> list[str]:
    return [type(node).__name__ for node in graph.nodes]


class Call(nn.Module):
    """A layer of one function, as users write them in forward."""

    def __init__(self, function: Callable[..., Any], *constants: Tensor) -> None:
        super().__init__()
        self.function = function
        for i, constant in enumerate(constants):
            self.register_buffer(f"constant{i}", constant)

    def forward(self, x: Tensor) -> Any:
        return self.function(x, *self.buffers())


def headed(*layers: nn.Module | Callable[..., Any]) -> nn.Sequential:
    """Logits of what some layers make of the pixels: their mean over the map."""
    named = [layer if isinstance(layer, nn.Module) else Call(layer) for layer in layers]
    return nn.Sequential(*named, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def signed(layer: nn.Module, channels: int, *size: int) -> nn.Sequential:
    """Two logits of what a layer makes of float pixels, every number with a random sign of its own."""
    features = layer(pixels(1, channels, *size).float()).numel()
    torch.manual_seed(features)
    return nn.Sequential(layer, nn.Flatten(), binarize(nn.Linear(features, 2, bias=False)))


# The networks of the recipes.
