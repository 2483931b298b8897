"""Firmware compiled for this machine answers as the reference, to the last bit, with both schedules."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.export import firmware
from onebit.packed import file, reference
from onebit.packed.file import Packed
from onebit.packed.program import Conv, Norm, Program
from support import firmware as compiled
from support.forms import Form, cases, corpus, forms, layered
from support.models import left_or_right, wide
from support.tiers import Case

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
CC = shutil.which("cc")

needs_cc = pytest.mark.skipif(CC is None, reason="needs a C compiler")
both = pytest.mark.parametrize("low_memory", [False, True], ids=["fast", "low-memory"])


def check(packed: Packed, pictures: NDArray[np.uint8], folder: Path, low_memory: bool, name: str = "") -> None:
    answers = compiled.logits(packed, pictures, folder, low_memory=low_memory, flags=("-O1", *compiled.SANITIZE))
    np.testing.assert_array_equal(answers, reference.run(packed.program, pictures), err_msg=name)


@needs_cc
@both
def test_recorded_logits(tmp_path: Path, low_memory: bool) -> None:
    """Real pictures of CIFAR-10 and digits; black, white; and the recorded logits are another witness."""
    for name, count in (("cifar10-20-1", 8), ("digits", 8)):
        packed = file.load(GOLDEN / f"{name}.onebit")
        shape = packed.program.input.shape
        pictures = np.load(GOLDEN / ("cifar10-test-64.npy" if shape[0] == 3 else f"{name}-made-64.npy"))[:count]
        pictures = pictures.reshape(count, shape[1], shape[2], shape[0])
        ends = np.stack([np.full_like(pictures[0], v) for v in (0, 255)])
        check(packed, np.concatenate([pictures, ends]), tmp_path / name, low_memory, name)


SHAPES = {
    "mnist, 28 14 7 maps": Form(side=(28, 28), channels=8, stride=2),
    "width 1.5": Form(side=(9, 16), channels=24),
    "width 2.5": Form(side=(8, 8), channels=40, stride=2),
    "odd": Form(side=(7, 5), channels=17, outputs=9),
    "one pixel": Form(side=(1, 1), channels=5),
    "shifted ReLU": Form(side=(8, 8), channels=16, zero=32),
    "offsets": Form(side=(8, 8), channels=16, offsets=True),
    "4 bits": Form(side=(16, 16), channels=16, limit=15),
    "5x5": Form(side=(9, 9), channels=6, kernel=(5, 5)),
    "stride 3": Form(side=(9, 9), channels=8, stride=3),
    "padding": Form(side=(8, 8), channels=8, padding=(0, 2, 3, 1)),
    "stream": Form(side=(8, 8), channels=8, stream=True),
}  # fmt: skip


@needs_cc
@pytest.mark.parametrize("form", SHAPES.values(), ids=SHAPES)
def test_shapes(form: Form, tmp_path: Path) -> None:
    found = layered(form)
    for low_memory in (False, True):
        check(file.decode(found.content), found.pictures, tmp_path / str(low_memory), low_memory)


@needs_cc
def test_random_programs(tmp_path: Path) -> None:
    """Of any structure, and of the structure that kernels are made for."""
    chosen: list[Case] = [*corpus(cases(), 10), *(layered(form, i) for i, form in enumerate(corpus(forms(), 10)))]
    for i, found in enumerate(chosen):
        check(file.decode(found.content), found.pictures, tmp_path / "program", bool(i % 2), f"{i}: {found.name}")


@needs_cc
@pytest.mark.parametrize("channels", [8, 64, 100])
def test_all_activations_255_and_all_weights_one(channels: int, tmp_path: Path) -> None:
    """Where 16-bit lanes overflow: 9 * 100 * 255 is 3.5 times 2^16."""
    found = _white(channels)
    check(found, np.full((1, 8, 8, 3), 255, np.uint8), tmp_path, False)
    check(found, np.full((1, 8, 8, 3), 255, np.uint8), tmp_path, True)


def _white(channels: int) -> Packed:
    """A network whose activations are all 255 for a white picture, with weights of +1 and, every other output, of both signs."""
    made = file.decode(layered(Form(channels=channels)).content)
    operations = list(made.program.operations)
    for i, op in enumerate(operations):
        if isinstance(op, Norm):
            operations[i] = dataclasses.replace(
                op, mean=np.full_like(op.mean, -32768), multiplier=np.full_like(op.multiplier, 32767)
            )
        elif isinstance(op, Conv) and i > 1:
            ones = op.bits.copy()
            ones[::2] = 255
            if made.program.fan_in(op) % 8:
                ones[:, -1] &= (1 << made.program.fan_in(op) % 8) - 1
            operations[i] = dataclasses.replace(op, bits=ones)
    return made._replace(program=Program(operations))


@needs_cc
def test_a_folder_compiles_runs_and_proves_itself(tmp_path: Path) -> None:
    packed = wide(1, 0.5, size=16)  # type: ignore[arg-type]
    folder = tmp_path / "out"
    firmware.export(packed, folder, name="small", low_memory=True)
    said = subprocess.run(["make", "-s", "CFLAGS=-O1"], cwd=folder, capture_output=True, text=True)
    assert said.returncode == 0 and "passed: wrong logits: 0" in said.stdout
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    np.testing.assert_array_equal(firmware.logits(folder, pictures), reference.run(packed.program, pictures))
    # a wrong constant is noticed
    text = (folder / "small.c").read_text(encoding="utf-8")
    broken = re.sub(r"(static const int16_t norm_0_numbers\[\d+\] = \{\n)(-?\d+),", r"\g<1>32000,", text)
    assert broken != text
    (folder / "small.c").write_text(broken, encoding="utf-8")
    said = subprocess.run(["make", "-s", "CFLAGS=-O1"], cwd=folder, capture_output=True, text=True)
    assert said.returncode and "FAILED" in said.stdout


def test_equal_models_give_equal_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        firmware.export(left_or_right(), tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert files and all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_only_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    firmware.export(left_or_right(), tmp_path / "out")
    (tmp_path / "out" / "drivers").mkdir()
    (tmp_path / "out" / "drivers" / "camera.c").write_text("mine")
    made = (tmp_path / "out" / "network.c").read_bytes()
    (tmp_path / "out" / "network.c").write_text("edited")
    firmware.export(left_or_right(), tmp_path / "out")
    assert (tmp_path / "out" / "drivers" / "camera.c").read_text() == "mine"
    assert (tmp_path / "out" / "network.c").read_bytes() == made
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("!")
    with pytest.raises(OnebitError, match=r"mine: is there and no earlier export"):
        firmware.export(left_or_right(), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "!"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]


@pytest.mark.parametrize("name", ["", "9net", "a-b", "Net", "x" * 32, "a b", 'a"'])
def test_names_that_c_cannot_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(OnebitError, match="is no name for C code"):
        firmware.export(left_or_right(), tmp_path / "out", name=name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["string", "stdint", "firmware", "run", "layer", "selftest_data", "host"])
def test_names_that_would_hide_other_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(OnebitError, match=f"name '{name}': is the name of another C file"):
        firmware.export(left_or_right(), tmp_path / "out", name=name)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(CC is None or shutil.which("c++") is None, reason="needs a C and a C++ compiler")
def test_a_program_in_cpp_calls_it(tmp_path: Path) -> None:
    """As in the page: an arena, a picture, the class."""
    firmware.export(left_or_right(), tmp_path / "out", name="sides")
    use = """#include <cstdio>
    #include <cstring>
    #include "sides.h"
    static uint64_t arena[SIDES_ARENA / 8];
    int main() {
        uint8_t pixels[SIDES_PICTURE];
        int32_t logits[SIDES_CLASSES];
        for (int i = 0; i < SIDES_PICTURE; i++)
            pixels[i] = i % SIDES_WIDTH < SIDES_WIDTH / 2 ? 0 : 255;
        std::memcpy(sides_picture(arena), pixels, SIDES_PICTURE);
        std::puts(sides_classes[sides_run(arena, logits)]);
    }"""
    (tmp_path / "use.cpp").write_text(use, encoding="utf-8")
    sources = ["sides.c", *sorted(f"onebit/{path.name}" for path in (tmp_path / "out" / "onebit").glob("*.c"))]
    flags = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Iout", "-Iout/onebit"]
    subprocess.run(["cc", "-std=c99", *flags, "-c", *(f"out/{s}" for s in sources)], cwd=tmp_path, check=True)
    objects = [path.name for path in tmp_path.glob("*.o")]
    subprocess.run(["c++", *flags, "-o", "use", "use.cpp", *objects], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "use"], capture_output=True, text=True, check=True).stdout
    right = np.tile(np.array([0] * 4 + [255] * 4, np.uint8), (8, 1))[None, :, :, None]
    packed = left_or_right()
    assert said.strip() == packed.classes[int(reference.run(packed.program, right)[0].argmax())]


@needs_cc
def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    """Names of classes and model cards that would end a string or a comment."""
    names = ('"); int x = 1/0; ("', "*/ #error \\")
    packed = left_or_right(about={"source": "*/\n#error\n/*", "recipe": "??/"})._replace(classes=names)
    firmware.export(packed, tmp_path / "out")
    said = subprocess.run(["make", "-s"], cwd=tmp_path / "out", capture_output=True, text=True)
    assert said.returncode == 0, said.stderr


def test_what_is_unknown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OnebitError, match=r"core 'cortex-m5' is unknown: did you mean"):
        firmware.export(left_or_right(), tmp_path / "out", core="cortex-m5")
    with pytest.raises(OnebitError, match="pictures of"):
        firmware.export(left_or_right(), tmp_path / "out", pictures=np.zeros((1, 3, 3, 1), np.uint8))
    assert not (tmp_path / "out").exists()


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    firmware.export(left_or_right(), tmp_path / "out")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(OnebitError, match="needs a C compiler"):
        firmware.logits(tmp_path / "out", np.zeros((1, 8, 8, 1), np.uint8))
