"""Batches for training and testing, the same whatever the number of ranks and of worker processes.

Randomness is counter-based: the order of an epoch depends on (seed, epoch), the augmentation of a step on
(seed, epoch, step), the crop of a photo on (seed, epoch, index). Nothing is carried from one batch to the next, so a
run resumes in the middle of an epoch without any saved state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from onebit.data.augment import Augment, apply, draw
from onebit.data.dataset import Arrays, Files
from onebit.data.photos import Job, PhotoBatches, mix
from onebit.errors import OnebitError

__all__ = ["Batch", "Feed", "make_feed", "mix", "share", "test_batches"]


@dataclass(frozen=True)
class Batch:
    """One rank's part of a mini-batch."""

    images: Tensor  # uint8 [n, C, H, W], on the training device
    labels: Tensor  # int64 [n], on the training device
    total: int  # images in the whole mini-batch, over all ranks


def share(count: int, rank: int, world: int) -> slice:
    """The contiguous part of ``count`` images that ``rank`` of ``world`` trains on, as numpy.array_split cuts it.

    >>> share(125, 0, 2), share(125, 1, 2)
    (slice(0, 63, None), slice(63, 125, None))
    """
    each, extra = divmod(count, world)
    start = rank * each + min(rank, extra)
    return slice(start, start + each + (rank < extra))


class Feed:
    """The mini-batches of every epoch; see ``make_feed``."""

    def __init__(
        self,
        split: Arrays | Files,
        *,
        device: torch.device,
        batch: int,
        augment: Augment,
        seed: int,
        last: str,
        size: int,
        channels: int,
        workers: int,
        rank: int,
        world: int,
    ) -> None:
        self.device, self.batch, self.augment, self.seed = device, batch, augment, seed
        self.size, self.channels, self.workers = size, channels, workers
        self.rank, self.world = rank, world
        self.count = len(split)
        if self.count == 0:
            raise OnebitError("training images: there are none; check the data folder and data.holdout")
        if batch < 1:
            raise OnebitError(f"training.batch: {batch} is not positive; the paper uses 125")
        if last not in ("keep", "drop"):
            raise OnebitError(f"training.last_batch: {last!r} is unknown; use 'keep' or 'drop'")
        self.steps = self.count // batch if last == "drop" else -(-self.count // batch)  # mini-batches in an epoch
        if self.steps == 0:
            raise OnebitError(
                f"training.batch: {batch} is more than the {self.count} training images and last_batch = 'drop'; "
                "lower the batch or keep the last one"
            )
        if isinstance(split, Files):
            self.files: Files | None = split
        else:
            # Small sets live on the device: 50,000 images of CIFAR are 150 MB.
            self.files = None
            self.images = _tensor(split.images).to(device)
        self.labels = _tensor(split.labels).to(device)

    def order(self, epoch: int) -> Tensor:
        """The order of the images in ``epoch``: int64 [count], on the CPU so that it is the same on every device."""
        return torch.randperm(self.count, generator=torch.Generator().manual_seed(mix(self.seed, epoch)))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The mini-batches ``start`` .. ``steps - 1`` of ``epoch``.

        Raises OnebitError for a damaged picture, naming its file.
        """
        order = self.order(epoch)
        if self.files is None:  # once an epoch: a copy for every mini-batch would make the device wait for each
            order = order.to(self.device)
        plan = list(order.split(self.batch))[start : self.steps]
        parts = [chosen[share(len(chosen), self.rank, self.world)] for chosen in plan]
        if self.files is None:
            pictures: Iterator[Tensor] = (self.images[part] for part in parts)
            spec = self.augment
        else:
            flip = self.augment.flip
            jobs = [Job(tuple(part.tolist()), "train", mix(self.seed, epoch), flip) for part in parts]
            pictures = _decode(self.files, jobs, self.size, self.channels, self.workers, self.device)
            spec = replace(self.augment, flip=False)  # the photo was flipped when it was cropped
        for step, (chosen, part, images) in enumerate(zip(plan, parts, pictures, strict=True), start=start):
            shape = (len(chosen), images.shape[1], images.shape[2], images.shape[3])
            drawn = draw(shape, spec, _generator(self.device, mix(self.seed, epoch, step)))
            mine = share(len(chosen), self.rank, self.world)
            yield Batch(apply(images, drawn[mine], spec), self.labels[part.to(self.device)], len(chosen))


def make_feed(
    split: Arrays | Files,
    *,
    device: torch.device | str,
    batch: int,
    augment: Augment,
    seed: int,
    last: str = "keep",
    size: int,
    channels: int,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Feed:
    """The training mini-batches of a split (PAPER, "Training").

    Arrays are moved to ``device`` once, as uint8, and augmented there. Files are decoded by ``workers`` processes
    (0: in this one), cropped at a random scale to ``size`` as in the ResNet paper and flipped if ``augment.flip``;
    padding and cutout, if the recipe asks for them, follow on the device. ``last`` "drop" leaves out the incomplete
    mini-batch at the end of an epoch. Each of ``world`` ranks gets its contiguous share of every mini-batch, and the
    pictures do not depend on their number.

    Raises OnebitError for an empty split or a mini-batch that does not fit.

    >>> split = Arrays(np.zeros((10, 1, 8, 8), np.uint8), np.arange(10))
    >>> feed = make_feed(split, device="cpu", batch=4, augment=Augment(), seed=0, size=8, channels=1)
    >>> feed.steps, [len(batch.labels) for batch in feed.epoch(0)]
    (3, [4, 4, 2])
    """
    return Feed(
        split, device=torch.device(device), batch=batch, augment=augment, seed=seed, last=last, size=size,
        channels=channels, workers=workers, rank=rank, world=world,
    )  # fmt: skip


def test_batches(
    split: Arrays | Files,
    *,
    device: torch.device | str,
    batch: int,
    size: int,
    channels: int,
    workers: int = 0,
    crops: str = "centre",
    seed: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images of a split in their order, as (uint8 images [N, C, H, W], int64 labels [N]) on ``device``.

    Photos have their shorter side scaled to 256/224 of ``size`` and their centre cropped. ``crops`` "25" gives images
    [N, 25, C, size, size] instead: 5 scales with 5 random positions each, fixed by ``seed``. The caller runs the
    network on all 25 and averages their softmax (not their logits), as the paper does.

    Raises OnebitError for a damaged picture, naming its file.

    >>> split = Arrays(np.zeros((10, 1, 8, 8), np.uint8), np.arange(10))
    >>> [len(labels) for _, labels in test_batches(split, device="cpu", batch=4, size=8, channels=1)]
    [4, 4, 2]
    """
    if crops not in ("centre", "25"):
        raise OnebitError(f"data.crops: {crops!r} is unknown; use 'centre' or '25'")
    device = torch.device(device)
    labels = _tensor(split.labels)
    cuts = [range(i, min(i + batch, len(split))) for i in range(0, len(split), batch)]
    if isinstance(split, Files):
        jobs = [Job(tuple(cut), crops, seed) for cut in cuts]
        pictures = _decode(split, jobs, size, channels, workers, device)
    elif crops == "centre":
        pictures = (_tensor(split.images[cut.start : cut.stop]).to(device) for cut in cuts)
    else:
        raise OnebitError("data.crops: '25' is for photographs of any size, this set has images of one; use 'centre'")
    return _labelled(pictures, labels, cuts, device)


test_batches.__test__ = False  # type: ignore[attr-defined]  # pytest takes the name for a test


def _generator(device: torch.device, seed: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def _labelled(
    pictures: Iterator[Tensor], labels: Tensor, cuts: list[range], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    for cut, images in zip(cuts, pictures, strict=True):
        yield images, labels[cut.start : cut.stop].to(device)


def _tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor; shared where it may be written to, since torch knows no read-only memory."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _decode(
    files: Files, jobs: Sequence[Job], size: int, channels: int, workers: int, device: torch.device
) -> Iterator[Tensor]:
    """The images of each job, decoded by worker processes that end with this iterator."""
    loader: DataLoader[Tensor | str] = DataLoader(
        PhotoBatches(files.paths, size, channels),
        batch_size=None,  # a job is a whole mini-batch: one message to and from the worker
        sampler=jobs,
        num_workers=min(workers, len(jobs)),
        collate_fn=_as_is,  # type: ignore[arg-type]
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # otherwise the loader takes a number from the global one
    )
    batches = iter(loader)
    try:
        for _ in jobs:
            try:
                images = next(batches)
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise OnebitError(
                    f"data.workers: a decoding process ended ({str(error).splitlines()[0]}); "
                    "use fewer workers, or give the machine more (shared) memory"
                ) from None
            if isinstance(images, str):
                raise OnebitError(images)
            yield images.to(device, non_blocking=True)
    finally:
        # Collecting the iterator would end them too, but when is up to the interpreter.
        shutdown = getattr(batches, "_shutdown_workers", None)
        if shutdown is not None:
            shutdown()


def _as_is(result: Tensor | str) -> Tensor | str:
    return result
