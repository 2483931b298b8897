"""Find the shared library of the C core and declare its functions: core/include/onebit.h for ctypes.

Without a C compiler the package is installed without it; then `missing` says so, and `load` raises.
"""

from __future__ import annotations

import os
import sys
from ctypes import CDLL, POINTER, Structure, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from typing import Any

from onebit.errors import OnebitError

NAME = {"darwin": "libonebit.dylib", "win32": "libonebit.dll"}.get(sys.platform, "libonebit.so")
REMEDY = "install a C compiler, then: pip install --force-reinstall --no-deps --no-cache-dir onebit"

# ob_status
OK = 0
ERROR_ISA, ERROR_THREADS = 9, 10
PEAK_BYTES = 65536


class Shape(Structure):
    """ob_shape."""

    _fields_ = [
        (name, c_int32) for name in ("channels", "height", "width", "classes", "fraction", "sharpness", "operations")
    ]


class RawLayer(Structure):
    """ob_layer."""

    _fields_ = [
        ("operation", c_char_p),
        ("kernel", c_char_p),
        *((name, c_int32) for name in ("channels", "height", "width")),
        *((name, c_int32) for name in ("source_channels", "kernel_height", "kernel_width", "stride")),
        ("macs", c_int64),
        ("group", c_int32),
    ]


_p = c_void_p
SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "ob_status_name": (c_char_p, [c_int]),
    "ob_status_text": (c_char_p, [c_int]),
    "ob_program_size": (c_size_t, [_p, c_size_t]),
    "ob_program_read": (c_int, [_p, c_size_t, _p, c_size_t, POINTER(c_void_p), POINTER(c_int32)]),
    "ob_program_shape": (None, [_p, POINTER(Shape)]),
    "ob_isa_name": (c_char_p, [c_int]),
    "ob_isa_here": (c_int, [c_int]),
    "ob_model_size": (c_size_t, [_p, c_char_p]),
    "ob_model_build": (c_int, [_p, c_char_p, _p, c_size_t, POINTER(c_void_p)]),
    "ob_model_isa": (c_char_p, [_p]),
    "ob_model_shape": (None, [_p, POINTER(Shape)]),
    "ob_model_layer": (c_int, [_p, c_int32, POINTER(RawLayer)]),
    "ob_pool_create": (c_int, [c_int, POINTER(c_void_p)]),
    "ob_pool_free": (None, [_p]),
    "ob_pool_threads": (c_int, [_p]),
    "ob_arena_size": (c_size_t, [_p, _p]),
    "ob_peak": (c_int, [c_char_p, c_int, _p, c_size_t, POINTER(c_double)]),
    "ob_run": (c_int, [_p, _p, _p, c_size_t, _p, _p, c_size_t]),
    "ob_run_timed": (c_int, [_p, _p, _p, _p, _p, c_size_t, _p]),
}


@cache
def _open() -> tuple[CDLL | None, str]:
    """The library, or None and why there is none."""
    from onebit import engine

    # An editable install has two folders: that of the sources, and that of the library.
    paths = [os.path.join(folder, NAME) for folder in engine.__path__]
    if chosen := os.environ.get("ONEBIT_LIBRARY"):
        paths = [chosen]
    for path in paths:
        if os.path.exists(path):
            try:
                library = CDLL(path)
                for name, (result, arguments) in SIGNATURES.items():
                    function = getattr(library, name)
                    function.restype, function.argtypes = result, arguments
                return library, ""
            except (OSError, AttributeError) as error:
                return None, f"{path}: does not load ({error})"
    if chosen:
        return None, f"ONEBIT_LIBRARY={chosen}: no such file"
    return None, "onebit was installed without its C engine"


def available() -> bool:
    """Is there a library, and does it load?"""
    return _open()[0] is not None


def missing() -> str:
    """Why there is no library, in one line with the remedy; "" where there is one."""
    library, why = _open()
    return "" if library else f"{why}; {REMEDY}"


def load() -> CDLL:
    """The library, its functions declared. Raises OnebitError where there is none."""
    library, _ = _open()
    if library is None:
        raise OnebitError(missing())
    return library


def isas() -> dict[str, bool]:
    """The instruction sets that the library knows, best first, and whether this CPU has them."""
    library = load()
    found: dict[str, bool] = {}
    while name := library.ob_isa_name(len(found)):
        found[name.decode()] = bool(library.ob_isa_here(len(found)))
    return found
