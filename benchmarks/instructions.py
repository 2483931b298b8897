"""Instructions that one picture takes, counted by valgrind: a figure that no busy neighbour changes.

    python benchmarks/instructions.py            count, and compare with results/engine/instructions.json
    python benchmarks/instructions.py --update   count, and store

The core is built by CMake as everybody gets it (Release) and linked with core/tests/run.c; a run with two pictures of
tests/golden/cifar10-20-1.onebit less a run with one is the count of a picture. Counts are kept by compiler, whose version
changes them. Valgrind 3.19 knows AVX2, but not AVX-512. Needs cmake, a C compiler and valgrind.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "instructions"
STORED = ROOT / "results" / "engine" / "instructions.json"
GOLDEN = ROOT / "tests" / "golden"
MODEL = GOLDEN / "cifar10-20-1.onebit"
ISAS = ("scalar", "words", "sse2", "avx2")
GROWTH = 0.01  # that goes unremarked


def output(*command: Any, **more: Any) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run([str(c) for c in command], capture_output=True, **more)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr.decode(errors='replace')[-2000:]}")
    return done


def build() -> tuple[Path, str, str]:
    """The program core/tests/run.c; its compiler, in words, and the flags."""
    output("cmake", "-S", ROOT / "core", "-B", BUILD, "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF")
    output("cmake", "--build", BUILD, "--parallel", "2")
    cache = (BUILD / "CMakeCache.txt").read_text(encoding="utf-8")
    values = dict(re.findall(r"^(CMAKE_C_\w+):\w+=(.*)$", cache, re.MULTILINE))
    compiler, flags = values["CMAKE_C_COMPILER"], f"{values['CMAKE_C_FLAGS']} {values['CMAKE_C_FLAGS_RELEASE']}".strip()
    program = BUILD / "run"
    output(
        compiler, *flags.split(), ROOT / "core" / "tests" / "run.c", BUILD / "libonebit.a", "-pthread", "-o", program
    )
    version = output(compiler, "--version").stdout.decode()
    first = version.splitlines()[0]
    return program, re.sub(r"^cc\b", "gcc", first) if "Free Software" in version else first, flags


def counted(program: Path, isa: str, pictures: bytes) -> tuple[int, bytes]:
    """Instructions of a run, and its logits."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"--callgrind-out-file={folder}/out"
        command = ("valgrind", "--tool=callgrind", out, program, MODEL, isa, 1)
        done = output(*command, input=pictures, cwd=folder)
    found = re.search(rb"Collected : (\d+)", done.stderr)
    assert found, done.stderr
    return int(found[1]), done.stdout


def instructions(program: Path, isa: str) -> int:
    """Of one picture. Raises SystemExit if the logits are wrong: the count would mean nothing."""
    pictures = np.load(GOLDEN / "cifar10-test-64.npy")
    one, _ = counted(program, isa, pictures[:1].tobytes())
    two, logits = counted(program, isa, pictures[:2].tobytes())
    if not np.array_equal(np.frombuffer(logits, "<i4").reshape(2, -1), np.load(GOLDEN / "cifar10-20-1-logits.npy")[:2]):
        raise SystemExit(f"{isa}: wrong logits under valgrind")
    return two - one


def stored() -> dict[str, Any]:
    return json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {}


def grown(found: dict[str, int], before: dict[str, int]) -> list[str]:
    """A line for every instruction set whose count grew by more than GROWTH.

    >>> grown({"avx2": 1020, "sse2": 900}, {"avx2": 1000, "sse2": 1000})
    ['avx2: 1,020 instructions a picture, 2.0 % more than 1,000']
    """
    return [
        f"{isa}: {n:,} instructions a picture, {100 * (n / before[isa] - 1):.1f} % more than {before[isa]:,}"
        for isa, n in found.items()
        if isa in before and n > before[isa] * (1 + GROWTH)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="store what was counted")
    options = parser.parse_args()
    program, compiler, flags = build()
    found = {isa: instructions(program, isa) for isa in ISAS}
    print(f"{compiler}, {flags}")
    before = stored().get(compiler, {}).get("instructions", {})
    for isa, n in found.items():
        print(f"{isa:8} {n:12,}" + (f"  {100 * (n / before[isa] - 1):+.2f} %" if isa in before else ""))
    if options.update:
        facts = stored() | {compiler: {"flags": flags, "model": MODEL.name, "instructions": found}}
        STORED.parent.mkdir(parents=True, exist_ok=True)
        STORED.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    elif lines := grown(found, before):
        sys.exit("\n".join(lines))


if __name__ == "__main__":
    main()
