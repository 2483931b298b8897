"""Does a packed model answer as the network that it was made from? `onebit verify`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.examine.compare import Comparison, Progress, activation_bits, batches, compare
from onebit.examine.evaluate import open_split
from onebit.graph import author
from onebit.graph import nodes as graph
from onebit.model import load
from onebit.train.evaluate import load_model, run_root

Batch = NDArray[np.uint8]


def verify(
    checkpoint: Path, packed: Path, *, data: str | None = None, root: Path | None = None, images: int | None = None,
    progress: Progress = lambda done, of: None,
) -> Comparison:  # fmt: skip
    """Run both on the same test pictures: the checkpoint in float32 (torch, no autocast), the packed model in integers.

    Args:
        checkpoint: a run folder, its model.pt, or a .mat file of the paper's author (which runs in NumPy).
        packed: a packed model.
        data: None (as the model's card says), a name of the catalog, or a folder of pictures.
        root: the folder of the data sets; None: the run's own, or ONEBIT_DATA.
        images: only so many, the first ones.
    """
    model = load(packed)
    run = in_floats(checkpoint)
    split, _, _ = open_split(model, packed, data, root or run_root(checkpoint), images)
    channels, size, _ = model.shape
    floats, integers, labels = [], [], []
    done = 0
    for pictures, wanted in batches(split, channels, size):
        try:
            floats.append(run(pictures))
        except (RuntimeError, ValueError) as error:
            raise OnebitError(
                f"{checkpoint}: takes other pictures than {packed} ({str(error).splitlines()[0]})"
            ) from None
        integers.append(model.logits(pictures, "NCHW"))
        labels.append(wanted)
        done += len(wanted)
        progress(done, len(split))
    if not done:
        raise OnebitError("verify: there is no test picture; give at least one with --images")
    if floats[0].shape[1] != len(model.classes):
        raise OnebitError(f"{checkpoint}: has {floats[0].shape[1]} classes, {packed} has {len(model.classes)}")
    return compare(np.concatenate(floats), np.concatenate(integers), np.concatenate(labels), activation_bits(model))


def in_floats(checkpoint: Path) -> Callable[[Batch], NDArray[Any]]:
    """The network of a checkpoint in float32: pictures uint8 [N, C, H, W] to logits [N, classes]."""
    if checkpoint.suffix == ".mat":
        imported = author.read(checkpoint)
        return lambda pictures: graph.run(imported.graph, pictures)
    net, _, _ = load_model(checkpoint)

    @torch.no_grad()
    def run(pictures: Batch) -> NDArray[Any]:
        x = torch.from_numpy(np.array(pictures)).contiguous(memory_format=torch.channels_last)
        return net(x).float().numpy()

    return run
