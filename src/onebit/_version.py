"""The version, stated once: read here by the build and by users as ``onebit.__version__``."""

from __future__ import annotations

__version__ = "0.1.0"
