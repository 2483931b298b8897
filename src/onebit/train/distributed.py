"""Training by several processes, on one machine or many, that gives what one process would (started by torchrun).

Two things make P processes equal to one: the loss of every rank is divided by the images of the *global* batch, and
batch-norm takes its moments over the global batch. ``SyncedBatchNorm`` does the second, on CPU (gloo) too, where
torch's own SyncBatchNorm does not run, and with ranks that hold unequal numbers of images.
"""

from __future__ import annotations

import gc
import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from onebit.errors import OnebitError


@dataclass(frozen=True)
class Rank:
    """This process among all: ``rank`` of ``world``, and ``local_rank`` on its machine (its CUDA device)."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0


def _from_environment(name: str, default: int | None) -> int:
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise OnebitError(
            f"environment variable {name}: {text!r} is not a number; start several processes with torchrun"
        ) from None


def is_active() -> bool:
    """True in a process that trains together with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def setup(device: str | torch.device | None = None) -> Rank:
    """Join the processes that torchrun started (RANK, WORLD_SIZE, LOCAL_RANK); alone, just say so.

    ``device`` is where the network will live: CPU tensors travel by gloo, CUDA tensors by NCCL; None: CUDA where
    there is any. Raises OnebitError for incomplete variables, or for more processes than CUDA devices.

    >>> setup()
    Rank(rank=0, world=1, local_rank=0)
    """
    world = _from_environment("WORLD_SIZE", 1)
    if world <= 1:
        return Rank()
    if not dist.is_available():
        raise OnebitError(f"WORLD_SIZE: {world} processes, but this torch was built without torch.distributed")
    rank = _from_environment("RANK", None)
    local_rank = _from_environment("LOCAL_RANK", rank)
    if not 0 <= rank < world:
        raise OnebitError(
            f"environment variable RANK: {rank} is not one of the {world} processes, give 0 to {world - 1}"
        )
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise OnebitError(f"environment variable {name}: not set; start several processes with torchrun")
    kind = None if device is None else str(device).partition(":")[0]
    if kind not in (None, "cpu", "cuda"):
        raise OnebitError(f"device: {kind} cannot be shared by {world} processes, use cpu or cuda, or one process")
    cuda = kind == "cuda" or (kind is None and torch.cuda.is_available())
    if cuda:
        if local_rank >= torch.cuda.device_count():
            raise OnebitError(
                f"LOCAL_RANK: {local_rank}, but this machine has {torch.cuda.device_count()} CUDA devices; "
                "start one process a device, or train on the CPU"
            )
        torch.cuda.set_device(local_rank)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", rank=rank, world_size=world)
    return Rank(rank, world, local_rank)


def cleanup() -> None:
    """Leave the processes; harmless alone."""
    if dist.is_available() and dist.is_initialized():
        gc.collect()  # a DistributedDataParallel that outlives the connection can block the exit (see Run.leave)
        dist.destroy_process_group()


def is_main() -> bool:
    """True in the one process that prints and writes files."""
    return not is_active() or dist.get_rank() == 0


def barrier() -> None:
    """Wait until every process is here; alone, go on."""
    if is_active():
        dist.barrier()


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """A new tensor: the sum of every process's ``tensor`` (same shape and dtype everywhere); no gradient.

    >>> sum_over_ranks(torch.tensor([1, 2]))
    tensor([1, 2])
    """
    total = tensor.detach().clone(memory_format=torch.contiguous_format)
    if is_active():
        dist.all_reduce(total)
    return total


def gather_objects(item: Any) -> list[Any]:
    """Every process's ``item``, in the order of ranks, in every process; items must be picklable and should be small."""
    if not is_active():
        return [item]
    items: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(items, item)
    return items


def require_same(facts: Mapping[str, Any]) -> None:
    """Raise the same OnebitError in every process unless all of them hold equal `facts` (small, picklable).

    >>> require_same({"epoch": 3})
    """
    every = gather_objects(dict(facts))
    for key, first in every[0].items():
        for rank, other in enumerate(every):
            if other.get(key) != first:
                raise OnebitError(
                    f"{key}: process 0 has {first!r}, process {rank} has {other.get(key)!r}; every machine needs the same "
                    "version of onebit, the same data, and the run folder (on a shared disk)"
                )


def global_moments(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(count, mean, variance)`` of every channel over the batches of all processes.

    ``images``: [N, C, ...] of any float dtype, N may differ by rank and be 0. ``count`` is a scalar: values a channel;
    ``mean`` and the biased ``variance`` have shape [C]. All three are float32, or float64 for float64 images, and
    carry no gradient. Each rank's own mean and sum of squared deviations are merged by Chan's formula (Chan, Golub
    and LeVeque 1979), which unlike ``E[x^2] - E[x]^2`` does not cancel when the mean is large.
    """
    with torch.no_grad():
        values = images.detach()
        values = values if values.dtype in (torch.float32, torch.float64) else values.float()
        channels = values.shape[1]
        count = values.numel() // channels
        if count:
            variance, mean = torch.var_mean(values, dim=[0, *range(2, values.dim())], correction=0)
        else:
            mean = variance = values.new_zeros(channels)
        if not is_active():
            return values.new_tensor(count), mean, variance
        # float64 for these few numbers: counts stay exact and merging adds no rounding.
        local = torch.cat([mean.double(), variance.double() * count, mean.new_tensor([count], dtype=torch.float64)])
        ranks = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(ranks, local)
        every = torch.stack(ranks)
        means, deviations, counts = every[:, :channels], every[:, channels:-1], every[:, -1:]
        total = counts.sum()
        merged = (counts * means).sum(0) / total
        squares = (deviations + counts * (means - merged) ** 2).sum(0)
        return total.to(values.dtype), merged.to(values.dtype), (squares / total).to(values.dtype)


class _Normalize(torch.autograd.Function):
    """Batch-norm with given global moments; its backward sums the two statistics of the gradient over all ranks."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        count: Tensor,
        mean: Tensor,
        variance: Tensor,
        eps: float,
    ) -> Tensor:
        shape = [1, -1] + [1] * (images.dim() - 2)
        inverse = torch.rsqrt(variance + eps)
        scale = inverse if weight is None else inverse * weight.to(inverse.dtype)
        out = (images.to(mean.dtype) - mean.view(shape)) * scale.view(shape)
        if bias is not None:
            out = out + bias.to(out.dtype).view(shape)
        ctx.save_for_backward(images, weight, count, mean, inverse)
        return out.to(images.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, count, mean, inverse = ctx.saved_tensors
        shape = [1, -1] + [1] * (images.dim() - 2)
        dims = [0, *range(2, images.dim())]
        dy = grad.to(mean.dtype)
        xhat = (images.to(mean.dtype) - mean.view(shape)) * inverse.view(shape)
        sum_dy, sum_dy_xhat = dy.sum(dims), (dy * xhat).sum(dims)
        # The parameters' gradients stay local: DistributedDataParallel sums those of all parameters.
        grad_weight = sum_dy_xhat.to(weight.dtype) if ctx.needs_input_grad[1] else None
        grad_bias = sum_dy if ctx.needs_input_grad[2] else None
        grad_images = None
        if ctx.needs_input_grad[0]:
            sums = torch.cat([sum_dy, sum_dy_xhat])
            dist.all_reduce(sums)
            mean_dy, mean_dy_xhat = (sums / count).view(2, -1)
            scale = inverse if weight is None else inverse * weight.to(inverse.dtype)
            grad_images = (dy - mean_dy.view(shape) - xhat * mean_dy_xhat.view(shape)) * scale.view(shape)
            grad_images = grad_images.to(images.dtype)
        return grad_images, grad_weight, grad_bias, None, None, None, None


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch-norm over the batches of all processes, for [N, C, ...]; alone or in eval mode exactly nn.BatchNorm2d.

    Parameters, buffers and running moments are those of torch (unbiased running variance, over the global batch).
    Unlike torch's SyncBatchNorm it runs on the CPU too. Every process must call it equally often.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions [N, C, ...], got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        batch_moments = self.training or self.running_mean is None
        if not (batch_moments and is_active()):
            return super().forward(input)
        return self._over_all_processes(input)

    @torch.compiler.disable  # communication stays outside of what torch.compile fuses
    def _over_all_processes(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        count, mean, variance = global_moments(input)
        alone = input.numel() <= input.shape[1]  # only then is the total looked at, which makes the device wait
        if self.training and alone and count.item() <= 1:
            raise ValueError(f"more than 1 value a channel is needed in training, got input of size {input.size()}")
        if self.training and self.running_mean is not None:
            self._update_running(count, mean, variance)
        return _Normalize.apply(input, self.weight, self.bias, count, mean, variance, self.eps)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _update_running(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        rate = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), rate)


def convert_batchnorm(module: nn.Module) -> nn.Module:
    """Turn every nn.BatchNorm1d/2d/3d inside ``module``, in place, into a SyncedBatchNorm; returns ``module``.

    Parameters, buffers, hooks and names stay the same objects, so the optimizer and ``state_dict()`` do not notice.
    Raises OnebitError for a batch-norm with a forward of its own, which could not be kept.

    >>> net = convert_batchnorm(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()))
    >>> type(net[0]).__name__, list(net.state_dict())[:2]
    ('SyncedBatchNorm', ['0.weight', '0.bias'])
    """
    for name, child in module.named_modules():
        if not isinstance(child, _BatchNorm) or isinstance(child, (SyncedBatchNorm, nn.SyncBatchNorm)):
            continue
        if type(child).forward is not _BatchNorm.forward:
            raise OnebitError(
                f"{name or 'module'}: {type(child).__name__} cannot take its moments over several processes, "
                "use nn.BatchNorm2d or train in one process"
            )
        # The class alone changes: both have the same attributes, and whoever holds the module goes on holding it.
        child.__class__ = SyncedBatchNorm
    return module


def wrap(module: nn.Module, rank: Rank) -> nn.Module:
    """DistributedDataParallel around ``module`` when there are several processes, else ``module`` itself.

    It averages gradients over ranks, so each rank's loss is (sum over its images / images of the global batch) *
    world. Buffers are not broadcast in training: synchronised batch-norm leaves the same ones everywhere.
    """
    if rank.world <= 1:
        return module
    cuda = next(module.parameters()).device.type == "cuda"
    # torch 2.13 gave the option another name
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {buffers: False, "device_ids": [rank.local_rank] if cuda else None}
    return DistributedDataParallel(module, **options)
