"""One-bit weights (paper section 2, eq. 1) for any ``nn.Module``.

The network computes with ``W^ = s * sign(W)``, where ``s = gain / sqrt(F*F*C_in)`` is a constant of the
layer, never learned. ``W`` (the latent weight) stays in full precision and is what the optimizer updates:
the gradient taken with respect to ``W^`` is applied to ``W`` unchanged, neither clipped nor multiplied by ``s``.

``binarize`` attaches this as a torch parametrization, so ``layer.weight`` is ``W^`` wherever it is used
(autocast, ``torch.compile``, DDP, ``deepcopy``) and ``state_dict`` holds ``W``, under the name
``<layer>.parametrizations.weight.original``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from onebit.errors import OnebitError, nearest

Scale = Literal["he", "bwn-layer", "bwn-channel"]
HE_GAIN = math.sqrt(2.0)  # residual networks; plain networks (appendix B) use 2
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


class _ScaledSign(torch.autograd.Function):
    """Forward ``s * sign(W)`` with sign(0) = +1; backward the identity (eq. 1)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: float) -> Tensor:
        positive = weight.new_full((), scale)
        return torch.where(weight >= 0, positive, -positive)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


class _MeanScaledSign(torch.autograd.Function):
    """BWN: ``a * sign(W)``, ``a = mean |W|`` over ``dims``, with the gradient of both factors.

    With g the gradient of W^ and n the weights that share one a, sign passed straight through:
    ``dL/dW = a * g + sign(W) * sum(g * sign(W)) / n``.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, dims: tuple[int, ...]) -> Tensor:
        scale = weight.abs().mean(dims, keepdim=True)
        one = weight.new_ones(())
        sign = torch.where(weight >= 0, one, -one)
        ctx.save_for_backward(sign, scale)
        ctx.dims = dims
        return scale * sign

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        sign, scale = ctx.saved_tensors
        return scale * gradient + sign * (gradient * sign).mean(ctx.dims, keepdim=True), None


def fan_in(weight: Tensor) -> int:
    """``F*F*C_in`` of a weight [O, I, *kernel]: the products summed in one output (of a grouped one, its group's).

    >>> fan_in(torch.empty(64, 16, 3, 3))
    144
    """
    return weight[0].numel()


def he_normal_(weight: Tensor, gain: float = HE_GAIN) -> Tensor:
    """Initialise a weight [O, I, *kernel] in place: normal, mean 0, standard deviation ``gain / sqrt(F*F*C_in)``.

    >>> round(he_normal_(torch.empty(1000, 50)).std().item(), 2)  # sqrt(2 / 50)
    0.2
    """
    with torch.no_grad():
        return weight.normal_(0.0, gain / math.sqrt(fan_in(weight)))


class BinaryWeight(nn.Module):
    """The parametrization: latent weight in, one-bit weight times its scale out (same shape and dtype).

    Attributes: ``scale`` ("he", "bwn-layer", "bwn-channel"), ``constant`` (s, a Python float),
    ``active`` (False: the latent float weight passes unchanged, see `float_weights`).
    """

    def __init__(self, weight: Tensor, scale: Scale = "he", gain: float = HE_GAIN) -> None:
        super().__init__()
        self.scale = scale
        self.gain = gain
        self.constant = gain / math.sqrt(fan_in(weight))
        self.active = True
        self._dims = tuple(range(weight.dim())) if scale == "bwn-layer" else tuple(range(1, weight.dim()))

    def forward(self, weight: Tensor) -> Tensor:
        if not self.active:
            return weight
        if self.scale == "he":
            return _ScaledSign.apply(weight, self.constant)
        return _MeanScaledSign.apply(weight, self._dims)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Assigning ``layer.weight = W`` sets the latent weight."""
        return weight

    def extra_repr(self) -> str:
        return f"scale={self.scale}, s={self.constant:.6g}"


def _parametrization(layer: nn.Module) -> BinaryWeight | None:
    if parametrize.is_parametrized(layer, "weight"):
        for p in layer.parametrizations["weight"]:  # type: ignore[index, union-attr]
            if isinstance(p, BinaryWeight):
                return p
    return None


def binarize(
    module: nn.Module, scale: Scale = "he", gain: float = HE_GAIN, exclude: str | Iterable[str] = ()
) -> nn.Module:
    """Make every convolution and linear layer of `module` one bit a weight, in place; returns `module`.

    Current weights become the latent weights W (initialise them with `he_normal_`, or start from a trained
    network). Biases stay float: the paper's networks have none. Layers that share one weight go on sharing it.

    Args:
        module: any ``nn.Module``; layers that are binary already are left alone.
        scale: "he": the paper's constant (eq. 1). "bwn-layer" and "bwn-channel": mean |W| with its true
            gradient (XNOR-Net's BWN, section 5.2), for comparison; per-channel cannot be packed.
        gain: numerator of the constant scale: sqrt(2), or 2 for networks without skip connections.
        exclude: layers that stay float, by their names in ``module.named_modules()``. The name of a block stands for
            all layers in it; shell patterns are allowed.

    Raises:
        OnebitError: unknown scale; a gain that is not positive; a name in `exclude` that fits no layer; a lazy layer
            without weights yet; a weight that has another parametrization; nothing left to binarize.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    >>> _ = binarize(net, exclude="3")
    >>> torch.equal(net[0].weight.abs(), torch.full((8, 3, 3, 3), (2 / 27) ** 0.5))
    True
    >>> list(binary_layers(net))
    ['0']
    """
    if scale not in get_args(Scale):
        raise OnebitError(f"scale {scale!r} is unknown: {nearest(scale, get_args(Scale))}")
    if not 0 < gain < math.inf:
        raise OnebitError(f"gain {gain!r} must be positive: sqrt(2), or 2 for networks without skip connections")
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, _LAYERS)}
    for pattern in [exclude] if isinstance(exclude, str) else exclude:
        known = [name for name, _ in module.named_modules()]
        hits = [n for n in known if fnmatchcase(n, pattern) or fnmatchcase(n, f"{pattern}.*")]
        if not any(isinstance(module.get_submodule(name), _LAYERS) for name in hits):
            raise OnebitError(
                f"exclude: no convolution or linear layer is named {pattern!r}; "
                f"{nearest(pattern, [n for n, m in module.named_modules() if isinstance(m, _LAYERS)])}"
            )
        layers = {name: layer for name, layer in layers.items() if name not in hits}
    if not layers:
        raise OnebitError(f"nothing to binarize in {type(module).__name__}: it has no Conv or Linear layer left")
    new = {name: layer for name, layer in layers.items() if _parametrization(layer) is None}
    for name, layer in new.items():  # refuse before the first layer is changed
        where = f"layer {name!r}" if name else type(layer).__name__
        if parametrize.is_parametrized(layer, "weight"):
            raise OnebitError(f"{where}: its weight has another parametrization; remove that one first, or exclude it")
        if isinstance(layer.weight, nn.parameter.UninitializedParameter):
            raise OnebitError(f"{where}: has no weights yet (lazy); run one batch through the module first")
    for layer in new.values():
        weight = layer.weight
        assert isinstance(weight, Tensor)
        # unsafe: skips torch's trial run, which could only confirm that shape and dtype stay the same
        parametrize.register_parametrization(layer, "weight", BinaryWeight(weight, scale, gain), unsafe=True)
    return module


def binary_layers(module: nn.Module) -> dict[str, nn.Module]:
    """The layers of `module` whose weights are one bit, by name, in the order of ``named_modules``."""
    return {name: layer for name, layer in module.named_modules() if _parametrization(layer) is not None}


def latent_weight(layer: nn.Module) -> Tensor:
    """The latent weight W of a binary layer (the parameter that is trained), or the plain weight of a float one."""
    if _parametrization(layer) is not None:
        return layer.parametrizations["weight"].original  # type: ignore[index, union-attr, return-value]
    return layer.weight  # type: ignore[return-value]


def layer_scale(layer: nn.Module) -> BinaryWeight | None:
    """The `BinaryWeight` of a layer, or None for a float layer."""
    return _parametrization(layer)


@contextmanager
def float_weights(module: nn.Module) -> Iterator[nn.Module]:
    """Within the context `module` runs with its latent float weights; the previous state comes back after it.

    >>> conv = binarize(nn.Conv2d(1, 1, 3))
    >>> with float_weights(conv):
    ...     torch.equal(conv.weight, latent_weight(conv))
    True
    """
    found = [p for p in module.modules() if isinstance(p, BinaryWeight)]
    before = [p.active for p in found]
    for p in found:
        p.active = False
    try:
        yield module
    finally:
        for p, active in zip(found, before, strict=True):
            p.active = active
