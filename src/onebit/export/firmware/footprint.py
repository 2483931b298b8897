"""What firmware needs, known before anything is compiled or trained: flash and RAM."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from onebit.errors import OnebitError, nearest
from onebit.export.firmware.generate import Source
from onebit.export.firmware.layouts import Family
from onebit.export.firmware.plan import Plan, plan
from onebit.packed.file import Packed

CORES: dict[str, tuple[Family, ...]] = {
    "cortex-m0plus": ("few", "nibble", "any"),
    "cortex-m3": ("few", "nibble", "any"),
    "cortex-m4": ("few", "nibble", "any"),
    "cortex-m7": ("few", "nibble", "any"),
    "cortex-m55": ("few", "helium", "nibble", "any"),
    "riscv32": ("few", "nibble", "any"),
}
SIZES = Path(__file__).with_name("code_sizes.json")


@dataclass(frozen=True)
class Footprint:
    """Bytes that a network needs on a core: constants and arena exactly, code and stack as measured once (`measured`)."""

    core: str
    low_memory: bool
    constants: int
    code: int
    arena: int
    stack: int
    measured: str

    @property
    def flash(self) -> int:
        return self.constants + self.code

    @property
    def ram(self) -> int:
        return self.arena + self.stack

    def facts(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self) | {"flash": self.flash, "ram": self.ram}

    def line(self) -> str:
        """One line for people."""
        return (
            f"flash {self.flash:,} bytes ({self.constants:,} of constants, {self.code:,} of code), "
            f"RAM {self.ram:,} bytes ({self.arena:,} of arena, {self.stack:,} of stack) on {self.core}, {self.measured}"
        )


def families(core: str) -> tuple[Family, ...]:
    """The kernel families of a core, the preferred first. Raises OnebitError for a core that is none."""
    if core not in CORES:
        raise OnebitError(f"core {core!r} is unknown: {nearest(core, CORES)}")
    return CORES[core]


def footprint(packed: Packed, *, core: str = "cortex-m4", low_memory: bool = False) -> Footprint:
    """What a packed model needs on a core. Raises OnebitError as `plan` does, and for a core that is none."""
    laid = plan(packed.program, families(core), low_memory)
    source = Source(packed, laid, "network")
    source.source()
    code, stack, measured = _code(laid, core)
    return Footprint(core, low_memory, source.bytes, code, laid.arena, stack, measured)


def _code(laid: Plan, core: str) -> tuple[int, int, str]:
    """Bytes of code and of stack, from the stored measurement."""
    stored = _sizes()
    sizes = stored["code"][core]
    missing = [name for name in laid.sources if name not in sizes]
    if missing:
        raise OnebitError(f"{missing[0]}: its size is not stored in {SIZES.name}; run tools/measure_firmware.py")
    return sum(sizes[name] for name in laid.sources) + sizes["library"], stored["stack"][core], stored["compiler"][core]


@cache
def _sizes() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(SIZES.read_text(encoding="utf-8"))
    return content
