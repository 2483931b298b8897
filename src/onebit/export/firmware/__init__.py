"""Microcontrollers: a packed model as C that computes straight from the bits, in one piece of memory known beforehand.

`layers` fuses the program, `schedule` and `plan` order and place it, `layouts` knows the kernels, `generate` writes C.
The C that all networks share lies in `c/`.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError, reason
from onebit.export.firmware import readme
from onebit.export.firmware.footprint import CORES, Footprint, families, footprint
from onebit.export.firmware.generate import Source, check_name
from onebit.export.firmware.plan import plan
from onebit.export.firmware.proof import prove
from onebit.export.folders import whole
from onebit.packed import file, reference
from onebit.packed.file import Packed

__all__ = ["CORES", "Footprint", "export", "footprint", "logits"]

C = Path(__file__).parent / "c"
SELFTEST = 2  # pictures recorded where none are given


def export(
    packed: Packed, output: Path, *, name: str = "network", core: str = "cortex-m4", low_memory: bool = False,
    pictures: NDArray[np.uint8] | None = None,
) -> Footprint:  # fmt: skip
    """Write the folder `output`: the network as C, with the runtime, a self-test, a Makefile and a README.

    Args:
        name: begins the names in C.
        core: of CORES; it decides which kernels are used. The C is portable: any core runs what was made for another.
        low_memory: run layers row by row where that saves memory; takes longer.
        pictures: for the self-test, uint8 [N, H, W, C]; None: two made ones.

    Returns what it needs. Raises OnebitError for a name or core that is none, pictures that do not fit, a folder that is
    there and no earlier export, and a network beyond what firmware can hold.
    """
    laid = plan(packed.program, families(core), low_memory)
    prove(laid)
    found = footprint(packed, core=core, low_memory=low_memory)
    source = Source(packed, laid, check_name(name))
    shown = _made(packed) if pictures is None else pictures
    answers = reference.run(packed.program, shown)
    runtime = laid.sources
    with whole(output, ("Makefile", "network.mk")) as folder:
        (folder / "onebit").mkdir()
        for part in [*runtime, *(path.name for path in sorted(C.glob("*.h")) if path.name != "selftest.h")]:
            shutil.copyfile(C / part, folder / "onebit" / part)
        for part in ("selftest.c", "selftest.h", "host.c", "Makefile"):
            shutil.copyfile(C / part, folder / part)
        if (C / "boards").is_dir():
            shutil.copytree(C / "boards", folder / "boards")
        made = "".join(f" onebit/{part}" for part in runtime)
        texts = {
            f"{name}.h": source.header(found.line()),
            f"{name}.c": source.source(),
            "selftest_data.h": source.selftest(shown, answers),
            "network.mk": f"NETWORK := {name}\nRUNTIME :={made}\nMADE_FOR := {core}\n",
            "README.md": readme.text(packed, laid, name, core, found),
        }
        for part, text in texts.items():
            (folder / part).write_text(text, encoding="utf-8")
        (folder / "model.onebit").write_bytes(file.encode(*packed))
    return found


def logits(folder: Path, images: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Logits int32 [N, classes] of pictures uint8 [N, H, W, C], by a folder's C compiled for this machine.

    Raises OnebitError where there is no C compiler, where the C does not compile, and where it fails.
    """
    compiler = next((found for found in map(shutil.which, ("cc", "gcc", "clang")) if found), None)
    if compiler is None:
        raise OnebitError(f"{folder}: running firmware on this machine needs a C compiler; install gcc or clang")
    packed = file.load(folder / "model.onebit")
    with tempfile.TemporaryDirectory() as build:
        program = Path(build) / "host"
        lines = (folder / "network.mk").read_text(encoding="utf-8").splitlines()
        facts = dict(line.split(" :=", 1) for line in lines if " :=" in line)
        sources = [f"{facts['NETWORK'].strip()}.c", *facts["RUNTIME"].split(), "selftest.c", "host.c"]
        command = [compiler, "-std=c99", "-O2", "-I.", "-Ionebit", "-o", str(program), *sources]
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if made.returncode:
            raise OnebitError(f"{folder}: does not compile: {made.stderr.strip().splitlines()[0]}")
        try:
            answer = subprocess.run([program, "-"], input=np.ascontiguousarray(images).tobytes(), capture_output=True)
        except OSError as error:
            raise OnebitError(f"{folder}: compiled, but does not start ({reason(error)})") from None
        if answer.returncode:
            raise OnebitError(f"{folder}: its program failed with status {answer.returncode}")
    found = np.frombuffer(answer.stdout, np.int32)
    return found.reshape(len(images), packed.program.classes).copy()


def _made(packed: Packed) -> NDArray[np.uint8]:
    """Pictures for a self-test, the same everywhere: all numbers of a byte in two orders."""
    channels, height, width = packed.program.input.shape
    count = np.arange(SELFTEST * channels * height * width, dtype=np.uint64)
    mixed = (count * 2654435761 % 2**32) >> 24
    return mixed.astype(np.uint8).reshape(SELFTEST, height, width, channels)
