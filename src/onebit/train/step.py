"""One mini-batch: logits, loss, gradient, update. The training loop and the estimate of its time both run this.

And the network as `train_step` gets it: as it is, or through torch.compile.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.data.feed import Batch
from onebit.errors import OnebitError
from onebit.recipe import Training
from onebit.train.optimizer import SGD
from onebit.train.precision import autocast


def train_step(model: nn.Module, optimizer: SGD, batch: Batch, precision: str, world: int = 1) -> Tensor:
    """Move the weights by one mini-batch (PAPER section 3.2: cross-entropy, mean over the whole mini-batch).

    `batch` is this process's share of the mini-batch, `world` the number of processes. Returns float32 [3]: the summed
    loss, the wrong answers and the images of the share, as they were before the update.
    """
    optimizer.zero_grad(set_to_none=True)  # first: their memory is free for the forward pass (and for CUDA graphs)
    with autocast(precision, batch.images.device):
        logits = model(batch.images.contiguous(memory_format=torch.channels_last))
    loss = F.cross_entropy(logits.float(), batch.labels, reduction="sum")
    # DDP averages gradients over processes: times world, over the global batch, makes that the gradient of the mean loss
    (loss * (world / batch.total)).backward()
    optimizer.step()
    wrong = (logits.detach().argmax(1) != batch.labels).sum()
    return torch.stack([loss.detach(), wrong.float(), torch.full_like(loss, len(batch.labels)).detach()])


def compiled(net: nn.Module, settings: Training, world: int = 1) -> nn.Module:
    """`net` as the recipe wants it run: as it is, through torch.compile, or with CUDA graphs too.

    Raises OnebitError for CUDA graphs without torch.compile, which records them. On other devices, and among several
    processes (whose communication cannot be recorded), there are none.
    """
    if settings.cuda_graphs and not settings.compile:
        raise OnebitError("training.cuda_graphs: torch.compile records them; add --set compile=true")
    if not settings.compile:
        return net
    graphs = settings.cuda_graphs and next(net.parameters()).is_cuda and world == 1
    return torch.compile(net, mode="reduce-overhead" if graphs else None)  # type: ignore[return-value]
