"""Why a loss stopped being a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from onebit.binary import binary_layers, latent_weight

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def weights_finite(net: nn.Module) -> bool:
    """False once a parameter holds NaN or infinity. A 1-bit layer hides it: its weight is +-s whatever W is."""
    with torch.no_grad():
        return bool(torch.stack([torch.isfinite(p).all() for p in net.parameters()]).all())


@torch.no_grad()
def non_finite(net: nn.Module, images: Tensor, epoch: int, step: int, lr: float) -> str:
    """One line: where the first number that is not finite appears (a weight, else a layer's output) and what to try.

    `images` [N, C, H, W] is the mini-batch at hand; `net` runs on it as it is (in train mode: with several processes,
    in all of them).
    """
    bad = [name for name, p in net.named_parameters() if not torch.isfinite(p).all()]
    if bad:
        where = f"weights of {_plain(bad[0])}" + (f" and {len(bad) - 1} more tensors" if len(bad) > 1 else "")
    else:
        layer = _first_layer(net, images)
        where = "the loss itself" if layer is None else f"output of layer {layer}"
    layers = binary_layers(net) or {n: m for n, m in net.named_modules() if isinstance(m, _LAYERS)}
    largest = max(((float(latent_weight(m).abs().max()), n) for n, m in layers.items()), default=(float("nan"), "none"))
    return (
        f"loss is not finite at epoch {epoch}, mini-batch {step}: first seen in {where}; learning rate {lr:.4g}, largest weight "
        f"{largest[0]:.3g} in {largest[1]}; try a smaller lr (--set lr={lr / 3:.2g}) or precision=float32; "
        "checkpoints saved before are intact"
    )


def _plain(name: str) -> str:
    return name.replace(".parametrizations.weight.original", "")


def _first_layer(net: nn.Module, images: Tensor) -> str | None:
    """The first layer, in the order of running, whose output is not finite although nothing before it was."""
    found: list[str] = []

    def watching(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not found and isinstance(output, Tensor) and not torch.isfinite(output).all():
                found.append(name)

        return hook

    # a binary layer has a child, its parametrization; what is inside of that is no layer
    handles = [
        module.register_forward_hook(watching(name))
        for name, module in net.named_modules()
        if (isinstance(module, _LAYERS) or not list(module.children())) and ".parametrizations." not in f".{name}."
    ]
    try:
        net(images)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
