"""What a run says before it trains: its size, its cost and, after trying a few mini-batches, how long it will take."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from onebit.data.feed import Batch, Feed
from onebit.errors import OnebitError
from onebit.networks.summary import summarize
from onebit.networks.wide_resnet import describe
from onebit.recipe import Recipe
from onebit.train import checkpoint, distributed
from onebit.train.distributed import Rank
from onebit.train.moments import moment_batches
from onebit.train.optimizer import SGD, parameter_groups
from onebit.train.precision import autocast
from onebit.train.progress import clock
from onebit.train.step import train_step

TRY_SECONDS = 1.5  # how long mini-batches are tried, after the first
TRY_STEPS = 20
SMALL = 500_000  # bytes, packed, of what a microcontroller may hold


@dataclass(frozen=True)
class Pace:
    """Measured seconds: of one training mini-batch, and of the forward pass of one image in evaluation."""

    step: float
    image: float

    def total(self, epochs: int, steps: int, tested: int, trained: int) -> float:
        """Seconds of `epochs` of `steps` mini-batches, each followed by a test of `tested` images, and of the last pass
        over `trained` images for the moments.

        >>> Pace(step=2.0, image=0.5).total(epochs=3, steps=10, tested=4, trained=6)
        69.0
        """
        return epochs * (steps * self.step + tested * self.image) + trained * self.image


def introduce(recipe: Recipe, net: nn.Module, *, data: str, channels: int, size: int, device: str) -> list[str]:
    """Lines about the network: what it is, parameters, packed bytes, multiply-accumulates."""
    costs = summarize(net, channels=channels, size=size)
    size_on_disk = f"{costs.float_bytes / 1000:,.1f} kB as float"
    if costs.packed_bytes < costs.float_bytes:
        size_on_disk = f"{costs.packed_bytes / 1000:,.1f} kB packed ({size_on_disk})"
    return [
        f"{recipe.name}: {describe(recipe.network)} on {data}, {device}",
        f"{costs.params:,} weights = {size_on_disk}, {costs.macs / 1e6:,.2f} M multiply-accumulates a picture",
        *(microcontroller(net, channels=channels, size=size) if costs.packed_bytes < SMALL else ()),
    ]


def microcontroller(net: nn.Module, *, channels: int, size: int) -> list[str]:
    """A line on the flash and RAM that a network will need on a Cortex-M4, which its shapes decide; none if it cannot be said."""
    from onebit.export.firmware import footprint
    from onebit.train.pack import pack

    try:
        logits = summarize(net, channels=channels, size=size).layers[-1].shape[0]
        untrained = pack(copy.deepcopy(net).eval(), [str(k) for k in range(logits)], channels=channels, size=size)
        fast, small = (footprint(untrained.packed, low_memory=low) for low in (False, True))
    except OnebitError:  # a network without batch-norm needs pictures before it can be packed
        return []
    kilobytes = [f"{n / 1000:,.1f} kB" for n in (fast.flash, fast.ram, small.ram)]
    return [f"on a {fast.core}: {kilobytes[0]} of flash, {kilobytes[1]} of RAM, or {kilobytes[2]} in low memory"]


def expect(pace: Pace, recipe: Recipe, feed: Feed, *, epoch: int, tested: int, world: int) -> str:
    """One line: how long the epochs after `epoch` will take, with `tested` images tested by this process after each."""
    left = recipe.training.epochs - epoch
    trained = -(-feed.count // world) if recipe.training.moments == "reestimate" else 0
    moments = -(-moment_batches(feed.steps) * feed.batch // world) if trained else 0  # before each test
    seconds = pace.total(left, feed.steps, tested + moments, trained)
    pictures = left * min(feed.count, feed.steps * feed.batch)
    said = " without torch.compile" if recipe.training.compile else ""
    return f"{left} epoch{'s' * (left != 1)}, {pictures:,} pictures: about {clock(seconds)}{said}"


def measure(net: nn.Module, feed: Feed, recipe: Recipe, precision: str, rank: Rank) -> Pace:
    """Try real mini-batches on a copy of `net`; weights, moments and random generators of the run stay as they are.

    With several processes all must call this together: batch-norm and gradients are shared as in training.
    """
    training = recipe.training
    state = checkpoint.random_state()
    trial = copy.deepcopy(net).train()
    optimizer = SGD(parameter_groups(trial, training.weight_decay), training.lr, training.momentum)
    model = distributed.wrap(trial, rank)
    batches = feed.epoch(0)
    try:
        batch = next(batches)
        few = Batch(batch.images[:8], batch.labels[:8], batch.total)
        _timed(model, optimizer, few, precision, rank.world)  # libraries load, kernels are chosen
        # every process tries equally many more: the slowest one decides
        first = max(distributed.gather_objects(_timed(model, optimizer, batch, precision, rank.world)))
        count = min(TRY_STEPS, int(TRY_SECONDS / first), feed.steps - 1)
        begun = time.monotonic()
        for batch in islice(batches, count):  # the time to make a mini-batch counts too
            _timed(model, optimizer, batch, precision, rank.world)
        step = (time.monotonic() - begun) / count if count else first
        image = _forward_time(trial.eval(), batch, precision)
    finally:
        close = getattr(batches, "close", None)  # ends decoding processes
        if close is not None:
            close()
        checkpoint.set_random_state(state)
    return Pace(step, image)


def _timed(model: nn.Module, optimizer: SGD, batch: Batch, precision: str, world: int) -> float:
    begun = time.monotonic()
    train_step(model, optimizer, batch, precision, world).sum().item()  # waits for the device
    return time.monotonic() - begun


@torch.no_grad()
def _forward_time(net: nn.Module, batch: Batch, precision: str) -> float:
    """Seconds an image of the forward pass; 0 for an empty share of a mini-batch."""
    if not len(batch.labels):
        return 0.0
    begun = time.monotonic()
    with autocast(precision, batch.images.device):
        net(batch.images.contiguous(memory_format=torch.channels_last)).sum().item()
    return (time.monotonic() - begun) / len(batch.labels)
