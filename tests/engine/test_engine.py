"""The engine gives the recorded logits: every instruction set of this CPU, any number of threads, from any thread."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from onebit.data import catalog
from onebit.engine import engine, library
from onebit.engine.engine import Engine, Refused
from onebit.errors import OnebitError
from onebit.packed import file, reference
from support.models import left_or_right

pytestmark = pytest.mark.skipif(not library.available(), reason=library.missing())

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NAMES = ("digits", "cifar10-20-1")
ISAS = [name for name, here in library.isas().items() if here] if library.available() else ["none"]


def pictures(name: str) -> NDArray[np.uint8]:
    digits = catalog.load("digits").test
    real = digits.images.transpose(0, 2, 3, 1) if name == "digits" else np.load(GOLDEN / "cifar10-test-64.npy")  # type: ignore[union-attr]
    return np.concatenate([real, np.load(GOLDEN / f"{name}-made-64.npy")])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("isa", ISAS)
def test_recorded_logits(name: str, isa: str, threads: int) -> None:
    ready = Engine(GOLDEN / f"{name}.onebit", isa=isa, threads=threads)
    assert (ready.isa, ready.threads) == (isa, threads)
    few = slice(None, None, 8) if isa == "scalar" else slice(None)
    recorded = np.load(GOLDEN / f"{name}-logits.npy")[few]
    for _ in range(2):  # the second time in used memory
        np.testing.assert_array_equal(ready.run(pictures(name)[few]), recorded)


def test_it_takes_bytes_and_views_and_no_picture() -> None:
    packed = left_or_right(3, 4, 6)
    ready = Engine(file.encode(*packed))
    wide = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 12), np.uint8)
    view = wide.transpose(0, 2, 3, 1)[::2, :, ::2]
    np.testing.assert_array_equal(ready.run(view), reference.run(packed.program, view))
    assert ready.run(view[:0]).shape == (0, 2)


def test_long_work_is_cut_into_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the pieces, the answer is the same; each is short, so that Ctrl-C is heard."""
    ready = Engine(GOLDEN / "digits.onebit")
    monkeypatch.setattr(engine, "CALL", 7 * ready.macs)
    recorded = np.load(GOLDEN / "digits-logits.npy")
    np.testing.assert_array_equal(ready.run(pictures("digits")), recorded)


@pytest.mark.parametrize(
    "images", [np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 9, 1), np.uint8), np.zeros((1, 8, 8, 1), np.int8)]
)
def test_other_pictures_are_refused(images: NDArray[np.uint8]) -> None:
    with pytest.raises(OnebitError, match=r"the model takes uint8 \[N, 8, 8, 1\]$"):
        Engine(GOLDEN / "digits.onebit").run(images)


def test_the_layers_are_the_operations() -> None:
    path = GOLDEN / "cifar10-20-1.onebit"
    program, ready = file.load(path).program, Engine(path)
    assert [layer.operation for layer in ready.layers] == [type(op).__name__.lower() for op in program.operations]
    assert [layer.macs for layer in ready.layers] == [program.macs(i) for i in range(len(program.operations))]
    assert [layer.shape for layer in ready.layers] == [value.shape for value in program.values]
    assert all(layer.kernel for layer in ready.layers)
    assert ready.memory > 0 and ready.arena > 0


def test_the_time_of_each_operation() -> None:
    ready = Engine(GOLDEN / "digits.onebit")
    took = ready.timed(pictures("digits")[0])
    assert took.shape == (len(ready.layers),) and took.sum() > 0 and (took >= 0).all()
    assert all(took[i] > 0 for i, layer in enumerate(ready.layers) if layer.macs)


def test_tables_have_a_peak_and_plain_loops_none() -> None:
    assert Engine(GOLDEN / "digits.onebit", isa="words").peak() > 0
    assert Engine(GOLDEN / "digits.onebit", isa="scalar").peak() == 0


def test_several_threads_may_use_one_engine() -> None:
    ready, given = Engine(GOLDEN / "digits.onebit", threads=2), pictures("digits")
    recorded = np.load(GOLDEN / "digits-logits.npy")

    def part(start: int) -> bool:
        return all(np.array_equal(ready.run(given[start : start + 50]), recorded[start : start + 50]) for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(part, range(0, 400, 50)))
    assert len(ready._free) <= 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_may_use_the_engine_of_its_parent() -> None:
    """It has the parent's memory, but none of the threads that wait in the parent's pool."""
    code = f"""
import os, signal
import numpy as np
from onebit.engine.engine import Engine
ready = Engine({str(GOLDEN / "digits.onebit")!r}, threads=2)
given, recorded = np.load({str(GOLDEN / "digits-made-64.npy")!r}), np.load({str(GOLDEN / "digits-logits.npy")!r})[360:]
assert np.array_equal(ready.run(given), recorded)
child = os.fork()
if not child:
    signal.alarm(60)
    os._exit(not np.array_equal(ready.run(given), recorded))
assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(ready.run(given), recorded)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "zip"])
def test_bytes_that_are_no_model_are_refused(damage: str) -> None:
    good = file.encode(*left_or_right())
    bad = {
        "empty": b"",
        "cut": good[:-5],
        "flipped": good[:-6] + bytes([good[-6] ^ 1]) + good[-5:],
        "zip": b"PK\x03\x04" + bytes(99),
    }
    with pytest.raises(Refused, match=r"^not a valid packed model: "):
        Engine(bad[damage])


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_an_instruction_set_is_named_and_a_wrong_one_refused(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEBIT_ISA", raising=False)

    def ready(name: str) -> Engine:
        if way == "environment":
            monkeypatch.setenv("ONEBIT_ISA", name)
        return Engine(GOLDEN / "digits.onebit", isa=name if way == "argument" else None)

    assert ready("scalar").isa == "scalar"
    said = {"argument": "isa", "environment": "ONEBIT_ISA"}[way]
    with pytest.raises(
        OnebitError, match=rf"^{said}=sse9: there is no instruction set of this name; here are .*scalar"
    ):
        ready("sse9")
    for name in (name for name, here in library.isas().items() if not here):
        with pytest.raises(OnebitError, match=rf"^{said}={name}: this CPU does not have it; here are "):
            ready(name)


def test_the_best_instruction_set_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEBIT_ISA", raising=False)
    assert Engine(GOLDEN / "digits.onebit").isa == ISAS[0]


def test_threads_by_argument_environment_and_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    model = file.encode(*left_or_right())
    monkeypatch.delenv("ONEBIT_THREADS", raising=False)
    assert Engine(model).threads == min(engine.usable_cores(), 256) >= 1
    monkeypatch.setenv("ONEBIT_THREADS", "3")
    assert Engine(model).threads == 3 and Engine(model, threads=2).threads == 2
    for text, message in (
        ("many", "^ONEBIT_THREADS=many: not a number; 1 to 256"),
        ("0", "^ONEBIT_THREADS=0: 1 to 256"),
    ):
        monkeypatch.setenv("ONEBIT_THREADS", text)
        with pytest.raises(OnebitError, match=message):
            Engine(model)
    with pytest.raises(OnebitError, match=r"^threads=257: 1 to 256"):
        Engine(model, threads=257)
