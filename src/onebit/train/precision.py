"""Which arithmetic to train in: bfloat16 only where the hardware computes it, float32 everywhere else.

torch accepts bfloat16 on every CPU, but one with AVX2 only emulates it about ten times slower than float32. So the
unit that computes it (AMX-BF16: about 3x float32; AVX512-BF16: about 1.7x) is detected, never assumed.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, cast, get_args

import torch

from onebit.errors import OnebitError, nearest
from onebit.machine import cpu_model, cpuinfo

Precision = Literal["float32", "bf16"]


def native_bf16(
    info: str | None = None, environment: Mapping[str, str] | None = None, tile: bool | None = None
) -> Literal["amx", "avx512", ""]:
    """The unit of this CPU on which torch's convolutions compute bfloat16: "amx", "avx512", or "" for none.

    Three things must agree: the CPU lists the flag ``amx_bf16`` or ``avx512_bf16`` (``info``: the text of
    /proc/cpuinfo), the operating system grants the tile registers of AMX (``tile``: torch's answer, taken as yes when
    this torch cannot tell), and oneDNN is not held to an older instruction set by ``ONEDNN_MAX_CPU_ISA``
    (``environment``). The arguments replace what this machine says.

    >>> native_bf16("flags\\t\\t: fpu amx_bf16 amx_tile avx512_bf16", {}, tile=True)
    'amx'
    >>> native_bf16("flags\\t\\t: fpu avx512_bf16", {}, tile=True)
    'avx512'
    >>> native_bf16("flags\\t\\t: fpu avx2", {}, tile=True)
    ''
    """
    info = cpuinfo() if info is None else info
    environment = os.environ if environment is None else environment
    listed = re.search(r"^flags\s*:(.*)$", info, flags=re.MULTILINE)  # every core lists the same
    flags = set(listed[1].split()) if listed else set()
    # oneDNN reads its name first, then the one from when it was called DNNL; it ignores words it does not know.
    isa = (environment.get("ONEDNN_MAX_CPU_ISA") or environment.get("DNNL_MAX_CPU_ISA") or "default").lower()
    held = isa.startswith(("sse", "avx"))
    if "amx_bf16" in flags and (not held or "amx" in isa) and (_tile_granted() if tile is None else tile):
        return "amx"
    # avx2_vnni_2 converts bfloat16 but multiplies in float32: no gain to be had from it.
    if "avx512_bf16" in flags and (not held or any(word in isa for word in ("bf16", "fp16", "amx", "avx10"))):
        return "avx512"
    return ""


def _tile_granted() -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    ask = getattr(torch.cpu, "_is_amx_tile_supported", None)
    if ask is None:
        return True
    try:
        return bool(ask())
    except RuntimeError:
        return False


def has_bf16(device: torch.device) -> bool:
    """True where ``device`` computes bfloat16 natively: CUDA from capability 8, ROCm, or a CPU that has a unit for it."""
    if device.type == "cuda":
        if not torch.cuda.is_available():
            return False
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and native_bf16() != ""


def resolve(precision: str, device: torch.device) -> Precision:
    """What the recipe's ``precision`` ("auto", "float32" or "bf16") means on ``device``.

    ``auto`` is bf16 where ``has_bf16`` says so. An explicit ``bf16`` elsewhere is obeyed, with a warning. Raises
    OnebitError for another word.

    >>> resolve("float32", torch.device("cpu"))
    'float32'
    """
    if precision == "auto":
        return "bf16" if has_bf16(device) else "float32"
    if precision not in get_args(Precision):
        known = ("auto", *get_args(Precision))
        raise OnebitError(f"training.precision: {precision!r} is not a precision, {nearest(precision, known)}")
    if precision == "bf16" and not has_bf16(device):
        where = cpu_model(cpuinfo()) if device.type == "cpu" else str(device)
        warnings.warn(
            f"precision bf16: {where} does not compute bfloat16 natively; expect training to be far slower than with "
            "precision = float32 (about ten times on a CPU with AVX2 only)",
            stacklevel=2,
        )
    return cast(Precision, precision)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The context to run forward passes in: torch's autocast for "bf16", nothing for "float32"."""
    if precision == "float32":
        return contextlib.nullcontext()
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    known = get_args(Precision)
    raise OnebitError(f"precision: {precision!r} cannot be run, {nearest(precision, known)} (resolve 'auto' first)")
