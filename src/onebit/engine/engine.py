"""A packed model made ready for this CPU by the C core."""

from __future__ import annotations

import os
import sys
import weakref
from collections import deque
from ctypes import byref, c_double, c_int32, c_void_p
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onebit.engine import library
from onebit.errors import OnebitError

if TYPE_CHECKING:
    from ctypes import CDLL
    from pathlib import Path

MAX_THREADS = 256  # of a pool
CALL = 10**10  # multiply-accumulates of one call into C, which Ctrl-C cannot interrupt: about a second at most


class Refused(OnebitError):
    """The bytes are no valid packed model."""


class Layer(NamedTuple):
    """What became of an operation: the kernel that computes it ("fused": the operation before does), and its work."""

    operation: str
    kernel: str
    shape: tuple[int, int, int]  # channels, height, width of what it makes
    source_channels: int
    window: tuple[int, int]  # height, width
    stride: int
    macs: int
    group: int  # tables: input channels that one addition of a lane covers; else 0


class Engine:
    """Runs one model. Any number of threads may use it at a time.

    Attributes: ``isa`` (the instruction set in use), ``threads``, ``shape`` (as in the file), ``memory`` (bytes of the
    model).
    """

    def __init__(self, model: bytes | str | Path, isa: str | None = None, threads: int | None = None) -> None:
        """Check the model (the bytes of a packed file, or its path) and repack its weights; the bytes are not kept.

        Args:
            isa: an instruction set by name; None: ONEBIT_ISA, else the best of this CPU.
            threads: that share the work on a picture; None: ONEBIT_THREADS, else one for each core that this process may use.

        Raises Refused for bytes that are no valid model, OnebitError for all else that is wrong.
        """
        self._library = lib = library.load()
        name = _isa(isa)
        self._asked = threads is not None or "ONEBIT_THREADS" in os.environ
        self.threads = _threads(threads)
        if not isinstance(model, bytes):
            with open(model, "rb") as file:
                model = file.read()
        program, handle, operation = Memory(lib.ob_program_size(model, len(model))), c_void_p(), c_int32(-1)
        status = lib.ob_program_read(model, len(model), program.address, program.size, byref(handle), byref(operation))
        if status:
            where = f"operation {operation.value}: " if operation.value >= 0 else ""
            raise Refused(f"not a valid packed model: {where}{_text(lib, status)}")
        self._memory, self._model = Memory(lib.ob_model_size(handle, name)), c_void_p()
        _check(lib, lib.ob_model_build(handle, name, self._memory.address, self._memory.size, byref(self._model)))
        self.memory = self._memory.size
        self.isa = str(lib.ob_model_isa(self._model).decode())
        self.shape = library.Shape()
        lib.ob_model_shape(self._model, byref(self.shape))
        # Of finished calls, for the next ones. A deque's ends are safe to use from several threads without a lock, which a
        # fork might leave locked.
        self._free: deque[Workspace] = deque()

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Logits int32 [N, classes] of pictures uint8 [N, H, W, C]."""
        s = self.shape
        if images.dtype != np.uint8 or images.shape[1:] != (s.height, s.width, s.channels):
            raise OnebitError(
                f"pictures of {images.dtype} {images.shape}: the model takes uint8 [N, {s.height}, {s.width}, {s.channels}]"
            )
        logits = np.empty((len(images), s.classes), np.int32)
        workspace = self._workspace()
        step = max(1, CALL // max(1, self.macs))
        for start in range(0, len(images), step):
            part = np.ascontiguousarray(images[start : start + step])
            status = self._library.ob_run(
                self._model, workspace.pool, part.ctypes.data, len(part), logits[start:].ctypes.data,
                workspace.arena.address, workspace.arena.size,
            )  # fmt: skip
            _check(self._library, status)
        self._free.append(workspace)
        return logits

    def timed(self, picture: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Nanoseconds that each operation took on one picture uint8 [H, W, C]; 0 where it is fused."""
        s = self.shape
        part = np.ascontiguousarray(picture, np.uint8).reshape(s.height, s.width, s.channels)
        took, logits = np.zeros(s.operations, np.int64), np.empty(s.classes, np.int32)
        workspace = self._workspace()
        status = self._library.ob_run_timed(
            self._model, workspace.pool, part.ctypes.data, logits.ctypes.data,
            workspace.arena.address, workspace.arena.size, took.ctypes.data,
        )  # fmt: skip
        _check(self._library, status)
        self._free.append(workspace)
        return took

    @cached_property
    def layers(self) -> list[Layer]:
        """What became of each operation."""
        found, raw = [], library.RawLayer()
        for i in range(self.shape.operations):
            _check(self._library, self._library.ob_model_layer(self._model, i, byref(raw)))
            found.append(
                Layer(
                    raw.operation.decode(), raw.kernel.decode(), (raw.channels, raw.height, raw.width),
                    raw.source_channels, (raw.kernel_height, raw.kernel_width), raw.stride, raw.macs, raw.group,
                )
            )  # fmt: skip
        return found

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates a picture."""
        return sum(layer.macs for layer in self.layers)

    def peak(self, nibbles: bool = False) -> float:
        """Lanes of tables that one thread could add in a second with nothing else to do; 0: no tables. Takes milliseconds.

        `nibbles`: the lanes of activations of 4 bits. A layer's bound is its ``group`` times that.
        """
        lanes, memory = c_double(), Memory(library.PEAK_BYTES)
        status = self._library.ob_peak(self.isa.encode(), nibbles, memory.address, memory.size, byref(lanes))
        _check(self._library, status)
        return lanes.value

    @property
    def arena(self) -> int:
        """Bytes that a call computes in."""
        workspace = self._workspace()
        self._free.append(workspace)
        return workspace.arena.size

    def _workspace(self) -> Workspace:
        """Memory and threads for one call: of a finished one, or new."""
        while self._free:
            try:
                workspace = self._free.pop()
            except IndexError:  # another thread was faster
                break
            if workspace.process == os.getpid():  # a forked child has the memory of its parent, but not the threads
                return workspace
        return Workspace(self._library, self._model, self.threads, self._asked)


class Memory:
    """Bytes at an address that the core accepts."""

    ALIGNMENT = 64

    def __init__(self, size: int) -> None:
        self.size = size
        self._array = np.empty(size + self.ALIGNMENT - 1, np.uint8)
        self.address = -(-self._array.ctypes.data // self.ALIGNMENT) * self.ALIGNMENT


class Workspace:
    """What one call needs and no other may use meanwhile."""

    def __init__(self, lib: CDLL, model: c_void_p, threads: int, strict: bool) -> None:
        """`strict`: raise where the system gives no threads, rather than do without."""
        self.process = os.getpid()
        self.pool = c_void_p()
        if threads > 1:
            status = lib.ob_pool_create(threads, byref(self.pool))
            if status and (strict or status != library.ERROR_THREADS):
                raise OnebitError(f"{threads} threads: {_text(lib, status)}; ask for fewer")
            if self.pool:
                weakref.finalize(self, _free_pool, lib, self.pool, self.process)
        self.arena = Memory(lib.ob_arena_size(model, self.pool))


def _free_pool(lib: CDLL, pool: c_void_p, process: int) -> None:
    if process == os.getpid():
        lib.ob_pool_free(pool)


def usable_cores() -> int:
    """Cores that this process may use."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads(threads: int | None) -> int:
    given, name = threads, "threads"
    if given is None and (text := os.environ.get("ONEBIT_THREADS")) is not None:
        name = "ONEBIT_THREADS"
        if not text.strip().isdecimal():
            raise OnebitError(f"ONEBIT_THREADS={text}: not a number; 1 to {MAX_THREADS}")
        given = int(text)
    if given is None:
        return min(usable_cores(), MAX_THREADS)
    if not 1 <= given <= MAX_THREADS:
        raise OnebitError(f"{name}={given}: 1 to {MAX_THREADS}")
    return given


def _isa(name: str | None) -> bytes | None:
    """The name of an instruction set as C takes it, checked; None: the best."""
    where = "isa"
    if name is None:
        name, where = os.environ.get("ONEBIT_ISA"), "ONEBIT_ISA"
    if name is None:
        return None
    known = library.isas()
    if not known.get(name):
        why = "this CPU does not have it" if name in known else "there is no instruction set of this name"
        raise OnebitError(f"{where}={name}: {why}; here are {', '.join(n for n, here in known.items() if here)}")
    return name.encode()


def _text(lib: CDLL, status: int) -> str:
    return str(lib.ob_status_text(status).decode())


def _check(lib: CDLL, status: int) -> None:
    if status:
        raise OnebitError(f"the C engine: {_text(lib, status)} ({lib.ob_status_name(status).decode()})")
