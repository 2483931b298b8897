"""Firmware on boards that QEMU plays: the logits, the bytes and the instructions of every core."""

from __future__ import annotations

import json
import runpy
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from onebit.export import firmware
from onebit.packed import file, reference
from onebit.packed.file import Packed
from support import boards
from support.every_layer import every_layer
from support.forms import Form, layered
from support.models import wide

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
CORES = list(firmware.CORES)

pytestmark = boards.NEEDED


def on_board(packed: Packed, pictures: np.ndarray, core: str, folder: Path, low_memory: bool = False) -> None:
    firmware.export(packed, folder, core=core, low_memory=low_memory, pictures=pictures)
    answers, stack, said = boards.run(folder, core)
    np.testing.assert_array_equal(answers, reference.run(packed.program, pictures))
    assert "passed: wrong logits: 0" in said and 100 < stack < 2000


@pytest.fixture(scope="module")
def cifar10() -> tuple[Packed, np.ndarray]:
    return file.load(GOLDEN / "cifar10-20-1.onebit"), np.load(GOLDEN / "cifar10-test-64.npy")


@pytest.mark.parametrize("core", CORES)
def test_eight_real_pictures(core: str, cifar10: tuple[Packed, np.ndarray], tmp_path: Path) -> None:
    packed, pictures = cifar10
    on_board(packed, pictures[:8], core, tmp_path / "fast")
    on_board(packed, pictures[:2], core, tmp_path / "low", low_memory=True)


@pytest.mark.parametrize("core", CORES)
def test_other_shapes(core: str, cifar10: tuple[Packed, np.ndarray], tmp_path: Path) -> None:
    """Digits (maps of 8, 4, 2), MNIST's sides (28, 14, 7), widths 1.5 and 2.5, every kind of layer, white pictures."""
    digits = file.load(GOLDEN / "digits.onebit")
    made = np.load(GOLDEN / "digits-made-64.npy")[:2].reshape(2, 8, 8, 1)
    on_board(digits, made, core, tmp_path / "digits-low", low_memory=True)
    on_board(digits, made, core, tmp_path / "digits")
    for name, form in {
        "width 1.5": Form(side=(8, 8), channels=24),
        "width 2.5": Form(side=(8, 8), channels=40, stride=2),
        "offsets": Form(side=(7, 9), channels=5, zero=32, offsets=True, stream=True),
    }.items():
        case = layered(form)
        for low_memory in (False, True):
            folder = tmp_path / f"{name} {low_memory}".replace(" ", "-")
            on_board(file.decode(case.content), case.pictures, core, folder, low_memory)
    noise = np.random.default_rng(1).integers(0, 256, (1, 28, 28, 3), np.uint8)
    for low_memory in (False, True):  # maps of 28, 14 and 7
        on_board(wide(1, Fraction(1, 2), size=28), noise, core, tmp_path / f"mnist-{low_memory}", low_memory)
    every = every_layer()
    noise = np.random.default_rng(1).integers(0, 256, (2, 12, 12, 3), np.uint8)
    on_board(every, noise, core, tmp_path / "every")
    on_board(cifar10[0], np.full((1, 32, 32, 3), 255, np.uint8), core, tmp_path / "white")


@pytest.mark.parametrize("core", CORES)
def test_footprint_is_what_the_linker_says(core: str, cifar10: tuple[Packed, np.ndarray], tmp_path: Path) -> None:
    """Within 3 % of the map for flash; RAM is the arena exactly, and the painted stack is within what is stored."""
    packed, pictures = cifar10
    for low_memory in (False, True):
        folder = tmp_path / f"low {low_memory}".replace(" ", "-")
        need = firmware.export(packed, folder, core=core, low_memory=low_memory, pictures=pictures[:1])
        linked = sum(boards.sizes(folder, core).values())
        assert abs(need.flash - linked) <= 0.03 * linked
        assert boards.run(folder, core)[1] <= need.stack
        if core == "cortex-m4":  # the promises of docs/export-firmware.md
            assert need.flash <= 46_000 and need.ram <= (42_000 if low_memory else 60_000)


@pytest.mark.parametrize("core", CORES)
def test_every_kernel_that_a_core_takes_has_a_stored_size(core: str, tmp_path: Path) -> None:
    """Also those that 20-1 does without: one for activations whose zero is not 0, one for other windows than 3x3."""
    for name, packed in {"zeros": file.decode(layered(Form(zero=32)).content), "every": every_layer()}.items():
        need = firmware.export(packed, tmp_path / name, core=core)
        linked = sum(boards.sizes(tmp_path / name, core).values())
        assert abs(need.flash - linked) <= 0.03 * linked


@pytest.mark.parametrize("core", CORES)
def test_instructions_do_not_grow(core: str, cifar10: tuple[Packed, np.ndarray], tmp_path: Path) -> None:
    """By more than 1 % of what is stored, for the compiler that it is stored for; then run tools/measure_firmware.py."""
    stored = json.loads((ROOT / "results" / "firmware" / "instructions.json").read_text(encoding="utf-8"))
    if boards.compiler(core) != stored["compiler"][core]:
        pytest.skip(f"counts are stored for {stored['compiler'][core]}, here is {boards.compiler(core)}")
    packed, pictures = cifar10
    counter = boards.plugin(tmp_path)
    for name, low_memory in {"20-1": False, "20-1, low memory": True}.items():
        folder = tmp_path / f"low-{low_memory}"
        firmware.export(packed, folder, core=core, low_memory=low_memory, pictures=pictures[:1])
        ran = sum(boards.instructions(folder, core, counter).values()) // 2
        known = stored["counts"][f"{core}, {name}"]["total"]
        assert ran <= 1.01 * known, f"{name}: {ran:,} instructions, {known:,} are stored: tools/measure_firmware.py"


@pytest.mark.parametrize("core", [core for core in CORES if core.startswith("cortex")])
def test_instructions_of_single_layers_do_not_grow(core: str, tmp_path: Path) -> None:
    """As for networks; then run benchmarks/firmware/cmsis_nn.py, whose layers these are."""
    stored = json.loads((ROOT / "results" / "firmware" / "cmsis_nn.json").read_text(encoding="utf-8"))
    if not boards.compiler(core).startswith(stored["compiler"]):
        pytest.skip(f"counts are stored for {stored['compiler']}, here is {boards.compiler(core)}")
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "firmware" / "cmsis_nn.py"))
    counter = boards.plugin(tmp_path)
    for name, layer in benchmark["LAYERS"].items():
        ran = benchmark["own_layer"](core, layer, tmp_path / str(layer), counter, "-Os")
        known = stored["cores"][core]["layers"][name]["-Os"]
        assert ran <= 1.01 * known, (
            f"{name}: {ran:,} instructions, {known:,} are stored: benchmarks/firmware/cmsis_nn.py"
        )
