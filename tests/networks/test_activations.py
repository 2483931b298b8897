"""Deployed activations against the integer rule of the packed model, in NumPy integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from onebit.errors import OnebitError
from onebit.networks.activations import QuantizedActivation, ShiftedReLU, activation

STEP = {8: 1 / 32, 4: 1 / 4}


def packed(a: np.ndarray, multiplier: int, low: int, bits: int) -> np.ndarray:
    """q of int16 values `a`: the rounding multiply of the SIMD instruction sets (pmulhrsw, sqrdmulh, ...), then a clamp."""
    q = (a.astype(np.int64) * multiplier + 0x4000) >> 15
    return np.clip(q, low, low + 2**bits - 1)


@given(st.integers(-32767, 32767), st.sampled_from([8, 4]), st.sampled_from(["relu", "shifted-relu"]))
def test_equals_the_integer_rule_for_every_int16(multiplier: int, bits: int, kind: str) -> None:
    """S - m is any int16, M any multiplier; the real number behind them is (S - m) * M / 2^15 steps."""
    a = np.arange(-32768, 32768)
    low = 0 if kind == "relu" else -round(1 / STEP[bits])
    x = torch.from_numpy(a * multiplier / 2**15 * STEP[bits]).float()
    got = activation(kind, bits)(x) / STEP[bits]
    assert np.array_equal(got.numpy(), packed(a, multiplier, low, bits))


@pytest.mark.parametrize(("bits", "offset"), [(8, 0.0), (4, 0.0), (8, -1.0), (4, -1.0)])
def test_values_and_straight_through_gradient(bits: int, offset: float) -> None:
    x = torch.linspace(-3, 12, 4001).requires_grad_()
    y = QuantizedActivation(bits, offset)(x)
    step, top = STEP[bits], 2**bits - 1
    low = round(offset / step)
    for value, got in zip(x.tolist(), y.tolist(), strict=True):
        q = int((value / step + 0.5) // 1)  # round half up
        assert got == max(low, min(low + top, q)) * step
    upstream = torch.linspace(1, 2, 4001)
    y.backward(upstream)
    inside = (x >= (low - 0.5) * step) & (x < (low + top + 0.5) * step)
    assert torch.equal(x.grad, upstream * inside)  # type: ignore[arg-type]
    assert not inside[0] and (bits == 8 or not inside[-1])


def test_halves_round_up_also_below_zero() -> None:
    x = torch.tensor([-0.375, -0.125, 0.125, 0.375])  # -1.5, -0.5, 0.5, 1.5 steps
    assert QuantizedActivation(4, -1.0)(x).tolist() == [-0.25, 0.0, 0.25, 0.5]


@pytest.mark.parametrize("bits", [8, 4])
def test_bfloat16_holds_every_level_and_rounds_like_float32(bits: int) -> None:
    levels = torch.arange(2**bits) * STEP[bits]
    layer = QuantizedActivation(bits)
    assert torch.equal(layer(levels.bfloat16()).float(), levels)
    x = torch.rand(1000, generator=torch.Generator().manual_seed(0)).bfloat16() * 9
    assert layer(x).dtype == torch.bfloat16
    assert torch.equal(layer(x).float(), layer(x.float()))


def test_kinds_and_errors() -> None:
    assert isinstance(activation("relu"), nn.ReLU) and isinstance(activation("shifted-relu"), ShiftedReLU)
    with pytest.raises(OnebitError, match="choose 8, 4 or 32"):
        QuantizedActivation(5)


def test_shifted_relu() -> None:
    x = torch.tensor([-2.0, -1.5, -0.5, 3.0], requires_grad=True)
    y = ShiftedReLU()(x)
    assert y.tolist() == [-1.0, -1.0, -0.5, 3.0]
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.0, 0.0, 1.0, 1.0]
