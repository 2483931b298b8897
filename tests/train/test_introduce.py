"""What a run says before it trains."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import pytest
import torch

from onebit import networks, recipe
from onebit.data import catalog
from onebit.data.augment import Augment
from onebit.data.feed import Feed, make_feed
from onebit.export.firmware import footprint
from onebit.packed import file
from onebit.train import checkpoint, introduce
from onebit.train.distributed import Rank
from onebit.train.introduce import Pace, expect, measure

CHOSEN = recipe.load("digits").replace(["width=0.25", "depth=8", "epochs=4", "batch=100"])


def feed() -> Feed:
    return make_feed(
        catalog.load("digits").train, device="cpu", batch=100, augment=Augment(pad=1), seed=0, size=8, channels=1
    )


def test_trying_leaves_weights_moments_and_random_generators_alone() -> None:
    net = networks.build(CHOSEN.network, classes=10, channels=1, size=8)
    before = copy.deepcopy(net.state_dict())
    state = checkpoint.random_state()
    pace = measure(net, feed(), CHOSEN, "float32", Rank())
    assert 0 < pace.image < pace.step
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state["torch"])


def test_the_measured_pace_is_that_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock takes one second: the expected numbers follow from who looks when."""
    ticks = itertools.count()
    monkeypatch.setattr(introduce.time, "monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(introduce, "TRY_SECONDS", 5.0)
    net = networks.build(CHOSEN.network, classes=10, channels=1, size=8)
    pace = measure(net, feed(), CHOSEN, "float32", Rank())
    # the first one took 1 s, so 5 more are tried: two looks each and one at the end
    assert pace.step == pytest.approx(11 / 5)
    assert pace.image == pytest.approx(1 / 100)


def test_the_expected_time_counts_tests_and_the_pass_for_the_moments() -> None:
    pace = Pace(step=1.0, image=0.01)
    # 3 epochs of 15 mini-batches and 360 tested images, then 1437 images for the moments
    assert pace.total(3, 15, 360, 1437) == pytest.approx(3 * (15 + 3.6) + 14.37)
    # and before each test the moments of 4 mini-batches of 100
    assert pytest.approx(82.17) == 3 * (15 + 3.6 + 4.0) + 14.37
    assert expect(pace, CHOSEN, feed(), epoch=1, tested=360, world=1) == "3 epochs, 4,311 pictures: about 1:22"
    running = CHOSEN.replace(["moments=running", "compile=true"])
    assert expect(pace, running, feed(), epoch=1, tested=360, world=1).endswith("about 0:56 without torch.compile")


def test_only_a_network_with_bits_is_packed() -> None:
    for weights, size in (("1bit", "1.2 kB packed (19.8 kB as float)"), ("float", "= 19.8 kB as float")):
        network = CHOSEN.replace([f"weights={weights}"])
        net = networks.build(network.network, classes=10, channels=1, size=8)
        line = introduce.introduce(network, net, data="digits", channels=1, size=8, device="cpu")[1]
        assert size in line and ("packed" in line) == (weights == "1bit")


def test_what_a_microcontroller_will_need_is_known_before_training() -> None:
    """The same as of the trained network, whose packed file is at hand."""
    digits = recipe.load("digits")
    net = networks.build(digits.network, classes=10, channels=1, size=8)
    golden = file.load(Path(__file__).resolve().parents[1] / "golden" / "digits.onebit")
    fast, small = (footprint(golden, low_memory=low) for low in (False, True))
    line = introduce.introduce(digits, net, data="digits", channels=1, size=8, device="cpu")[2]
    assert line == (
        f"on a cortex-m4: {fast.flash / 1000:.1f} kB of flash, {fast.ram / 1000:.1f} kB of RAM, "
        f"or {small.ram / 1000:.1f} kB in low memory"
    )
    shifted = digits.replace(["norm=none", "activation=shifted-relu", "logit_divisor=40"])  # packed with pictures only
    other = networks.build(shifted.network, classes=10, channels=1, size=8)
    assert len(introduce.introduce(shifted, other, data="digits", channels=1, size=8, device="cpu")) == 2
