"""Models by name: every one loads, its card says what the file is, and on its data set it errs as its card says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import onebit
from onebit import zoo
from onebit.data import catalog
from onebit.errors import OnebitError
from onebit.packed import file, reference
from onebit.report.tables import result
from support.command import call

ROOT = Path(__file__).resolve().parents[2]
NAMES = zoo.names()


def test_there_are_models_and_they_are_small() -> None:
    assert NAMES
    assert sum(path.stat().st_size for path in zoo.FOLDER.iterdir() if path.is_file()) < 4_000_000


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_the_file_is(name: str) -> None:
    card, path = zoo.card(name), zoo.path(name)
    packed = file.load(path)
    assert card["bytes"] == path.stat().st_size and card["classes"] == list(packed.classes)
    assert card["weights"] == sum(packed.program.weights(op) for _, op in packed.program.convolutions())
    assert card["macs"] == sum(packed.program.macs(i) for i in range(len(packed.program.operations)))
    assert packed.about["data"] == card["data"] and packed.about["seed"] == str(card["seed"])
    assert json.loads(packed.about["recipe"])["name"] == card["recipe"]
    run = result(ROOT / card["log"])  # the log that proves it is published
    assert (run["recipe"], run["seed"], run["epochs"]) == (card["recipe"], card["seed"], card["epochs"])
    assert run["error"] == pytest.approx(card["float_error"], abs=0.021)  # two pictures of 10,000
    assert all(card[key] for key in ("data_licence", "intended_use", "limits", "command", "trained_on"))


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_as_the_reference(name: str) -> None:
    model = onebit.pretrained(name)
    channels, height, width = model.shape
    noise = np.random.default_rng(0).integers(0, 256, (2, height, width, channels), np.uint8)
    np.testing.assert_array_equal(model.integers(noise), reference.run(model.program, noise))


def test_digits_err_as_the_card_says() -> None:
    name = next(n for n in NAMES if zoo.card(n)["data"] == "digits")
    test = catalog.load("digits").test
    wrong = (onebit.pretrained(name).integers(test.images, "NCHW").argmax(1) != test.labels).sum()
    assert 100 * wrong / len(test) == zoo.card(name)["packed_error"]


@pytest.mark.data
@pytest.mark.parametrize("name", [n for n in NAMES if zoo.card(n)["data"] == "cifar10"])
def test_cifar10_errs_as_the_card_says(name: str) -> None:
    test = catalog.load("cifar10").test
    wrong = (onebit.pretrained(name).integers(test.images, "NCHW").argmax(1) != test.labels).sum()
    assert 100 * wrong / len(test) == zoo.card(name)["packed_error"]


def test_commands_take_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = next(n for n in NAMES if zoo.card(n)["data"] == "digits")
    monkeypatch.chdir(tmp_path)
    Image.new("L", (20, 20), 0).save("black.png")
    code, said, _ = call(capsys, "predict", name, "black.png", "--json")
    assert code == 0 and len(json.loads(said)["predictions"]) == 1
    assert json.loads(call(capsys, "models", name, "--json")[1]) == zoo.card(name)
    listed = call(capsys, "models")[1]
    assert all(n in listed for n in NAMES)
    assert zoo.card(name)["limits"][:20] in call(capsys, "models", name)[1]
    # What lies there by that name comes first.
    Path(name).mkdir()
    code, _, err = call(capsys, "predict", name, "black.png")
    assert code == 2 and "holds no model.onebit" in err


def test_names_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for refused in (zoo.path, zoo.card, onebit.pretrained):
        with pytest.raises(OnebitError, match="did you mean 'digits-20-1'"):
            refused("digits-20-2")
    code, _, err = call(capsys, "predict", "digits-20-2", "black.png")
    assert code == 2 and "no model by that name: did you mean 'digits-20-1'" in err
    with pytest.raises(OnebitError):  # no way out of the folder
        zoo.path("../zoo/digits-20-1")
