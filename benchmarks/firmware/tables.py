"""Write the tables of docs/export-firmware.md from results/firmware/*.json and from footprints.

    python benchmarks/firmware/tables.py

A table stands between `<!-- firmware: NAME -->` and `<!-- end -->`. A test holds the page to the stored results.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from onebit.export import firmware  # noqa: E402
from onebit.packed import file  # noqa: E402
from onebit.report.tables import result  # noqa: E402
from support.models import wide  # noqa: E402

PAGE = ROOT / "docs" / "export-firmware.md"
RESULTS = ROOT / "results" / "firmware"
BLOCK = re.compile(r"(<!-- firmware: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
NAMES = {
    "cortex-m0plus": "Cortex-M0+",
    "cortex-m3": "Cortex-M3",
    "cortex-m4": "Cortex-M4",
    "cortex-m7": "Cortex-M7",
    "cortex-m55": "Cortex-M55",
    "riscv32": "RISC-V (rv32imac)",
}

PROGRAM = file.load(ROOT / "tests" / "golden" / "cifar10-20-1.onebit").program
MACS = sum(PROGRAM.macs(i) for i in range(len(PROGRAM.operations)))


def stored(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return content


def layers() -> list[str]:
    """Instructions a multiply-accumulate of single convolutions."""
    found = stored("cmsis_nn.json")
    rows = [
        "| core | convolution, 3x3 | onebit `-Os` | onebit `-O2` | CMSIS-NN int8 | times fewer (`-O2`) |",
        "|---|---|---|---|---|---|",
    ]
    for core, row in found["cores"].items():
        for name, counts in row["layers"].items():
            ours, fast, theirs = (counts[key] / found["macs"] for key in ("-Os", "-O2", "cmsis_nn"))
            rows.append(f"| {NAMES[core]} | {name} | {ours:.3f} | {fast:.3f} | {theirs:.3f} | {theirs / fast:.1f} |")
    return rows


def network() -> list[str]:
    """Instructions of the whole network."""
    found = stored("cmsis_nn.json")
    rows = [
        "| core | onebit `-Os` | onebit `-O2` | CMSIS-NN int8 | times fewer (`-O2`) | instructions a MAC (`-O2`) |",
        "|---|---|---|---|---|---|",
    ]
    for core, row in found["cores"].items():
        ours, fast, theirs = (row["network"][key] for key in ("-Os", "-O2", "cmsis_nn"))
        rows.append(
            f"| {NAMES[core]} | {ours / 1e6:.1f} M | {fast / 1e6:.1f} M | {theirs / 1e6:.1f} M | {theirs / fast:.1f} "
            f"| {fast / MACS:.2f} |"
        )
    return rows


def cycles() -> list[str]:
    """Modelled cycles a multiply-accumulate on Cortex-M4."""
    found = stored("cycles.json")
    whole = found["networks"]["20-1"]
    rows = [
        "| Cortex-M4, modelled | onebit `-Os` | onebit `-O2` | CMSIS-NN int8 | times fewer (`-O2`) |",
        "|---|---|---|---|---|",
    ]
    of = {f"{name}, 3x3": (row, found["macs"]) for name, row in found["layers"].items()}
    of["the whole of 20-1"] = (whole, whole["macs"])
    for name, (row, macs) in of.items():
        ours, fast, theirs = (row[key] / macs for key in ("-Os", "-O2", "cmsis_nn"))
        rows.append(f"| {name} | {ours:.2f} | {fast:.2f} | {theirs:.2f} | {theirs / fast:.1f} |")
    return rows


def memory() -> list[str]:
    """Bytes of CIFAR-10 20-1 with both schedules, and what the small one costs."""
    counts = stored("instructions.json")["counts"]
    packed = file.load(ROOT / "tests" / "golden" / "cifar10-20-1.onebit")
    rows = [
        "| core | flash | RAM | RAM, low memory | instructions | low memory |",
        "|---|---|---|---|---|---|",
    ]
    for core, name in NAMES.items():
        fast, small = (firmware.footprint(packed, core=core, low_memory=low) for low in (False, True))
        ran, more = (counts[f"{core}, {kind}"]["total"] for kind in ("20-1", "20-1, low memory"))
        rows.append(
            f"| {name} | {fast.flash:,} | {fast.ram:,} | {small.ram:,} | {ran / 1e6:.1f} M | {more / ran:.2f} times as many |"
        )
    return rows


def tinyml() -> list[str]:
    """Beside MLPerf Tiny's two image classification tasks."""
    rows = [
        "| network | weights in flash | flash, all | RAM | RAM, low memory | MACs | M4 at 120 MHz | CIFAR-10 accuracy |",
        "|---|---|---|---|---|---|---|---|",
        "| MLPerf Tiny's ResNet-8, int8 (reference) | 98.5 kB file | | | | 12.5 M | 165.6 ms, measured | target 85 % |",
        "| MLPerf Tiny's larger network, int8 (reference) | 512 kB file | | | | 76.5 M | | target 91 % |",
    ]
    modelled = stored("cycles.json")["networks"]
    for name, packed in {"14-1": wide(2, 1), "20-1": wide(3, 1), "20-1.5": wide(3, 1.5)}.items():  # type: ignore[arg-type]
        fast, small = (firmware.footprint(packed, low_memory=low) for low in (False, True))
        program = packed.program
        bits = sum(op.bits.size for _, op in program.convolutions())
        macs = sum(program.macs(i) for i in range(len(program.operations)))
        time = f"{modelled[name]['-Os'] / 120e3:.0f} ms, modelled"
        rows.append(
            f"| onebit {name}, 1 bit | {bits / 1e3:.1f} kB | {fast.flash / 1e3:.1f} kB | {fast.ram / 1e3:.1f} kB "
            f"| {small.ram / 1e3:.1f} kB | {macs / 1e6:.1f} M | {time} | {accuracy(name)} |"
        )
    return rows


def accuracy(name: str) -> str:
    """The best-documented run of this project, not the best one: with cutout, 62 epochs, seed 0."""
    run = ROOT / "results" / f"cifar10-{name}-cutout-1bit-s0"
    return f"{100 - result(run)['error']:.2f} % ([log](../results/{run.name}))" if run.is_dir() else "not trained yet"


TABLES = {"layers": layers, "network": network, "cycles": cycles, "memory": memory, "tinyml": tinyml}


def rewritten(text: str) -> str:
    """The page with every table as the results give it."""
    return BLOCK.sub(lambda m: m[1] + "\n".join(TABLES[m[2]]()) + "\n" + m[4], text)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
