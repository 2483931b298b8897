"""Every instruction set of the C core gives the logits of onebit.packed.reference, to the last bit, with any number of
threads. Instruction sets that this machine lacks: tests/targets/test_tiers.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit.data import catalog
from onebit.packed import file, reference
from packed.test_golden import GOLDEN, NAMES
from support.forms import EXTREMES, FORMS, MANY_TAPS, Form, cases, extreme, forms, layered
from support.tiers import Case, Core, Ready, check, golden, host


@pytest.fixture(scope="module")
def core() -> Core:
    return host()


@settings(max_examples=150)
@given(drawn=cases(), threads=st.integers(1, 3))
def test_random_programs(core: Core, drawn: Case, threads: int) -> None:
    check(core, drawn, threads=(threads,))


@settings(max_examples=100)
@given(form=forms(), seed=st.integers(0, 99), threads=st.integers(1, 3))
def test_random_forms(core: Core, form: Form, seed: int, threads: int) -> None:
    check(core, layered(form, seed), threads=(threads,))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_forms(core: Core, form: Form) -> None:
    check(core, layered(form), threads=(1, 2, 3))


@pytest.mark.parametrize(("channels", "kernel", "sign", "source"), EXTREMES)
def test_no_partial_sum_overflows(core: Core, channels: int, kernel: tuple[int, int], sign: str, source: str) -> None:
    check(core, extreme(channels, kernel, sign, source), threads=(1,))


@pytest.mark.parametrize("sign", "+-=0")
@pytest.mark.parametrize(("channels", "kernel", "side"), MANY_TAPS)
def test_no_sum_of_many_taps_overflows(
    core: Core, channels: int, kernel: tuple[int, int], side: int, sign: str
) -> None:
    check(core, extreme(channels, kernel, sign, "i16 less", side, outputs=3, padded=False), threads=(1,))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("threads", (1, 2, 3))
def test_golden_models(core: Core, name: str, threads: int) -> None:
    """All recorded pictures with one thread, every second with two, some with three."""
    check(core, golden(name, slice(None, None, (1, 2, 8)[threads - 1])), threads=(threads,))


def test_the_best_instruction_set_is_the_default(core: Core) -> None:
    case = layered(Form())
    assert Ready(core, case.content, None).isa == core.isas[0]
    assert core.isas[-2:] == ["words", "scalar"] or set(core.isas[-2:]) == {"scalar", "words"}


def test_timing_gives_the_same_logits(core: Core) -> None:
    case = layered(Form(side=(12, 12), stride=2))
    for isa in core.isas:
        ready = Ready(core, case.content, isa)
        for threads in (1, 2):
            logits, took = ready.timed(case.pictures[1], threads)
            assert np.array_equal(logits, case.logits[1])
            assert (took >= 0).all() and took.sum() > 0
            fused = [kernel == "fused" for kernel in ready.kernels()]
            assert not took[fused].any()


def test_many_pictures_and_none(core: Core) -> None:
    case = layered(Form())
    given = np.concatenate([case.pictures] * 20)
    for isa in core.isas:
        ready = Ready(core, case.content, isa)
        assert np.array_equal(ready.run(given, 2), np.concatenate([case.logits] * 20))
        assert ready.run(given[:0]).shape[1] == case.logits.shape[1]


@pytest.mark.data
def test_real_pictures(core: Core, data_root: Path) -> None:
    """A thousand test pictures of CIFAR-10, with every instruction set."""
    images = catalog.load("cifar10", data_root).test.images[:1000].transpose(0, 2, 3, 1)
    content = (GOLDEN / "cifar10-20-1.onebit").read_bytes()
    given = np.ascontiguousarray(images)
    check(core, Case("cifar10", content, given, reference.run(file.decode(content).program, given)), threads=(2,))
