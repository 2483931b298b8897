"""Batch-norm moments of the finished network, from one pass over the training data (PAPER section 3.2.1).

Running averages mix moments of many past weights; here every batch is normalised with its own moments by the final
weights, and the stored moments are the mean over batches of the batch means and of the batch variances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from onebit.errors import OnebitError
from onebit.train.distributed import global_moments, is_active


class _Mean:
    """The running sum of one layer's batch moments; float64 where the device has it."""

    def __init__(self) -> None:
        self.calls = 0
        self.mean: Tensor | None = None
        self.variance: Tensor | None = None

    def add(self, mean: Tensor, variance: Tensor) -> None:
        if mean.device.type != "mps":
            mean, variance = mean.double(), variance.double()
        self.mean = mean.clone() if self.mean is None else self.mean + mean
        self.variance = variance.clone() if self.variance is None else self.variance + variance
        self.calls += 1


def reestimate(module: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set the moments of every batch-norm of ``module`` from one pass over ``batches``; returns the number of batches.

    ``batches`` yields what the module takes (images [N, C, H, W] of the augmented training set, on its device). The
    pass runs in train mode without gradients; afterwards ``running_mean`` and ``running_var`` are the means, with
    equal weight a batch, of the batch means and of the biased batch variances. Nothing else changes: the training
    flag of every submodule and ``num_batches_tracked`` are restored. With several processes, moments are
    over the global batches, and every process must yield equally many. When the pass fails, the old moments are
    put back. Raises OnebitError when there is no batch.

    >>> norm = nn.BatchNorm1d(1)
    >>> reestimate(norm, [torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [5.0]])])
    2
    >>> norm.running_mean.item(), norm.running_var.item()
    (3.0, 0.5)
    """
    norms = _norms(module)
    flags = [(m, m.training) for m in module.modules()]
    momenta = [m.momentum for m in norms]
    before = [{name: buffer.clone() for name, buffer in m.named_buffers(recurse=False)} for m in norms]
    sums = [_Mean() for _ in norms]
    handles = [m.register_forward_hook(_adding(s)) for m, s in zip(norms, sums, strict=True)]
    count, done = 0, False
    try:
        module.train()
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            for images in batches:
                module(images)
                count += 1
        done = count > 0
    finally:
        for handle in handles:
            handle.remove()
        for m, training in flags:
            m.training = training
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        with torch.no_grad():
            for norm, total, old in zip(norms, sums, before, strict=True):
                buffers = dict(norm.named_buffers(recurse=False))
                for name, value in old.items():
                    buffers[name].copy_(value)
                if done and total.mean is not None and total.variance is not None:
                    buffers["running_mean"].copy_(total.mean / total.calls)
                    buffers["running_var"].copy_(total.variance / total.calls)
    if not count:
        raise OnebitError("moments: no training batch to re-estimate from, give at least one")
    return count


@contextmanager
def reestimated(module: nn.Module, batches: Iterable[Tensor]) -> Iterator[nn.Module]:
    """Within it ``module`` has moments from one pass over ``batches`` (see `reestimate`), afterwards its own again.

    For a test in the middle of training: running averages lag behind the weights, and when signs flip, they lag far. Training
    does not notice it.

    >>> norm = nn.BatchNorm1d(1)
    >>> with reestimated(norm, [torch.tensor([[4.0], [8.0]])]):
    ...     norm.running_mean.item()
    6.0
    >>> norm.running_mean.item()
    0.0
    """
    before = [{name: buffer.clone() for name, buffer in m.named_buffers(recurse=False)} for m in _norms(module)]
    reestimate(module, batches)
    try:
        yield module
    finally:
        with torch.no_grad():
            for norm, old in zip(_norms(module), before, strict=True):
                buffers = dict(norm.named_buffers(recurse=False))
                for name, value in old.items():
                    buffers[name].copy_(value)


def moment_batches(steps: int) -> int:
    """How many of an epoch's ``steps`` mini-batches give the moments for a test after it: 4 to 8.

    Few will do: each moment is over all pixels of some hundred images, and what hurts is not noise but the lag of running
    averages. On CIFAR 8 forward passes are under 1 % of an epoch's work.

    >>> moment_batches(400), moment_batches(15), moment_batches(2)
    (8, 4, 2)
    """
    return min(8, max(4, steps // 25), steps)


def _norms(module: nn.Module) -> list[_BatchNorm]:
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


def _adding(total: _Mean) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
        assert isinstance(module, _BatchNorm)
        if is_active():
            _, mean, variance = global_moments(inputs[0])
        else:
            # With momentum 1 the layer has just stored this batch's mean and unbiased variance: a second pass
            # over the activations would cost as much again as the whole network.
            assert module.running_mean is not None and module.running_var is not None
            count = inputs[0].numel() // inputs[0].shape[1]
            mean, variance = module.running_mean, module.running_var * ((count - 1) / count)
        total.add(mean, variance)

    return hook
