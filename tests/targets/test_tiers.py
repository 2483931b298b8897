"""Instruction sets that a machine lacks, and other machines: the same programs as in tests/core/test_equality.py, under
emulators. qemu has processors without an instruction set stop at its first instruction; no processor of its has AVX-512,
or AMX, whose instructions are emulated one by one."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from support import ccore
from support.forms import EXTREMES, FORMS, MANY_TAPS, MATRIX_FORMS, Form, cases, corpus, extreme, forms, layered
from support.tiers import Case, Ready, check, driver, driver_isas, emulated_core, emulated_driver, golden, run_driver

pytestmark = pytest.mark.target("emulated tiers")

X86 = {  # processor -> instruction sets of the core that it has, best first
    "qemu64": ["sse2", "words", "scalar"],
    "Nehalem": ["sse2", "words", "scalar"],
    "max,-avx2": ["sse2", "words", "scalar"],
    "Haswell": ["avx2", "sse2", "words", "scalar"],
    "max": ["avx2", "sse2", "words", "scalar"],
}
ARM = ["cortex-a53", "neoverse-n1", "max"]
WATCHED = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")


@pytest.fixture(scope="module")
def small() -> list[Case]:
    """Random programs and models, enough to see whether an instruction set is there and right."""
    given = [layered(form, seed) for seed, form in enumerate(corpus(forms(), 40))]
    return [
        *given,
        *corpus(cases(), 150),
        golden("digits", slice(0, 424, 40)),
        golden("cifar10-20-1", slice(0, 128, 50)),
    ]


@pytest.fixture(scope="module")
def everything(small: list[Case]) -> list[Case]:
    many = [extreme(c, k, sign, "i16 less", side, 3, padded=False) for c, k, side in MANY_TAPS for sign in "+0"]
    return [*small, *(layered(form) for form in FORMS), *(extreme(*one) for one in EXTREMES), *many]


@pytest.fixture(scope="module")
def x86() -> Path:
    need("qemu-x86_64")
    if ccore.compiler() is None or platform.machine() != "x86_64":
        pytest.skip("needs a C compiler for x86-64")
    return driver("-static")


@pytest.mark.parametrize("cpu", X86)
def test_x86(x86: Path, cpu: str, small: list[Case], everything: list[Case], tmp_path: Path) -> None:
    """The best instruction set of a processor is found, all that it has are right, others are refused by name."""
    command = ["qemu-x86_64", "-cpu", cpu, x86]
    said = driver_isas(*command)
    assert [name for name, here in said.items() if here] == X86[cpu]
    assert run_driver(command, everything if cpu in ("qemu64", "Haswell") else small, tmp_path) == {X86[cpu][0]}
    for isa in said:
        if isa in X86[cpu]:
            assert run_driver(command, small[:60], tmp_path, isa, threads=2) == {isa}
        else:
            refused = subprocess.run([*command, tmp_path / "0.onebit", isa, "1"], input=b"", capture_output=True)
            assert refused.returncode == 1 and f"{isa}: OB_ERROR_ISA" in refused.stderr.decode()


@pytest.mark.parametrize("cpu", ARM)
def test_arm(cpu: str, small: list[Case], everything: list[Case], tmp_path: Path) -> None:
    need("qemu-aarch64", "aarch64-linux-gnu-gcc")
    command = ["qemu-aarch64", "-cpu", cpu, driver("-static", cc="aarch64-linux-gnu-gcc")]
    assert driver_isas(*command) == {"neon": True, "words": True, "scalar": True}
    assert run_driver(command, everything if cpu == "cortex-a53" else small, tmp_path) == {"neon"}
    for isa in ("neon", "words", "scalar"):
        assert run_driver(command, small[:60], tmp_path, isa, threads=2) == {isa}


@pytest.fixture(scope="module")
def simde() -> None:
    if not Path("/usr/include/simde/x86/avx512.h").exists():
        pytest.skip("needs SIMDe (Debian: libsimde-dev)")
    if ccore.compiler() is None or platform.machine() != "x86_64":
        pytest.skip("needs a C compiler for x86-64")


@pytest.mark.usefixtures("simde")
@pytest.mark.parametrize("isa", ["amx", "avx512"])
def test_emulated(isa: str, everything: list[Case], tmp_path: Path) -> None:
    """On every machine, also those that have it."""
    assert run_driver([emulated_driver()], everything, tmp_path, isa) == {isa}
    assert run_driver([emulated_driver()], everything[:60], tmp_path, isa, threads=2) == {isa}


@pytest.mark.usefixtures("simde")
@pytest.mark.parametrize("form", MATRIX_FORMS, ids=str)
def test_matrix_unit(form: Form) -> None:
    """It computes every layer that has activations for a source, whatever its form, within its memory; so it does where its
    images hold few rows at once."""
    for core in (emulated_core(), emulated_core("-DOB_MATRIX_CACHED=3000")):
        given = layered(form)
        kernels = Ready(core, given.content, "amx").kernels()
        assert kernels.count("matrix unit") == 3, kernels
        check(core, given, ["amx"], threads=(1, 2, 3))


@pytest.mark.usefixtures("simde")
def test_matrix_unit_and_anything(small: list[Case], tmp_path: Path) -> None:
    """Random programs with few rows at once, and under sanitizers."""
    assert run_driver([emulated_driver("-DOB_MATRIX_CACHED=3000")], small, tmp_path, "amx", threads=3) == {"amx"}
    cc = ccore.compiler()
    if cc and ccore.accepts(cc, *WATCHED):
        watched = emulated_driver(*WATCHED, "-DOB_MATRIX_CACHED=20000")
        given = [*small, *(layered(form) for form in MATRIX_FORMS), *(extreme(*one) for one in EXTREMES[::7])]
        assert run_driver([watched], given, tmp_path, "amx", threads=2) == {"amx"}


@pytest.mark.usefixtures("simde")
def test_one_missing_product_is_seen(tmp_path: Path) -> None:
    """The comparison is worth something: one of the 16384 products of an instruction left out changes logits."""
    wrong = emulated_driver("-DOB_EMULATION_WRONG")
    given = [layered(Form((16, 16), 64))]
    assert run_driver([wrong], given, tmp_path, "avx512") == {"avx512"}
    with pytest.raises(AssertionError, match="wrong"):
        run_driver([wrong], given, tmp_path, "amx")


def test_under_sanitizers(small: list[Case], tmp_path: Path) -> None:
    """Every instruction set of this machine: no step beyond a buffer, nothing that C leaves undefined."""
    cc = ccore.compiler()
    if not cc or not ccore.accepts(cc, *WATCHED):
        pytest.skip("needs a C compiler with the sanitizers address and undefined")
    program = driver(*WATCHED)
    for isa, here in driver_isas(program).items():
        if here:
            given = [*small, *(layered(form) for form in FORMS), *(extreme(*one) for one in EXTREMES[::7])]
            assert run_driver([program], given, tmp_path, isa, threads=2) == {isa}


def test_logits_depend_on_nothing_undefined(small: list[Case], tmp_path: Path) -> None:
    """Numbers behind the rows of a map are whatever memory held: none comes into an answer. valgrind follows each bit. It
    does not know AVX-512; and the words compare numbers one by one, also those that nobody needs."""
    need("valgrind")
    program = driver("-g")
    command = ["valgrind", "-q", "--error-exitcode=9", program]
    for isa, here in driver_isas(program).items():
        if here and isa not in ("avx512", "words"):
            assert isa in run_driver(command, small[:120], tmp_path, isa)
