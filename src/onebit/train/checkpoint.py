"""Checkpoints: written to a temporary name, flushed to the disk, then renamed; read with ``weights_only``.

A checkpoint holds all that determines the rest of a run: latent weights, moments, momentum, position (epoch and
mini-batch), running sums, the states of the random generators of every process, and the recipe. Data order and
augmentation need no state: they are functions of (seed, epoch, mini-batch). No time, host or path is in it, so a
resumed run ends in the same bytes as one that was never stopped.
"""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onebit.errors import OnebitError, reason
from onebit.files import atomic_write

FORMAT = 1


def to_cpu(tree: Any, *, copy: bool = False) -> Any:
    """Tensors of nested dicts, lists and tuples on the CPU, detached, in their own memory layout.

    Without `copy` a tensor that is on the CPU already comes back sharing its memory, which training goes on changing.

    >>> weights = torch.zeros(1)
    >>> kept, shared = to_cpu([weights], copy=True), to_cpu([weights])
    >>> weights += 1
    >>> kept[0].item(), shared[0].item()
    (0.0, 1.0)
    """
    if isinstance(tree, torch.Tensor):
        return tree.detach().to("cpu", copy=copy)
    if isinstance(tree, str):
        return sys.intern(str(tree))  # pickle writes the same object once: equal strings must not differ in that
    if isinstance(tree, Mapping):
        return {to_cpu(k): to_cpu(v, copy=copy) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(to_cpu(v, copy=copy) for v in tree)
    return tree


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically. The same content gives the same bytes."""
    tree = {"format": FORMAT, **to_cpu(content)}
    atomic_write(path, lambda file: torch.save(tree, file))


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint (tensors and plain values only, on the CPU); OnebitError if it is missing, damaged or foreign."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise OnebitError(
            f"{path}: there is no such checkpoint; name a run folder or a .pt file that training wrote"
        ) from None
    except (PermissionError, IsADirectoryError) as error:
        raise OnebitError(f"{path}: cannot be read ({reason(error)}); name a .pt file that you may read") from error
    except pickle.UnpicklingError as error:  # torch's own text advises to load such a file unsafely
        raise OnebitError(
            f"{path}: not a readable checkpoint (it holds something else than tensors and plain values); name a file that "
            "onebit wrote"
        ) from error
    except Exception as error:  # damaged bytes stop the reader in any way, with texts about its insides
        raise OnebitError(
            f"{path}: not a readable checkpoint (it is damaged or cut short); restore it from a copy, or train again"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise OnebitError(
            f"{path}: checkpoint format {found!r}, this version reads {FORMAT}; use the onebit that wrote it"
        )
    return content


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators: a layer of yours may draw from any of them."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of every random generator of this process: Python, NumPy, torch, and CUDA devices.

    >>> state = random_state()
    >>> first = random.random()
    >>> set_random_state(state)
    >>> random.random() == first
    True
    """
    version, words, gauss = random.getstate()
    name, keys, pos, has_gauss, cached = np.random.get_state()
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(pos),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore what `random_state` returned; CUDA generators only where as many devices are present."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, pos, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), pos, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    cuda = state.get("cuda")
    if cuda and torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(cuda)
