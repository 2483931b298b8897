"""Measure what firmware needs and write src/onebit/export/firmware/code_sizes.json and results/firmware/instructions.json.

    python tools/measure_firmware.py

Builds CIFAR-10 20-1 (tests/golden) and two networks that use every other layer for each core, runs them under QEMU, and
stores: bytes of code of each C file and of what it takes of libraries, by the linker's map; bytes of stack, painted; and
instructions of a picture, whole and by function. Needs the tools of tests/support/boards.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from onebit.export import firmware  # noqa: E402
from onebit.packed import file  # noqa: E402
from support import boards  # noqa: E402
from support.every_layer import every_layer  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"


def main() -> None:
    code: dict[str, dict[str, int]] = {}
    stack: dict[str, int] = {}
    counts: dict[str, Any] = {}
    packed = file.load(GOLDEN / "cifar10-20-1.onebit")
    pictures = np.load(GOLDEN / "cifar10-test-64.npy")[:1]
    place = Path(firmware.__file__).parent / "code_sizes.json"
    known = json.loads(place.read_text(encoding="utf-8"))
    for sizes in known["code"].values():  # a new file has none yet, and exports want one
        sizes.update({name: 0 for name in EVERY if name not in sizes})
    place.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    with tempfile.TemporaryDirectory() as work:
        counter = boards.plugin(Path(work))
        for core in firmware.CORES:
            code[core], stack[core] = {}, 0
            networks = {
                "20-1": (packed, False),
                "20-1, low memory": (packed, True),
                "every layer": (every_layer(), False),
            }
            for name, (network, low_memory) in networks.items():
                folder = Path(work) / core / name.replace(" ", "-").replace(",", "")
                shown = pictures if network is packed else None
                firmware.export(network, folder, core=core, low_memory=low_memory, pictures=shown)
                _, used, _ = boards.run(folder, core)
                stack[core] = max(stack[core], used)
                for part, size in boards.sizes(folder, core).items():
                    if part != "network.o":
                        key = part.replace(".o", ".c")
                        code[core][key] = max(code[core].get(key, 0), size)
                if network is packed:
                    ran = boards.instructions(folder, core, counter)
                    runs = 2  # the self-test's picture, and the one that measures the stack
                    counts[f"{core}, {name}"] = {
                        "total": sum(ran.values()) // runs,
                        "functions": {k: v // runs for k, v in sorted(ran.items(), key=lambda item: -item[1])[:8]},
                    }
            code[core] |= {name: 0 for name in EVERY if name not in code[core]}
            print(core, sum(code[core].values()), stack[core], {k: v["total"] for k, v in counts.items() if core in k})
    sizes = {"compiler": {core: boards.compiler(core) for core in code}, "code": code, "stack": stack}
    place.write_text(json.dumps(sizes, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    qemu = subprocess.run(["qemu-system-arm", "--version"], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )[0]
    made = {
        "command": "python tools/measure_firmware.py",
        "qemu": qemu,
        "compiler": sizes["compiler"],
        "counts": counts,
    }
    results = ROOT / "results" / "firmware"
    results.mkdir(parents=True, exist_ok=True)
    (results / "instructions.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


EVERY = [path.name for path in sorted(firmware.C.glob("*.c")) if path.name not in ("host.c", "selftest.c")] + [
    "library"
]

if __name__ == "__main__":
    main()
