"""Devices by name."""

from __future__ import annotations

import pytest
import torch

from onebit.errors import OnebitError
from onebit.train.device import best_device, pick_device


def test_devices_by_name() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    for name in ("nonsense", "cuda:99"):
        with pytest.raises(OnebitError, match="not usable here"):
            pick_device(name)


def test_the_best_device_can_be_used() -> None:
    assert pick_device(None) == torch.device(best_device())
    assert torch.ones(2, device=pick_device(None)).sum().item() == 2
