"""Stochastic gradient descent with momentum, with the learning rate inside or outside the velocity (PAPER section 3.2).

At a constant learning rate both forms walk the same path. When the learning rate jumps at a warm restart they do not:
with the learning rate inside, the velocity gathered at the small rate stays small (both published codes do this).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from onebit.binary import latent_weight
from onebit.errors import OnebitError, nearest

Form = Literal["lr-inside", "lr-outside"]


class SGD(torch.optim.Optimizer):
    """SGD with momentum m, learning rate lr and weight decay wd, on gradients g and weights w:

    - ``lr-inside``:  ``v = m * v - lr * (g + wd * w)``, then ``w = w + v``;
    - ``lr-outside``: ``v = m * v + (g + wd * w)``, then ``w = w - lr * v`` (that of torch.optim.SGD).

    ``params`` are tensors or groups, as for every torch optimizer; each group may set its own ``lr``, ``momentum``,
    ``weight_decay`` and ``form``. A schedule writes ``group["lr"]`` before each step. The velocity of parameter ``p``
    is ``state[p]["momentum"]``, of p's shape and dtype, and part of ``state_dict()``. ``fused`` compiles the update with
    torch.compile: it then reads and writes each number once (20 bytes a weight instead of 44), up to rounding the same.
    Raises OnebitError for a setting out of range.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = SGD([w], lr=0.5, momentum=0.9, weight_decay=0.0)
    >>> w.grad = torch.tensor([1.0])
    >>> optimizer.step(); optimizer.step(); round(w.item(), 4)
    -0.45
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        form: Form = "lr-inside",
        *,
        fused: bool = False,
    ) -> None:
        self.fused = fused
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "form": form})
        for group in self.param_groups:
            if group["form"] not in get_args(Form):
                known = get_args(Form)
                raise OnebitError(
                    f"momentum_form: {group['form']!r} is no form of SGD, {nearest(group['form'], known)}"
                )
            for key in ("lr", "momentum", "weight_decay"):
                if not group[key] >= 0:
                    raise OnebitError(f"{key}: {group[key]} is not possible, give 0 or more")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update of every parameter that has a gradient; returns what ``closure`` returned, if one was given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                self._update(weights, group)
        return loss

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        grads: list[Tensor] = [p.grad for p in weights if p.grad is not None]
        velocities: list[Tensor] = []
        for p in weights:
            state = self.state[p]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            velocities.append(state["momentum"])
        inside = group["form"] == "lr-inside"
        lr, momentum, decay = float(group["lr"]), float(group["momentum"]), float(group["weight_decay"])
        gain = -lr if inside else 1.0  # of the gradient in the velocity
        rate = 1.0 if inside else -lr  # of the velocity in the weights
        dense = all(g.layout == torch.strided for g in grads)
        if dense and len({p.device for p in weights}) == 1:
            if self.fused:
                # the learning rate as a tensor: a number would be compiled in, and each step compiled anew
                _compiled()(weights, grads, velocities, torch.tensor(lr), momentum, decay, inside)
                return
            torch._foreach_mul_(velocities, momentum)
            torch._foreach_add_(velocities, grads, alpha=gain)
            if decay:
                torch._foreach_add_(velocities, weights, alpha=gain * decay)
            torch._foreach_add_(weights, velocities, alpha=rate)
            return
        for p, g, v in zip(weights, grads, velocities, strict=True):
            v.mul_(momentum).add_(g, alpha=gain)
            if decay:
                v.add_(p, alpha=gain * decay)
            p.add_(v, alpha=rate)

    @torch.no_grad()
    def zero_momentum(self) -> None:
        """Forget every velocity (the MATLAB code of the paper does so at a warm restart)."""
        for state in self.state.values():
            if "momentum" in state:
                state["momentum"].zero_()


def _fused_update(
    weights: list[Tensor], grads: list[Tensor], velocities: list[Tensor], lr: Tensor, momentum: float, decay: float, inside: bool
) -> None:  # fmt: skip
    """The update of `SGD` as torch.compile fuses it: every line maps over all tensors, and nothing between them is kept."""
    if decay:
        grads = list(torch._foreach_add(grads, weights, alpha=decay))
    torch._foreach_mul_(velocities, momentum)
    torch._foreach_add_(velocities, torch._foreach_mul(grads, -lr) if inside else grads)
    torch._foreach_add_(weights, velocities if inside else torch._foreach_mul(velocities, -lr))


@cache
def _compiled() -> Callable[..., None]:
    """The fused update. Not made before it is needed: torch's compiler takes seconds to import."""
    return torch.compile(_fused_update, dynamic=False)


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for `SGD`: (latent) weights of convolutions and linear layers, which decay, and the rest, which does not.

    >>> groups = parameter_groups(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), 5e-4)
    >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
    [(1, 0.0005), (3, 0.0)]
    """
    latent = {id(latent_weight(m)) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    decayed = [p for p in net.parameters() if id(p) in latent]
    rest = [p for p in net.parameters() if id(p) not in latent]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
