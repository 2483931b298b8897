"""Compiling parts of the C core for tests, with whatever C compiler there is."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

CORE = Path(__file__).resolve().parents[2] / "core"
LOADER = [CORE / "src" / f"{name}.c" for name in ("status", "crc32", "text", "json", "header", "values", "program")]
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
# A file of core/src/kernels that ends in _<name>.c needs these flags, as core/CMakeLists.txt has them.
TIERS = {
    "avx2": ["-mavx2"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq"],
    "amx": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mamx-tile", "-mamx-int8"],
}


def compiler() -> str | None:
    """The C compiler to use: $CC, or what the system has."""
    return next(
        (found for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name and (found := shutil.which(name))), None
    )


def sources() -> list[Path]:
    """Every C file of the core."""
    return sorted([*CORE.glob("src/*.c"), *CORE.glob("src/kernels/*.c")])


def build(
    files: Iterable[Path], flags: Sequence[str], out: Path, *, shared: bool = True, cc: str | None = None
) -> Path:
    """Compile and link `files` into a shared library, or a program; `out`. A kernel that the compiler has no flags for is
    left out, as in CMake."""
    cc = cc or compiler()
    assert cc, "ask compiler() first"
    position = ["-fPIC"] if shared else []
    objects: list[Path] = []
    missing = [f"-DOB_NO_{name.upper()}" for name in TIERS if not takes(cc, name)]
    objects_in = out.parent / f"{out.name}.objects"
    objects_in.mkdir(parents=True, exist_ok=True)
    for number, source in enumerate(files):
        tier = source.stem.rpartition("_")[2]
        tier = tier if tier in TIERS and source.parent.name == "kernels" else ""
        if tier and not takes(cc, tier):
            continue
        objects.append(objects_in / f"{number}-{source.stem}.o")
        run(cc, *flags, *position, *missing, *TIERS.get(tier, []), "-c", source, "-o", objects[-1])
    run(cc, *flags, *(["-shared"] if shared else []), *objects, "-o", out, "-pthread")
    return out


@functools.cache
def takes(cc: str, tier: str) -> bool:
    """Does the compiler know the flags of an instruction set?"""
    return accepts(cc, *TIERS[tier])


@functools.cache
def accepts(cc: str, *flags: str) -> bool:
    """Can the compiler make a program with these flags?"""
    command = [cc, *flags, "-x", "c", "-", "-o", os.devnull]
    return (
        subprocess.run(command, input="int main(void) { return 0; }\n", text=True, capture_output=True).returncode == 0
    )


def run(*command: str | Path, timeout: float = 600) -> str:
    """What a command printed; all of it is in the failure where it fails."""
    done = subprocess.run(
        [str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
        errors="replace",
    )  # fmt: skip
    assert done.returncode == 0, (
        f"{' '.join(map(str, command))[:2000]}: status {done.returncode}\n{done.stdout[-8000:]}"
    )
    return done.stdout
