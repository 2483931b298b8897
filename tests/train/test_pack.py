"""From trained networks to packed models."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from onebit import binarize, recipe
from onebit.data import catalog
from onebit.errors import OnebitError
from onebit.examine.compare import logits_of
from onebit.model import Model
from onebit.packed import file
from onebit.train import pack as module
from onebit.train.evaluate import load_model
from onebit.train.pack import EFFORT, MOST, card, pack, pack_run, take, training_pictures
from onebit.train.trainer import train

SMALL = ["width=0.5", "depth=8", "epochs=3"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "small"
    train(recipe.load("digits").replace(SMALL), out, quiet=True, threads=1)
    return out


def test_training_ends_with_the_packed_model(run: Path) -> None:
    packed = run / "model.onebit"
    result = json.loads((run / "result.json").read_text())
    assert result["packed_bytes"] == packed.stat().st_size
    model = Model(file.load(packed))
    assert model.classes == tuple("0123456789") and model.about["error"] == f"{result['error']:.2f}"
    logits = logits_of(model, catalog.load("digits").test)
    wrong = int((logits.argmax(1) != catalog.load("digits").test.labels).sum())
    assert abs(wrong - result["wrong"]) <= 6  # of 360


def test_packing_again_gives_the_same_bytes(run: Path) -> None:
    again = pack_run(run)
    assert file.encode(*again.packed) == (run / "model.onebit").read_bytes()
    assert file.encode(*pack_run(run / "model.pt").packed) == (run / "model.onebit").read_bytes()


def test_the_temperature_is_of_training_pictures_and_leaves_the_logits_alone(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = catalog.load("digits")
    # the data set that packing gets has no test half at all
    monkeypatch.setattr(module, "load_data", lambda *_: dataclasses.replace(digits, test=None))
    fitted, plain = pack_run(run), pack_run(run, temperature=False)
    assert plain.calibration is None and plain.packed.program.logits.sharpness == 65536
    assert "no training pictures" in plain.notes[0]
    c = fitted.calibration
    assert c is not None and c.images == 1437 and c.temperature == Model(fitted.packed).temperature
    # the last batch-norm bounds the logits: the plain softmax is far too modest
    assert c.temperature < 1 and c.error_after < c.error_before and c.entropy_after < c.entropy_before
    images = digits.test.images
    a, b = Model(fitted.packed), Model(plain.packed)
    assert np.array_equal(a.integers(images, "NCHW"), b.integers(images, "NCHW"))
    assert a.probabilities(images, "NCHW").max(1).mean() > b.probabilities(images, "NCHW").max(1).mean()


def test_the_calibration_is_what_it_says(run: Path) -> None:
    """The cross-entropy before and after, computed anew from the checkpoint in float32."""
    c = pack_run(run).calibration
    assert c is not None
    net, trained, _ = load_model(run)
    images, labels = take(training_pictures(trained, catalog.load("digits")), 10**9) or pytest.fail("no pictures")
    with torch.no_grad():
        logits = net(torch.from_numpy(images))
    y = torch.from_numpy(labels)
    assert nn.functional.cross_entropy(logits, y).item() == pytest.approx(c.entropy_before, rel=0.02)
    assert nn.functional.cross_entropy(logits / c.temperature, y).item() == pytest.approx(c.entropy_after, rel=0.1)


def test_the_card_holds_what_made_the_model_and_nothing_of_the_place(run: Path) -> None:
    about = file.load(run / "model.onebit").about
    assert set(about) == {"data", "error", "fit", "ground", "onebit", "recipe", "seed", "torch"}
    assert (about["data"], about["fit"], about["ground"], about["seed"]) == ("digits", "square", "dark", "0")
    made = json.loads(about["recipe"])
    assert made["network"] == {"depth": 8, "width": 0.5} and made["training"] == {"epochs": 3, "batch": 64}
    assert str(run.parent) not in (run / "model.onebit").read_bytes().decode("latin-1")
    assert card(recipe.load("imagenet-18-2.5-1bit"), {})["fit"] == "crop"


def test_float_networks_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "float"
    result = train(recipe.load("digits-float").replace([*SMALL, "epochs=1"]), out, quiet=True, threads=1)
    assert not (out / "model.onebit").exists() and result["weights"] == "float"
    with pytest.raises(OnebitError, match=r"its weights are float.*weights=1bit"):
        pack_run(out)


def test_a_run_is_not_lost_by_what_happens_while_packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("onebit.train.finish.pack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(recipe.load("digits").replace([*SMALL, "epochs=1"]), tmp_path / "run", quiet=True, threads=1)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 1
    assert not (tmp_path / "run" / "model.onebit").exists()


def test_a_network_that_cannot_be_packed_keeps_its_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "channel"
    result = train(recipe.load("digits").replace([*SMALL, "epochs=1", "scale=bwn-channel"]), out, threads=1)
    assert (out / "result.json").exists() and not (out / "model.onebit").exists() and result["packed_bytes"] > 0
    assert "not packed: layer 'stem'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings",
    [
        ["norm=learned"],
        ["family=plain"],
        ["norm=none", "activation=shifted-relu", "logit_divisor=10"],
        ["scale=bwn-layer"],
        ["activation_bits=4"],
        ["padding=bottom-right", "input_relu=false"],
    ],
    ids=lambda s: " ".join(s),
)
def test_every_kind_of_network_is_packed(settings: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = train(recipe.load("digits").replace([*SMALL, *settings]), out, quiet=True, threads=1)
    data = catalog.load("digits")
    logits = logits_of(Model(file.load(out / "model.onebit")), data.test)
    net, _, _ = load_model(out)
    with torch.no_grad():
        wanted = net(torch.from_numpy(data.test.images)).numpy()
    rms = np.sqrt(((logits - wanted) ** 2).mean()) / wanted.std()
    assert rms < (0.15 if "activation_bits=4" in settings else 0.05)  # 4 bits: a level is a quarter of a deviation
    assert abs(int((logits.argmax(1) != data.test.labels).sum()) - result["wrong"]) < 0.05 * 360


def test_a_network_of_ones_own() -> None:
    torch.manual_seed(0)
    net = binarize(
        nn.Sequential(
            nn.BatchNorm2d(3, momentum=1.0), nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, momentum=1.0), nn.ReLU(),
            nn.Conv2d(8, 3, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )
    )  # fmt: skip
    images = torch.randint(0, 256, (64, 3, 9, 7), dtype=torch.uint8)
    net(images.float())  # in training mode: sets the moments
    packing = pack(net.eval(), ["a", "b", "c"], channels=3, size=(9, 7), about={"data": "mine"})
    model = Model(packing.packed)
    assert model.shape == (3, 9, 7) and model.about == {"data": "mine"}
    with torch.no_grad():
        wanted = net(images.float()).numpy()
    assert np.abs(model.logits(images.numpy(), "NCHW") - wanted).max() < 0.05 * np.abs(wanted).max()


def test_ranges_need_pictures_where_there_is_no_batch_norm() -> None:
    net = binarize(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 6, bias=False), nn.Flatten()))
    with pytest.raises(OnebitError, match=r"layer '1'.*give training pictures"):
        pack(net, ["a", "b"], channels=1, size=8)
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    packing = pack(net, ["a", "b"], channels=1, size=8, pictures=[(images, np.arange(20) % 2)])
    with torch.no_grad():
        wanted = net(torch.from_numpy(images).float()).numpy()
    assert np.abs(Model(packing.packed).logits(images, "NCHW") - wanted).max() < 0.02 * np.abs(wanted).max()


def test_few_pictures_are_taken_of_large_networks() -> None:
    batches = [(np.zeros((4, 1, 2, 2), np.uint8), np.arange(4))] * 5
    images, labels = take(iter(batches), 6) or pytest.fail("none")
    assert len(images) == len(labels) == 8
    assert take(iter([]), 6) is None
    assert EFFORT / 4e9 < MOST  # a 20-10 has 4e9 multiply-accumulates
