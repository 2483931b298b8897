"""One mini-batch against the same written out by hand."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from onebit import networks
from onebit.binary import latent_weight
from onebit.data import feed
from onebit.data.augment import Augment, Draw, draw
from onebit.data.dataset import Arrays
from onebit.data.feed import Batch
from onebit.errors import OnebitError
from onebit.recipe import Network, Training
from onebit.train.optimizer import SGD, parameter_groups
from onebit.train.step import compiled, train_step


@pytest.mark.parametrize("weights", ["1bit", "float"])
def test_one_step_is_the_gradient_of_the_mean_loss_plus_decay_of_latent_weights(weights: str) -> None:
    torch.manual_seed(0)
    net = networks.build(Network(depth=8, width=0.25, weights=weights), classes=4, channels=1, size=8)  # type: ignore[arg-type]
    by_hand = copy.deepcopy(net)
    x, y = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8), torch.tensor([0, 1, 2, 3, 0, 1])
    sums = train_step(net, SGD(parameter_groups(net, 0.1), 0.5, 0.9), Batch(x, y, 6), "float32")
    logits = by_hand(x)
    F.cross_entropy(logits, y).backward()
    torch.testing.assert_close(
        sums, torch.tensor([F.cross_entropy(logits, y).item() * 6, float((logits.argmax(1) != y).sum()), 6.0])
    )
    decayed = {id(latent_weight(m)) for m in by_hand.modules() if isinstance(m, torch.nn.Conv2d)}
    for p, q in zip(net.parameters(), by_hand.parameters(), strict=True):
        assert q.grad is not None
        step = q.grad + (0.1 * q if id(q) in decayed else 0.0)
        torch.testing.assert_close(p, q - 0.5 * step)


def test_a_share_of_a_mini_batch_weighs_by_the_whole() -> None:
    """What DistributedDataParallel averages over two processes: shares of 4 and 2 images, each times the number of processes."""
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    x, y = torch.randn(6, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    F.cross_entropy(layer(x), y).backward()
    expected = layer[1].weight.grad.clone()
    grads = []
    for part in (slice(0, 4), slice(4, 6)):
        train_step(layer, SGD(layer.parameters(), 0.0), Batch(x[part], y[part], 6), "float32", world=2)
        grads.append(layer[1].weight.grad.clone())
    torch.testing.assert_close((grads[0] + grads[1]) / 2, expected)


class Crossings(TorchDispatchMode):
    """Names of the operations that mix tensors of the CPU with those of another device: copies, and indices by the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        flat = [t for t in tree_flatten((args, kwargs, result))[0] if isinstance(t, torch.Tensor) and t.dim()]
        if len({t.device for t in flat}) > 1:
            self.names.append(str(func))
        return result


def test_a_step_never_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's device without data: reading a number back, or adding a tensor of the CPU, is an error there."""
    meta = torch.device("meta")
    monkeypatch.setattr(feed, "_generator", lambda device, seed: torch.Generator())  # this device has none
    monkeypatch.setattr(
        feed, "draw", lambda shape, spec, g: Draw(*(t.to(meta) for t in vars(draw(shape, spec, g)).values()))
    )
    spec = Augment(flip=True, pad=4, cutout=18)
    batches = feed.make_feed(
        Arrays(np.zeros((10, 3, 32, 32), np.uint8), np.zeros(10, np.int64)), device=meta, batch=4, augment=spec, seed=0,
        size=32, channels=3,
    )  # fmt: skip
    with meta:
        net = networks.build(Network(depth=8, width=0.5), classes=10, channels=3, size=32)
    optimizer = SGD(parameter_groups(net, 5e-4), 0.1, 0.9)
    drawing = ["aten._to_copy.default"] * 4  # of this test itself: flips, shifts, patches, noise
    with Crossings() as crossings:
        for batch in batches.epoch(0):
            sums = train_step(net, optimizer, batch, "float32")
            assert sums.device == meta
    # the order of the pictures goes there once an epoch, not with every mini-batch
    assert crossings.names == ["aten._to_copy.default"] + 3 * drawing


def test_how_a_network_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA graphs only on a CUDA device, in one process; what torch.compile is asked for is looked at, not run."""
    net = torch.nn.Linear(2, 2)
    monkeypatch.setattr(torch, "compile", lambda model, mode: (model, mode))
    assert compiled(net, Training()) is net
    assert compiled(net, Training(compile=True)) == (net, None)
    graphs = Training(compile=True, cuda_graphs=True)
    assert compiled(net, graphs) == (net, None)  # not on a CPU
    monkeypatch.setattr(torch.nn.Parameter, "is_cuda", True)
    assert compiled(net, graphs) == (net, "reduce-overhead")
    assert compiled(net, graphs, world=2) == (net, None)
    with pytest.raises(OnebitError, match=r"cuda_graphs.*compile=true"):
        compiled(net, Training(cuda_graphs=True))
