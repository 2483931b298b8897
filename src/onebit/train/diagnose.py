"""Why a loss stopped being a number."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onebit.binary import binary_layers, latent_weight


@torch.no_grad()
def non_finite(net: nn.Module, images: Tensor, epoch: int, step: int, lr: float) -> str:
    """One line: where the first number that is not finite appears (a weight, else a layer's output) and what to try."""
    where = "the loss itself"
    bad = [name for name, p in net.named_parameters() if not torch.isfinite(p).all()]
    if bad:
        where = f"weights of {bad[0]}" + (f" and {len(bad) - 1} more tensors" if len(bad) > 1 else "")
    else:
        found: list[str] = []
        handles = []
        for name, module in net.named_modules():
            if not list(module.children()):

                def hook(_m: nn.Module, _i: object, out: Tensor, name: str = name) -> None:
                    if not found and isinstance(out, Tensor) and not torch.isfinite(out).all():
                        found.append(name)

                handles.append(module.register_forward_hook(hook))
        try:
            net(images)
        finally:
            for handle in handles:
                handle.remove()
        if found:
            where = f"output of layer {found[0]}"
    layers = binary_layers(net) or {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    largest = max((float(latent_weight(m).abs().max()), n) for n, m in layers.items())
    return (
        f"loss is not finite at epoch {epoch}, mini-batch {step}: first seen in {where}; learning rate {lr:.4g}, largest weight "
        f"{largest[0]:.3g} in {largest[1]}; try a smaller lr (--set lr={lr / 3:.2g}) or precision=float32; the last checkpoint is intact"
    )
