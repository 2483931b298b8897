"""Activations: ReLU, the shifted ReLU max(-1, x) of the batch-norm-free networks, and their deployed forms.

A packed model holds activations as unsigned integers q of 8 or 4 bits with one step (2^-5 or 2^-2). Training
with ``activation_bits`` 8 or 4 computes exactly those values: round half up, as the packed model's rounding
multiply does, then clamp; the gradient passes straight through inside the range and is zero outside it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.errors import OnebitError

STEPS = {8: 2.0**-5, 4: 2.0**-2}  # one constant for every layer behind a fixed batch-norm


class ShiftedReLU(nn.Module):
    """max(-1, x): keeps the mean of a normal input near zero, so that no batch-norm is needed (2019 follow-up).

    >>> ShiftedReLU()(torch.tensor([-3.0, -0.5, 2.0])).tolist()
    [-1.0, -0.5, 2.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.threshold(x, -1.0, -1.0)


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float, low: int, high: int) -> Tensor:
        # float32 whatever autocast does: bf16 holds 8 significant bits, one too few for q + 1/2
        q = torch.floor(x.float() * (1.0 / step) + 0.5)
        ctx.save_for_backward((q >= low) & (q <= high))
        return (q.clamp(low, high) * step).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None


class QuantizedActivation(nn.Module):
    """The activation of the packed model: ``step * clamp(floor(x / step + 1/2), low, low + 2^bits - 1)``.

    Any shape; the dtype stays (every value fits bfloat16 too). `offset` is 0 for ReLU and -1 for the shifted ReLU
    (low = offset / step). Raises OnebitError for `bits` other than 8 and 4.

    >>> QuantizedActivation(4)(torch.tensor([-1.0, 0.125, 0.3, 9.0])).tolist()
    [0.0, 0.25, 0.25, 3.75]
    """

    def __init__(self, bits: int, offset: float = 0.0) -> None:
        super().__init__()
        if bits not in STEPS:
            raise OnebitError(f"activation_bits {bits} is not offered: choose 8, 4 or 32 (float)")
        self.bits = bits
        self.step = STEPS[bits]
        self.low = round(offset / self.step)
        self.high = self.low + 2**bits - 1

    def forward(self, x: Tensor) -> Tensor:
        return _Quantize.apply(x, self.step, self.low, self.high)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, step={self.step}, low={self.low}"


def activation(kind: str, bits: int = 32) -> nn.Module:
    """The activation module of a recipe: "relu" or "shifted-relu", float (32) or as deployed (8, 4).

    >>> activation("relu"), activation("shifted-relu", 4)
    (ReLU(), QuantizedActivation(bits=4, step=0.25, low=-4))
    """
    shifted = kind == "shifted-relu"
    if bits == 32:
        return ShiftedReLU() if shifted else nn.ReLU()
    return QuantizedActivation(bits, -1.0 if shifted else 0.0)
