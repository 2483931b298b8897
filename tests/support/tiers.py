"""The C core as tests run it: every instruction set, any number of threads, with memory that tells of each stray write.

`Core` is the shared library, `corpus` and `layered` make programs, `answers` compares.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Sequence
from ctypes import byref, c_void_p
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onebit.engine import library
from onebit.packed import file, reference
from onebit.packed.program import Conv, Logits, Norm, Operation, Program, Table
from onebit.patches import Padding
from packed.test_golden import GOLDEN
from packed.test_golden import pictures as golden_pictures
from support import ccore
from support.programs import Draw, pictures, programs

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


# -- random programs ---------------------------------------------------------------------------------------------------

CHANNELS = (1, 3, 8, 17, 2, 33, 64, 130)
SIDES = (1, 2, 3, 5, 7, 8, 9, 14, 16, 17, 28, 33)


@st.composite
def cases(draw: Draw) -> Case:
    """Random valid programs of any structure with their pictures and answers; some have many channels and large maps."""
    wide: dict[str, Any] = {"channels": CHANNELS, "sides": SIDES, "operations": 9, "macs": 300_000}
    program = draw(programs(**draw(st.sampled_from(({}, {}, wide)))))
    return case("random", program, draw(pictures(program, 2)))


@st.composite
def forms(draw: Draw) -> Form:
    """Random forms; 3 x 3 and maps of ordinary sizes are frequent."""
    side = st.one_of(st.integers(1, 40), st.sampled_from((7, 8, 14, 16, 28, 32, 33, 56, 65)))
    height, width = draw(side), draw(side)
    kernel = draw(st.one_of(st.just((3, 3)), st.tuples(st.integers(1, 6), st.integers(1, 6))))
    most = max(1, int((1_000_000 / (height * width * kernel[0] * kernel[1])) ** 0.5))
    channels = draw(st.one_of(st.integers(1, min(most, 40)), st.integers(1, min(most, 200))))
    limit = draw(st.one_of(st.sampled_from((255, 15)), st.integers(1, 255)))
    padding = draw(st.one_of(st.none(), st.tuples(*[st.integers(0, 4)] * 4)))
    if padding and (height + padding[0] + padding[2] < kernel[0] or width + padding[1] + padding[3] < kernel[1]):
        padding = None
    return Form(
        (height, width), channels, kernel, draw(st.sampled_from((1, 1, 2, 3))), limit,
        draw(st.one_of(st.just(0), st.integers(0, limit))), draw(st.booleans()),
        draw(st.one_of(st.just(0), st.integers(1, 2 * channels + 3))), padding, draw(st.sampled_from((False, False, True))),
    )  # fmt: skip


def corpus(strategy: st.SearchStrategy[T], count: int) -> list[T]:
    """`count` random things, always the same."""
    found: list[T] = []

    @settings(
        max_examples=count, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def collect(drawn: T) -> None:
        found.append(drawn)

    collect()
    return found


# -- programs of a given form ------------------------------------------------------------------------------------------


class Form(NamedTuple):
    """A residual network in small: the input's convolution, two of a block, and one of `stride` to `outputs`."""

    side: tuple[int, int] = (8, 8)
    channels: int = 16
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    limit: int = 255
    zero: int = 0
    offsets: bool = False
    outputs: int = 0  # 0: as many as channels
    padding: Padding | None = None  # of the last convolution; None: as much as keeps a map's size
    stream: bool = False  # the last convolution reads the stream, not an activation

    def __str__(self) -> str:
        usual = Form()._asdict()
        differs = {name: value for name, value in self._asdict().items() if value != usual[name]}
        return (
            ", ".join(f"{n} {'x'.join(map(str, v)) if isinstance(v, tuple) else v}" for n, v in differs.items()) or "-"
        )


def layered(form: Form, seed: int = 0) -> Case:
    """A program of this form with two pictures, noise in black and white and noise."""
    rng = np.random.default_rng(seed)
    channels, outputs, (down, across) = form.channels, form.outputs or form.channels, form.kernel
    padding = (down - 1) // 2, (across - 1) // 2, down // 2, across // 2
    found: list[Operation] = [Table(*form.side, rng.integers(-8159, 8160, (3, 256)).astype(np.int16))]

    def conv(
        source: int, inputs: int, outputs: int, stride: int = 1, base: int = -1, padding: Padding = padding
    ) -> int:
        taps = down * across * inputs
        typical = taps**0.5 * (form.limit / 2 if isinstance(found[source], Norm) else 5000)
        found.append(
            Conv(source, row_bits(rng, outputs, taps), form.kernel, shift_to(typical, 500), stride, padding, base)
        )
        return len(found) - 1

    def norm(source: int, channels: int) -> int:
        mean, multiplier = rng.integers(-300, 301, channels), rng.integers(2000, 32768, channels) * form.limit // 255
        offset = rng.integers(-9, 10, channels) * form.offsets
        rows = [a.astype(np.int16) for a in (mean, multiplier * rng.choice([1, 1, 1, -1], channels), offset)]
        found.append(Norm(source, rows[0], rows[1], rows[2], form.zero, form.limit))
        return len(found) - 1

    stream = conv(0, 3, channels)
    stream = conv(norm(conv(norm(stream, channels), channels, channels), channels), channels, channels, base=stream)
    read = stream if form.stream else norm(stream, channels)
    last = norm(conv(read, channels, outputs, form.stride, padding=form.padding or padding), outputs)
    program = with_head(found, last, rng)
    height, width = form.side
    given = rng.integers(0, 256, (2, height, width, 3), np.uint8)
    given[0] = np.where(given[0] > 127, 255, 0)
    return case(str(form), program, given)


def extreme(
    channels: int, kernel: tuple[int, int], sign: str, source: str, side: int = 8, outputs: int = 9, padded: bool = True
) -> Case:
    """A convolution whose sums are as large as they can be, in both directions: every number of its source lies at the end
    of its range, and all weights have one `sign`: "+", "-", "=" (that of the number itself), or "0": they take turns, so
    that sums are about 0 and each is seen to the last bit.

    `source`: "u8", "u8 zero" (numbers 0 stand for -255), "nibble" (0 to 15), "i16" (the stream, saturated), "i16 less"
    (up to 24477). Padding keeps the map's size, unless `padded` is False.
    """
    rng = np.random.default_rng(channels)
    limit, zero = (15 if source == "nibble" else 255), (255 if source == "u8 zero" else 0)
    half = np.where(np.arange(256) < 128, -8159, 8159).astype(np.int16)
    ends = np.where(np.arange(channels) % 3 == 1, -1, 1) if sign == "=" else np.ones(channels, int)  # of each channel
    ones = np.packbits(np.repeat(ends[:, None] > 0, 3, 1), axis=1, bitorder="little")
    found: list[Operation] = [Table(side, side, np.stack([half] * 3)), Conv(0, ones, (1, 1), 0)]
    if source == "i16":
        found.append(Conv(0, ones, (1, 1), 0, base=1))
    elif source != "i16 less":
        none, steep = np.zeros(channels, np.int16), np.full(channels, 32767, np.int16)
        found.append(Norm(1, none, steep, none, zero, limit))
    taps = kernel[0] * kernel[1] * channels
    positive = np.broadcast_to(ends > 0, (outputs, kernel[0] * kernel[1], channels)).reshape(outputs, taps)
    if sign == "-":
        positive = ~positive
    elif sign == "=":
        positive = np.where(np.arange(outputs)[:, None] % 2, ~positive, positive)
    elif sign == "0":
        positive = (np.arange(taps) + np.arange(outputs)[:, None]) % 2 == 0
    bits = np.packbits(positive, axis=1, bitorder="little")
    padding = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2, kernel[0] // 2, kernel[1] // 2)
    padding = padding if padded else (0, 0, 0, 0)
    most = taps * {"i16": 32768, "i16 less": 24477}.get(source, limit)
    shift = 0 if sign == "0" else shift_to(most, 30_000)
    found.append(Conv(len(found) - 1, bits, kernel, shift, 1, padding))
    program = with_head(found, len(found) - 1, rng)
    given = np.full((4, side, side, 3), 255, np.uint8)
    given[1] = 0
    given[2] = rng.integers(0, 2, (side, side, 1), np.uint8) * 255
    given[3, :, ::2] = 0
    return case(f"{channels} channels, {kernel[0]}x{kernel[1]}, weights {sign}, {source}", program, given)


def row_bits(rng: np.random.Generator, rows: int, taps: int) -> NDArray[np.uint8]:
    return np.packbits(rng.random((rows, taps)) < 0.5, axis=1, bitorder="little")


def shift_to(size: float, to: float) -> int:
    """The shift with which numbers of this size become about `to`."""
    return min(24, max(0, int(np.ceil(np.log2(size / to)))))


def with_head(operations: list[Operation], last: int, rng: np.random.Generator) -> Program:
    """The program of these operations and logits in which each number of the map counts for itself."""
    value = _Open(operations).values[last]
    channels, height, width = value.shape
    bits = row_bits(rng, 7, channels * height * width)
    shift = shift_to(channels * height * width * value.reach, 2**28)
    gain, offset = np.array([1, -1, 2, 3, -2, 1, 1], np.int32), np.arange(7, dtype=np.int32) - 3
    return Program([*operations, Logits(last, bits, (height, width), shift, gain, offset, 8)])


class _Open(Program):
    """What operations make, before there are logits."""

    def __init__(self, operations: list[Operation]) -> None:
        self.values = []
        for i, op in enumerate(operations):
            self.values.append(self._value(op, i))


# -- the programs that every test runs ----------------------------------------------------------------------------------

_SIDES = [
    (7, 7),
    (14, 14),
    (28, 28),
    (33, 33),
    (56, 20),
    (9, 65),
    (1, 1),
    (2, 5),
    (32, 32),
    (16, 16),
    (24, 40),
    (5, 130),
]
FORMS = [
    *(Form(side=side, channels=20) for side in _SIDES),
    *(Form(channels=channels) for channels in (1, 2, 5, 7, 13, 31, 64, 100, 129, 160, 260)),
    *(Form((9, 12), 12, kernel) for kernel in ((1, 1), (5, 5), (2, 3), (2, 2), (1, 7), (4, 1), (3, 5), (7, 3))),
    *(Form(side, 10, stride=stride) for stride in (2, 3) for side in ((16, 16), (15, 33), (7, 9))),
    *(Form((11, 16), 14, kernel, stride=2) for kernel in ((1, 1), (2, 2), (5, 5))),
    *(Form(channels=24, zero=zero, offsets=True) for zero in (0, 1, 128, 255)),
    *(Form(side, channels, limit=15) for side in ((8, 8), (17, 30)) for channels in (16, 130)),
    Form((16, 16), 33, limit=15, zero=4, offsets=True),
    Form(channels=40, limit=1),
    Form(channels=16, limit=100, stride=2, outputs=300),
]
# What a matrix unit does in ways of its own: channels of a position, phases, rows that share borders, small maps, padding.
MATRIX_FORMS = [
    *(Form((6, 11), channels, zero=zero) for channels in (16, 17, 32, 33, 64, 65, 100, 128) for zero in (0, 77)),
    *(Form((side, side), 64) for side in (1, 2, 4, 7, 8, 9, 14, 15, 16, 17, 28, 32, 33)),
    *(Form((8, 8), channels, zero=9, limit=15) for channels in (70, 192)),
    *(Form((9, 16), 48, kernel) for kernel in ((1, 1), (1, 7), (6, 1), (2, 2), (5, 4), (3, 1))),
    *(Form((13, 18), c, k, stride=s, zero=3) for c in (16, 40) for k in ((3, 3), (1, 1), (2, 5)) for s in (2, 3, 4)),
    *(Form((7, 10), 32, stride=s, padding=p) for s in (1, 2) for p in ((0, 0, 0, 0), (5, 0, 0, 6), (0, 9, 3, 1))),
    *(Form((10, 10), 24, outputs=outputs, offsets=True) for outputs in (1, 15, 16, 17, 50)),
]
EXTREMES = [
    *itertools.product((28, 31, 64, 129, 512), [(3, 3)], "+-=0", ("u8", "u8 zero", "nibble")),
    *itertools.product((5, 64, 130), [(3, 3)], "+-=0", ("i16",)),
    *itertools.product((64, 260), [(1, 1)], "+-=0", ("u8", "u8 zero", "nibble", "i16")),
    *itertools.product((60,), [(5, 5), (7, 2)], "+-=0", ("u8", "u8 zero", "nibble", "i16 less")),
]
MANY_TAPS = [(9000, (3, 3), 5), (10100, (4, 2), 6)]  # more than 2^24 / 255, with numbers of 16 bits
