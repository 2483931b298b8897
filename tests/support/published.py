"""Small networks, written as the files in which the paper's author published his."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onebit.graph import author
from onebit.recipe import Network

torch = pytest.importorskip("torch")
scipy_io = pytest.importorskip("scipy.io")

from onebit.binary import fan_in, latent_weight  # noqa: E402
from onebit.networks import build  # noqa: E402

Values = dict[str, Any]
RECIPES = {
    "keras": {"padding": "bottom-right", "input_relu": False},
    "matlab": {"padding": "symmetric"},
    "plain": {"padding": "symmetric", "family": "plain"},
}


@functools.cache
def network(layout: str, classes: int = 10, depth: int = 8, width: float = 0.125) -> torch.nn.Module:
    """A random network with moments of its own, and gain and offset in the first batch-norm."""
    torch.manual_seed(0)
    net = build(Network(depth=depth, width=width, **RECIPES[layout]), classes=classes, channels=3, size=32)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.input_norm.weight.uniform_(0.5, 1.5)
        net.input_norm.bias.uniform_(-0.5, 1.5)
        net.train()(images(16))
        for norm in norms:  # away from what the pictures have, as after training
            norm.running_mean.add_(0.3 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean))
            norm.running_var.mul_(torch.empty_like(norm.running_var).uniform_(0.5, 2))
    return net.eval()


def images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def cells(items: list[np.ndarray], row: bool = False) -> np.ndarray:
    array = np.empty((1, len(items)) if row else (len(items), 1), object)
    for i, item in enumerate(items):
        array.flat[i] = item
    return array


def published(net: torch.nn.Module, layout: str, conv_start: int = 0, norm_start: int = 84) -> Values:
    """What the author would have stored of `net`."""
    convs = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    weights = [(latent_weight(c).detach().numpy() >= 0).transpose(2, 3, 1, 0) for c in convs]
    if layout == "keras":
        values: Values = {
            f"conv2d_{conv_start + i}" if conv_start + i else "conv2d": w[None] for i, w in enumerate(weights)
        }
        for i, n in enumerate(norms):
            rows = [n.weight.detach(), n.bias.detach()] if n.affine else []
            name = f"batch_normalization_v1_{norm_start + i}"
            values[name] = torch.stack([*rows, n.running_mean, n.running_var]).numpy()
        return {name: values[name] for name in sorted(values)}  # as strings: conv2d_10 comes before conv2d_2
    names = author.RESIDUAL if layout == "matlab" else author.PLAIN
    gain = 2.0 if layout == "plain" else 2**0.5
    moments = [torch.stack([n.running_mean, (n.running_var + n.eps).sqrt()], 1).numpy() for n in norms]
    scales = np.float32([[gain / fan_in(c.weight) ** 0.5] for c in convs])
    gains = [(n.weight.detach() if n.affine else torch.ones(n.num_features)).numpy()[:, None] for n in norms]
    offsets = [(n.bias.detach() if n.affine else torch.zeros(n.num_features)).numpy()[:, None] for n in norms]
    values = dict(zip(names, (cells(weights, True), scales, *map(cells, (moments, gains, offsets))), strict=True))
    values["Stride"] = np.uint8([[c.stride[0] for c in convs]])
    values["Padding"] = np.uint8([[c.kernel_size[0] // 2 for c in convs]])
    values |= {"LayerTypes": cells([np.array("conv")]), "Training": {"BatchSize": 125}}
    if layout == "matlab":
        values["PercentCorrectTest"] = np.array([[10.5, 63.4, 81.25]])
    return values


def written(tmp_path: Path, values: Values, compressed: bool = True) -> Path:
    path = tmp_path / "net.mat"
    scipy_io.savemat(path, values, do_compression=compressed)
    return path
