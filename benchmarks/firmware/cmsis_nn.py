"""Instructions of CMSIS-NN's int8 kernels beside ours, on the same layers and the same network, counted by QEMU.

    python benchmarks/firmware/cmsis_nn.py CMSIS-NN [--core cortex-m4 ...]

CMSIS-NN is a checkout of github.com/ARM-software/CMSIS-NN (Apache-2.0). Writes results/firmware/cmsis_nn.json. Convolutions
are compared with all that they need (requantisation; ours reads activations and writes them through a batch-norm); padding
positions count as multiply-accumulates. The network is CIFAR-10 20-1. `-O3` for CMSIS-NN, `-Os` and `-O2` for ours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from onebit.export import firmware  # noqa: E402
from onebit.packed import file  # noqa: E402
from onebit.packed.program import Conv, Logits, Norm, Operation, Program, Table  # noqa: E402
from support import boards  # noqa: E402

HERE = Path(__file__).parent
CORES = {
    "cortex-m0plus": ("mps2-an385", ()),
    "cortex-m3": ("mps2-an385", ()),
    "cortex-m4": ("mps2-an386", ()),
    "cortex-m7": ("mps2-an500", ()),
    "cortex-m55": ("mps3-an547", ("-mfloat-abi=hard",)),
}
LAYERS = {"16 at 32x32": 0, "32 at 16x16": 1, "64 at 8x8": 2}
LAYER_MACS = 9 * 16 * 16 * 32 * 32  # the same in all three
NETWORK = 3
OWN_MAIN = ("start", "network", "conv", "add", "average", "obf_reset", "fault")  # not the peer's work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cmsis", type=Path)
    parser.add_argument("--core", action="append", choices=CORES)
    chosen = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        counter = boards.plugin(Path(work))
        for core in chosen.core or CORES:
            objects = compile_library(chosen.cmsis, core, Path(work) / f"cmsis-{core}")
            row: dict[str, Any] = {"layers": {}}
            for name, layer in LAYERS.items():
                theirs = peer(core, layer, chosen.cmsis, objects, Path(work), counter)
                ours = {o: own_layer(core, layer, Path(work) / f"{core}{layer}{o}", counter, o) for o in ("-Os", "-O2")}
                row["layers"][name] = {"cmsis_nn": theirs, **ours}
            theirs = peer(core, NETWORK, chosen.cmsis, objects, Path(work), counter)
            ours = {o: own_network(core, Path(work) / f"{core}-net{o}", counter, o) for o in ("-Os", "-O2")}
            row["network"] = {"cmsis_nn": theirs, **ours}
            found[core] = row
            print(core, json.dumps(row), flush=True)
    compiler = boards.compiler("cortex-m4").split(",")[0]
    made = {
        "command": "python benchmarks/firmware/cmsis_nn.py CMSIS-NN",
        "compiler": compiler,
        "macs": LAYER_MACS,
        "cores": found,
    }
    (ROOT / "results" / "firmware" / "cmsis_nn.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def flags(core: str) -> list[str]:
    return [f"-mcpu={core}", "-mthumb", *CORES[core][1]]


def compile_library(cmsis: Path, core: str, folder: Path) -> list[Path]:
    """CMSIS-NN's sources for a core."""
    folder.mkdir()
    sources = [
        source
        for part in ("ConvolutionFunctions", "NNSupportFunctions", "PoolingFunctions", "BasicMathFunctions")
        for source in sorted((cmsis / "Source" / part).glob("*.c"))
    ]
    command = [
        "arm-none-eabi-gcc",
        *flags(core),
        "-O3",
        "-ffunction-sections",
        f"-I{(cmsis / 'Include').resolve()}",
        "-c",
    ]
    subprocess.run([*command, *(str(source.resolve()) for source in sources)], cwd=folder, check=True)
    return sorted(folder.glob("*.o"))


def peer(core: str, layer: int, cmsis: Path, objects: list[Path], work: Path, counter: Path) -> int:
    """Instructions of CMSIS-NN's functions."""
    elf, script = work / f"peer-{core}-{layer}.elf", firmware.C / "boards" / "cortex_m.ld"
    ram = "0x21000000" if core == "cortex-m55" else "0x20000000"
    subprocess.run(
        [
            "arm-none-eabi-gcc", *flags(core), "-O2", f"-DLAYER={layer}", f"-I{cmsis / 'Include'}", "-ffunction-sections",
            "-nostartfiles", "--specs=nano.specs", "--specs=nosys.specs", HERE / "cmsis_nn.c", *objects, "-o", elf,
            "-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments", "-Wl,--defsym=board_flash=0", f"-Wl,--defsym=board_ram={ram}",
            "-T", script,
        ],
        check=True,
    )  # fmt: skip
    out = elf.with_suffix(".counts")
    subprocess.run(
        [
            "qemu-system-arm", "-M", CORES[core][0], "-nographic", "-monitor", "none", "-semihosting-config",
            "enable=on,target=native", "-icount", "shift=6", "-plugin", f"{counter},out={out},lo=0,hi={1 << 20}", "-kernel", elf,
        ],
        check=True, timeout=600,
    )  # fmt: skip
    counts = boards.by_function(elf, out, core)
    return sum(count for name, count in counts.items() if name not in OWN_MAIN)


def own_network(core: str, folder: Path, counter: Path, optimise: str) -> int:
    """Instructions of our whole 20-1."""
    packed = file.load(ROOT / "tests" / "golden" / "cifar10-20-1.onebit")
    pictures = np.load(ROOT / "tests" / "golden" / "cifar10-test-64.npy")[:1]
    firmware.export(packed, folder, core=core, pictures=pictures)
    optimised(folder, optimise)
    return sum(boards.instructions(folder, core, counter).values()) // 2


def own_layer(core: str, layer: int, folder: Path, counter: Path, optimise: str) -> int:
    """Instructions of one convolution that reads activations and writes them: what a network has more with it."""
    counts = []
    for convolutions in (1, 2):
        packed = small(16 << layer, 32 >> layer, convolutions)
        firmware.export(packed, folder, core=core, pictures=noise(packed))
        optimised(folder, optimise)
        counts.append(sum(boards.instructions(folder, core, counter).values()) // 2)
    return counts[1] - counts[0]


def noise(packed: file.Packed) -> np.ndarray:
    """A picture of random pixels, uint8 [1, H, W, C]."""
    channels, height, width = packed.program.input.shape
    return np.random.default_rng(0).integers(0, 256, (1, height, width, channels), np.uint8)


def optimised(folder: Path, optimise: str) -> None:
    makefile = folder / "Makefile"
    makefile.write_text(makefile.read_text().replace("-Os", optimise))


def small(channels: int, side: int, convolutions: int) -> file.Packed:
    """A first convolution, then some of `channels`, each behind a batch-norm whose outputs are 0 half the time."""
    rng = np.random.default_rng(0)

    def bits(outputs: int, inputs: int) -> np.ndarray:
        rows = rng.integers(0, 256, (outputs, -(-inputs // 8)), np.uint8)
        if inputs % 8:
            rows[:, -1] &= (1 << inputs % 8) - 1
        return rows

    def norm(source: int) -> Norm:
        zeros = np.zeros(channels, np.int16)
        return Norm(source, zeros, np.full(channels, 1500, np.int16), zeros)

    table = Table(side, side, np.tile(np.arange(-2048, 2048, 16, dtype=np.int16), (3, 1)))
    found: list[Operation] = [table, Conv(0, bits(channels, 27), (3, 3), 3, padding=(1, 1, 1, 1)), norm(1)]
    for _ in range(convolutions):
        conv = Conv(len(found) - 1, bits(channels, 9 * channels), (3, 3), 0, padding=(1, 1, 1, 1))
        found += [conv, norm(len(found))]
    ones = np.ones(2, np.int32)
    found.append(Logits(len(found) - 1, bits(2, channels), (1, 1), 4, ones, ones, fraction=8))
    return file.Packed(Program(found), ("a", "b"), {})


if __name__ == "__main__":
    main()
