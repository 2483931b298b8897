"""Where a network lives: by name, or the best device present."""

from __future__ import annotations

import torch

from onebit.errors import OnebitError


def best_device() -> str:
    """The best kind of device present: "cuda", then "mps", then "cpu"."""
    mps = getattr(torch.backends, "mps", None)
    return "cuda" if torch.cuda.is_available() else "mps" if mps and mps.is_available() else "cpu"


def pick_device(name: str | None) -> torch.device:
    """The named device, or the best one present (None); OnebitError when it cannot be used.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    name = name or best_device()
    try:
        chosen = torch.device(name)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise OnebitError(
            f"device {name!r} is not usable here ({str(error).splitlines()[0]}); try --device cpu"
        ) from error
    return chosen
