"""The baseline of training speed is the network that it is compared with, fed with pictures changed in the same ways."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from onebit import networks
from onebit.recipe import Network


@pytest.fixture
def plain(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_script("plain_torch")


def test_it_is_the_same_network(plain: ModuleType) -> None:
    torch.manual_seed(0)
    ours = networks.build(Network(depth=20, width=1, weights="float"), classes=10, channels=3, size=32)
    theirs = plain.Net(1)
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    a, b = ([m for m in net.modules() if isinstance(m, kinds)] for net in (ours, theirs))
    assert [type(m) for m in a] == [type(m) for m in b] and len(a) == 41
    for source, target in zip(a, b, strict=True):
        target.load_state_dict(source.state_dict())
    x = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(theirs(x.float()), ours(x), rtol=1e-3, atol=1e-3)


def test_its_loader_flips_and_crops(plain: ModuleType) -> None:
    """Every picture is one of the 81 shifts of the original, or of its mirror image, with zeros from outside."""
    original = np.random.default_rng(0).integers(1, 256, (1, 3, 32, 32), np.uint8)
    padded = np.pad(original[0], ((0, 0), (4, 4), (4, 4)))
    possible = set()
    for top in range(9):
        for left in range(9):
            crop = padded[:, top : top + 32, left : left + 32]
            possible |= {crop.tobytes(), crop[:, :, ::-1].tobytes()}
    pictures = plain.Pictures(original, np.array([7]))
    seen = set()
    for _ in range(40):
        picture, label = pictures[0]
        assert label == 7 and picture.numpy().tobytes() in possible
        seen.add(picture.numpy().tobytes())
    assert len(seen) > 10


@pytest.mark.parametrize("bf16", [False, True])
def test_its_loop_moves_the_weights(plain: ModuleType, bf16: bool) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), np.uint8)
    loop = plain.Loop(1, images, np.repeat([0, 1], 10), batch=10, bf16=bf16)
    assert loop.net.conv0.weight.is_contiguous(memory_format=torch.channels_last) == bf16
    start = [p.detach().clone() for p in loop.net.parameters()]
    for _ in range(2):
        loop.step()
    moved = [not torch.equal(p, q) for p, q in zip(loop.net.parameters(), start, strict=True)]
    assert sum(moved) >= 20 and all(torch.isfinite(p).all() for p in loop.net.parameters())
