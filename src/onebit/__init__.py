"""onebit: train convolutional networks whose every weight is one bit, and deploy them from packed bits.

``import onebit`` is light: PyTorch is imported only when a name that needs it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from onebit._version import __version__

# name -> module that defines it; resolved on first use so that the runtime install needs no torch
_LAZY = {
    "binarize": "onebit.binary",
    "float_weights": "onebit.binary",
    "binary_layers": "onebit.binary",
    "BinaryWeight": "onebit.binary",
    "OnebitError": "onebit.errors",
    "OnebitWarning": "onebit.errors",
    "load": "onebit.model",
    "pretrained": "onebit.zoo",
    "pack": "onebit.train.pack",
}

__all__ = [
    "BinaryWeight",
    "OnebitError",
    "OnebitWarning",
    "__version__",
    "binarize",
    "binary_layers",
    "float_weights",
    "load",
    "pack",
    "pretrained",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'onebit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
