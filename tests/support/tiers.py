"""The C core as tests run it: every instruction set, any number of threads, with memory that tells of each stray write.

`Core` is the shared library, `check` compares; programs for it are in `support.forms`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from ctypes import byref, c_void_p
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from onebit.engine import library
from onebit.packed import file, reference
from onebit.packed.program import Program
from packed.test_golden import GOLDEN
from packed.test_golden import pictures as golden_pictures
from support import ccore

BUILD = ccore.CORE.parent / "build" / "tests"
FLAGS = ["-std=c11", "-O2"]
Pictures = NDArray[np.uint8]
T = TypeVar("T")


class Case(NamedTuple):
    """A program, pictures for it and the logits of the reference."""

    name: str
    content: bytes
    pictures: Pictures
    logits: NDArray[np.int32]


def golden(name: str, pictures: slice) -> Case:
    """Some pictures of a recorded model."""
    logits = np.load(GOLDEN / f"{name}-logits.npy")
    return Case(name, (GOLDEN / f"{name}.onebit").read_bytes(), golden_pictures(name)[pictures], logits[pictures])


def case(name: str, program: Program, given: Pictures) -> Case:
    classes = [f"class {i}" for i in range(program.classes)]
    return Case(name, file.encode(program, classes), given, reference.run(program, given))


# -- the library -------------------------------------------------------------------------------------------------------


def built(files: Sequence[Path], name: str, *flags: str, shared: bool = True, cc: str | None = None) -> Path:
    """A library or program of these files, compiled once for these sources and flags; kept in build/tests."""
    cc = cc or ccore.compiler()
    assert cc, "ask ccore.compiler() first"
    known = hashlib.sha256(repr((cc, flags, shared, [f.name for f in files])).encode())
    for source in sorted({*ccore.CORE.rglob("*.[ch]"), *files}):
        known.update(source.read_bytes())
    out = BUILD / known.hexdigest()[:16] / name
    if not out.exists():
        half = out.parent / f"{name}.{os.getpid()}"
        out.parent.mkdir(parents=True, exist_ok=True)
        ccore.build(files, [*FLAGS, *flags], half, shared=shared, cc=cc)
        shutil.rmtree(out.parent / f"{half.name}.objects")
        half.rename(out)
    return out


def driver(*flags: str, cc: str | None = None) -> Path:
    """core/tests/run.c as a program for any machine of its kind; `flags` "-static": for an emulator."""
    return built([*ccore.sources(), ccore.CORE / "tests" / "run.c"], "run", *flags, shared=False, cc=cc)


def emulated_driver(*flags: str) -> Path:
    """The same with AMX and AVX-512 alone, whose instructions are functions: core/tests/emulation.h."""
    return built([*_emulated(), ccore.CORE / "tests" / "run.c"], "run", "-Wno-psabi", *flags, shared=False)


def emulated_core(*flags: str) -> Core:
    """The library with these two."""
    return Core(built(_emulated(), "libonebit.so", "-Wno-psabi", "-DOB_SHARED", "-fvisibility=hidden", *flags))


def _emulated() -> list[Path]:
    kept = [f for f in ccore.sources() if f.parent.name != "kernels" and f.name != "isa.c"]
    return [*kept, *(ccore.CORE / "tests" / name for name in ("emulated.c", "emulated_amx.c"))]


def driver_isas(*command: str | Path) -> dict[str, bool]:
    """The instruction sets that a driver knows, best first, and whether it finds them."""
    done = subprocess.run([*command, "--isas"], stdout=subprocess.PIPE, text=True, check=True)
    return {name: here == "1" for name, here in (line.split() for line in done.stdout.splitlines())}


def run_driver(
    command: Sequence[str | Path], given: Sequence[Case], folder: Path, isa: str = "-", threads: int = 1
) -> set[str]:
    """Run all cases with one call of a driver, compare all logits; the instruction sets that it used."""
    arguments = []
    for number, one in enumerate(given):
        path = folder / f"{number}.onebit"
        path.write_bytes(one.content)
        arguments += [path, isa, f"{threads}x{len(one.pictures)}"]
    done = subprocess.run(
        [*command, *arguments],
        input=b"".join(one.pictures.tobytes() for one in given),
        capture_output=True,
        timeout=600,
    )
    used = done.stderr.decode(errors="replace")
    assert done.returncode == 0, f"{' '.join(map(str, command))}: status {done.returncode}: {used[-2000:]}"
    logits, at = np.frombuffer(done.stdout, "<i4"), 0
    assert len(logits) == sum(one.logits.size for one in given)
    for one in given:
        mine, at = logits[at : at + one.logits.size], at + one.logits.size
        wrong = np.flatnonzero(mine != one.logits.ravel())
        assert not len(wrong), (
            f"{one.name}: {isa}: {mine[wrong[0]]} for {one.logits.ravel()[wrong[0]]}, {len(wrong)} wrong"
        )
    return {line for line in used.splitlines() if " " not in line}  # an emulator has its say, too


@functools.cache
def host() -> Core:
    """The library for this machine; skips the test where there is no compiler."""
    if ccore.compiler() is None:
        pytest.skip("needs a C compiler")
    return Core(built(ccore.sources(), "libonebit.so", "-DOB_SHARED", "-fvisibility=hidden"))


class Core:
    """A shared library of the core."""

    def __init__(self, path: Path) -> None:
        self.lib = ctypes.CDLL(str(path))
        for name, (result, arguments) in library.SIGNATURES.items():
            function = getattr(self.lib, name)
            function.restype, function.argtypes = result, arguments
        self.known: dict[str, bool] = {}
        while name_ := self.lib.ob_isa_name(len(self.known)):
            self.known[name_.decode()] = bool(self.lib.ob_isa_here(len(self.known)))
        self.isas = [name for name, here in self.known.items() if here]

    @functools.cache  # noqa: B019  one library lives as long as the tests
    def pool(self, threads: int) -> c_void_p:
        pool = c_void_p()
        if threads > 1:
            self.demand(self.lib.ob_pool_create(threads, byref(pool)))
        return pool

    def demand(self, status: int) -> None:
        assert status == library.OK, self.lib.ob_status_name(status).decode()


class Fenced:
    """Bytes at an aligned address, full of noise, between fences that nobody may touch."""

    FENCE = 128

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.all = np.random.default_rng(seed).integers(0, 256, size + 2 * self.FENCE + 63, np.uint8)
        self.start = -(self.all.ctypes.data + self.FENCE) % 64 + self.FENCE
        self.address = self.all.ctypes.data + self.start
        self.fences = self.all.copy()

    @property
    def inside(self) -> NDArray[np.uint8]:
        return self.all[self.start : self.start + self.size]

    def check(self) -> None:
        end = self.start + self.size
        assert np.array_equal(self.all[: self.start], self.fences[: self.start]), "bytes before the memory changed"
        assert np.array_equal(self.all[end:], self.fences[end:]), "bytes behind the memory changed"


class Ready:
    """A packed model made ready for an instruction set."""

    def __init__(self, core: Core, content: bytes, isa: str | None, seed: int = 0) -> None:
        self.core, lib = core, core.lib
        given = Fenced(len(content), seed)
        given.inside[:] = np.frombuffer(content, np.uint8)
        work = Fenced(lib.ob_program_size(given.address, given.size), seed + 1)
        program, self.model = c_void_p(), c_void_p()
        core.demand(lib.ob_program_read(given.address, given.size, work.address, work.size, byref(program), None))
        name = isa.encode() if isa else None
        self.memory = Fenced(lib.ob_model_size(program, name), seed + 2)
        core.demand(lib.ob_model_build(program, name, self.memory.address, self.memory.size, byref(self.model)))
        for memory in (given, work, self.memory):
            memory.check()
        given.inside[:] = work.inside[:] = 0xA5  # neither is needed any more
        self.isa = lib.ob_model_isa(self.model).decode()
        self.shape = library.Shape()
        lib.ob_model_shape(self.model, byref(self.shape))
        self.built = self.memory.all.copy()

    def kernels(self) -> list[str]:
        """What computes each operation."""
        raw, found = library.RawLayer(), []
        for i in range(self.shape.operations):
            self.core.demand(self.core.lib.ob_model_layer(self.model, i, byref(raw)))
            found.append(raw.kernel.decode())
        return found

    def run(self, given: Pictures, threads: int = 1, seed: int = 7) -> NDArray[np.int32]:
        """Logits int32 [N, classes]; fails where anything but these and the arena was written to."""
        pool = self.core.pool(threads)
        images = Fenced(given.size, seed)
        images.inside[:] = given.ravel()
        logits = Fenced(len(given) * self.shape.classes * 4, seed + 1)
        arena = Fenced(self.core.lib.ob_arena_size(self.model, pool), seed + 2)
        status = self.core.lib.ob_run(
            self.model, pool, images.address, len(given), logits.address, arena.address, arena.size
        )
        self.core.demand(status)
        for memory in (images, logits, arena):
            memory.check()
        assert np.array_equal(images.inside, given.ravel()), "the pictures changed"
        assert np.array_equal(self.memory.all, self.built), "the model changed"
        return logits.inside.view(np.int32).reshape(len(given), self.shape.classes).copy()

    def timed(self, picture: Pictures, threads: int = 1) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        pool, lib = self.core.pool(threads), self.core.lib
        arena = Fenced(lib.ob_arena_size(self.model, pool), 3)
        logits, took = np.empty(self.shape.classes, np.int32), np.full(self.shape.operations, -1, np.int64)
        image = np.ascontiguousarray(picture)
        status = lib.ob_run_timed(
            self.model, pool, image.ctypes.data, logits.ctypes.data, arena.address, arena.size, took.ctypes.data
        )
        self.core.demand(status)
        arena.check()
        return logits, took


def check(core: Core, given: Case, isas: Sequence[str] | None = None, threads: Sequence[int] = (1, 2)) -> None:
    """Every instruction set gives the logits of the reference, with any number of threads, all pictures in one call."""
    for number, isa in enumerate(isas or core.isas):
        ready = Ready(core, given.content, isa, number)
        assert ready.isa == isa
        for count in threads:
            logits = ready.run(given.pictures, count, seed=count)
            wrong = np.flatnonzero(logits.ravel() != given.logits.ravel())
            assert not len(wrong), (
                f"{given.name}: {isa} with {count} threads: {len(wrong)} of {logits.size} logits are wrong, first "
                f"{logits.ravel()[wrong[0]]} for {given.logits.ravel()[wrong[0]]}; kernels {ready.kernels()}"
            )
