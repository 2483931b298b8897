"""Cycles of a Cortex-M4, modelled from counted instructions: ours and CMSIS-NN's, on the same layers and the same network.

    python benchmarks/firmware/cycles.py CMSIS-NN

Writes results/firmware/cycles.json. 20-1 is the trained network, 14-1 and 20-1.5 have random weights and batch-norms that fit
them (benchmarks/make_models.py). QEMU counts how often each instruction ran; the model gives each its cycles in a core
that issues one at a time and never waits for memory:

    branches, taken or not                  2 (and 2 more for one that is loaded from memory)
    loads of one register                   2, or 1 directly behind another load of one register
    loads and stores of two registers       3
    loads and stores of n registers         1 + n
    divisions                               12, the most that one takes
    all others, stores and multiplications  1

It is no measurement: wait states of flash, and what a core does at once, are not in it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks"), str(Path(__file__).parent)]

import cmsis_nn  # noqa: E402
import make_models  # noqa: E402

from onebit.export import firmware  # noqa: E402
from onebit.packed import file  # noqa: E402
from support import boards  # noqa: E402
from support.models import wide  # noqa: E402

CORE = "cortex-m4"
CONDITIONS = ("eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le")
BRANCHES = {"b", "bl", "bx", "blx", "cbz", "cbnz", "tbb", "tbh"} | {"b" + condition for condition in CONDITIONS}
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\t([a-z]\S*)(?:\t(.*))?$")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")


def costs(listing: Iterable[str], leave_out: Iterable[str] = ()) -> dict[int, int]:
    """Cycles by address, of objdump's listing (-d --no-show-raw-insn), without the functions that are left out."""
    found: dict[int, int] = {}
    left, after_load, skip = set(leave_out), False, False
    for line in listing:
        if title := FUNCTION.match(line):
            skip, after_load = title[1] in left, False
        elif (match := INSTRUCTION.match(line)) and not skip:
            name = match[2].split(".")[0]
            found[int(match[1], 16)] = cost(name, match[3] or "", after_load)
            after_load = single_load(name)
    return found


def single_load(name: str) -> bool:
    return name.startswith("ldr") and not name.startswith("ldrd")


def cost(name: str, operands: str, after_load: bool) -> int:
    """Cycles of one instruction."""
    if name in BRANCHES:
        return 2
    if name.startswith(("ldrd", "strd")):
        return 3
    if single_load(name):
        return (1 if after_load else 2) + (2 if operands.startswith("pc,") else 0)
    if name.startswith(("ldm", "stm", "push", "pop")):
        return 1 + registers(operands) + (2 if name.startswith(("ldm", "pop")) and "pc" in operands else 0)
    return 12 if name.startswith(("udiv", "sdiv")) else 1


def registers(operands: str) -> int:
    """How many a list such as {r0, r4-r7, lr} names."""
    total = 0
    for part in operands[operands.index("{") + 1 : operands.index("}")].split(","):
        low, _, high = part.strip().partition("-")
        total += number(high) - number(low) + 1 if high else 1
    return total


def number(register: str) -> int:
    return {"sl": 10, "fp": 11, "ip": 12, "sp": 13, "lr": 14, "pc": 15}.get(register) or int(register.lstrip("r"))


def modelled(elf: Path, counted: Path, leave_out: Iterable[str]) -> int:
    """Cycles of all that ran outside the functions that are left out."""
    command = ["arm-none-eabi-objdump", "-d", "--no-show-raw-insn", elf]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    each = costs(listing.splitlines(), leave_out)
    rows = (map(int, line.split()) for line in counted.read_text().splitlines())
    return sum(count * each.get(address, 0) for address, count in rows)


def ours(packed: file.Packed, folder: Path, counter: Path, optimise: str, pictures: np.ndarray | None = None) -> int:
    """Cycles of one picture, by the export of a packed model."""
    firmware.export(packed, folder, core=CORE, pictures=cmsis_nn.noise(packed) if pictures is None else pictures)
    cmsis_nn.optimised(folder, optimise)
    boards.instructions(folder, CORE, counter)
    elf = folder / "build" / CORE / "selftest.elf"
    return modelled(elf, elf.with_suffix(".counts"), boards.TEST_CODE) // 2  # and the run that measures the stack


def theirs(layer: int, cmsis: Path, objects: list[Path], work: Path, counter: Path) -> int:
    """Cycles of CMSIS-NN's functions."""
    cmsis_nn.peer(CORE, layer, cmsis, objects, work, counter)
    elf = work / f"peer-{CORE}-{layer}.elf"
    return modelled(elf, elf.with_suffix(".counts"), cmsis_nn.OWN_MAIN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cmsis", type=Path)
    cmsis = parser.parse_args().cmsis
    golden = ROOT / "tests" / "golden"
    found: dict[str, Any] = {"layers": {}, "networks": {}}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        counter = boards.plugin(work)
        objects = cmsis_nn.compile_library(cmsis, CORE, work / "cmsis")
        for layer, index in cmsis_nn.LAYERS.items():
            row = {"cmsis_nn": theirs(index, cmsis, objects, work, counter)}
            for optimise in ("-Os", "-O2"):
                one, two = (
                    ours(cmsis_nn.small(16 << index, 32 >> index, n), work / f"{index}{n}{optimise}", counter, optimise)
                    for n in (1, 2)
                )
                row[optimise] = two - one
            found["layers"][layer] = row
            print(layer, row, flush=True)
        networks = {name: make_models.make(name) for name in ("14-1", "20-1.5")}
        networks["20-1"] = file.load(golden / "cifar10-20-1.onebit")
        pictures = np.load(golden / "cifar10-test-64.npy")[:1]
        for key, packed in networks.items():
            folder = work / key
            found["networks"][key] = {o: ours(packed, folder / o, counter, o, pictures) for o in ("-Os", "-O2")} | {
                "macs": sum(packed.program.macs(i) for i in range(len(packed.program.operations)))
            }
            print(key, found["networks"][key], flush=True)
        # Nearly all activations at their end, as its batch-norms do not fit: sums beyond the kernels' lanes.
        found["saturated"] = ours(wide(3, Fraction(3, 2)), work / "saturated", counter, "-Os", pictures)
        white = np.full_like(pictures, 255)
        found["networks"]["20-1"]["white"] = ours(networks["20-1"], work / "white", counter, "-Os", white)
        found["networks"]["20-1"]["cmsis_nn"] = theirs(cmsis_nn.NETWORK, cmsis, objects, work, counter)
    made = {
        "command": "python benchmarks/firmware/cycles.py CMSIS-NN",
        "compiler": boards.compiler(CORE).split(",")[0],
        "macs": cmsis_nn.LAYER_MACS,
        **found,
    }
    (ROOT / "results" / "firmware" / "cycles.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
