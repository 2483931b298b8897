"""Firmware on boards that QEMU plays: built, run, its memory and its instructions counted."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

CROSS = {"riscv32": "riscv64-unknown-elf-"}
TOOLS = (
    "arm-none-eabi-gcc",
    "qemu-system-arm",
    "riscv64-unknown-elf-gcc",
    "qemu-system-riscv32",
    "make",
    "gcc",
)
PLUGIN = Path(__file__).resolve().parents[2] / "benchmarks" / "firmware" / "count_instructions.c"
TEST_CODE = {
    "obf_selftest", "obf_reset", "say", "say_number", "semihost", "obf_measure_stack", "leave", "obf_start", "fault",
}  # fmt: skip
OWN = ("network", "run", "numbers", "layer_", "conv_", "nibble_")  # objects of a product


def missing() -> list[str]:
    """The tools that are not here."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


NEEDED = [
    pytest.mark.target("microcontrollers"),
    pytest.mark.skipif(bool(missing()), reason=f"needs {', '.join(missing())}"),
]  # marks of tests that run firmware


def compiler(core: str) -> str:
    """Name and version, as one line."""
    tool = f"{CROSS.get(core, 'arm-none-eabi-')}gcc"
    version = subprocess.run([tool, "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{tool} {version}, -Os"


def build(folder: Path, core: str) -> Path:
    """The self-test of an export folder for a core: an ELF file, with its map beside it."""
    done = subprocess.run(["make", "-s", "elf", f"CORE={core}"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "build" / core / "selftest.elf"


def run(folder: Path, core: str, flags: str = "") -> tuple[NDArray[np.int64], int, str]:
    """Logits [pictures, classes], bytes of stack, and all that was said."""
    build(folder, core)
    command = ["make", "-s", "run", f"CORE={core}", f"QEMU_FLAGS={flags}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    said = done.stdout + done.stderr  # semihosting writes to standard error
    assert done.returncode == 0, said
    rows = [line.split() for line in said.splitlines() if re.fullmatch(r"-?\d+( -?\d+)*", line)]
    stack = re.search(r"^stack (\d+)$", said, re.M)
    assert stack, said
    return np.array(rows, np.int64), int(stack[1]), said


def sizes(folder: Path, core: str) -> dict[str, int]:
    """Bytes in flash of each object that a product links, and of the libraries under "library", by the linker's map."""
    text = build(folder, core).with_suffix(".map").read_text()
    text = text[text.index("Linker script and memory map") :]
    found: dict[str, int] = {}
    entry = re.compile(r"^ (\.(?:text|rodata|srodata|data)\S*)\s+0x[0-9a-f]+\s+0x([0-9a-f]+)\s+(\S+)$", re.M)
    for _, size, path in entry.findall(re.sub(r"^( \.\S+)\n", r"\1", text, flags=re.M)):
        name = Path(path).name
        if ".a(" in path:
            found["library"] = found.get("library", 0) + int(size, 16)
        elif name.startswith(OWN):
            found[name] = found.get(name, 0) + int(size, 16)
    return found


def plugin(folder: Path) -> Path:
    """The plugin that counts, compiled."""
    made = folder / "count.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", made, PLUGIN], check=True)
    return made


def instructions(folder: Path, core: str, counter: Path, functions: Iterable[str] | None = None) -> dict[str, int]:
    """How many instructions each function of the network ran in one self-test and the run that measures the stack."""
    elf = build(folder, core)
    lo = 0x80000000 if core == "riscv32" else 0
    out = elf.with_suffix(".counts")
    run(folder, core, f"-icount shift=6 -plugin {counter},out={out},lo={lo},hi={lo + (1 << 20)}")
    return {name: count for name, count in by_function(elf, out, core).items() if name not in TEST_CODE}


def by_function(elf: Path, counted: Path, core: str) -> dict[str, int]:
    """What the plugin wrote, summed over the functions of an ELF file."""
    listed = subprocess.run(
        [f"{CROSS.get(core, 'arm-none-eabi-')}nm", "-S", elf], capture_output=True, text=True, check=True
    )
    symbols = []
    for line in listed.stdout.splitlines():
        parts = line.split()
        if len(parts) == 4 and parts[2] in "tTwW":
            symbols.append((int(parts[0], 16) & ~1, int(parts[1], 16), parts[3]))
    symbols.sort()
    starts = np.array([s[0] for s in symbols])
    counts: dict[str, int] = {}
    for line in counted.read_text().splitlines():
        address, count = map(int, line.split())
        at = int(np.searchsorted(starts, address, "right")) - 1
        if at >= 0 and address < symbols[at][0] + symbols[at][1]:
            counts[symbols[at][2]] = counts.get(symbols[at][2], 0) + count
    return counts
