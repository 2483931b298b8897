"""Testing a packed model on a data set, without torch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onebit.data import catalog
from onebit.errors import OnebitError
from onebit.examine.evaluate import evaluate
from onebit.model import load
from onebit.packed import file
from onebit.packed.file import Packed
from onebit.packed.program import Logits, Program, Table, pack_bits
from support.models import left_or_right

NAMES = tuple("0123456789")


def digits_model(path: Path, classes: tuple[str, ...] = NAMES, about: dict[str, str] | None = None) -> Path:
    """The nearest of ten digits' mean pictures: weights are +1 where a digit is brighter than most."""
    train = catalog.load("digits").train
    assert hasattr(train, "images")
    means = np.stack([train.images[train.labels == int(c)].mean(0).transpose(1, 2, 0) for c in classes])
    bits = means > means.mean(0)
    signs = np.where(bits, 1, -1)
    table = Table(8, 8, np.arange(256, dtype=np.int16)[None] // 4)
    middle = (signs * (means.mean(0) / 4)).sum((1, 2, 3))
    offset = -(middle.round()).astype(np.int32)
    logits = Logits(0, pack_bits(bits), (8, 8), 0, np.ones(10, np.int32), offset, fraction=6, sharpness=1 << 15)
    file.save(path, Packed(Program([table, logits]), classes, {"data": "digits"} if about is None else about))
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits_model(tmp_path_factory.mktemp("models") / "digits.onebit")


def test_the_card_says_what_to_test_on(path: Path) -> None:
    told: list[tuple[int, int]] = []
    facts = evaluate(path, progress=lambda done, of: told.append((done, of)))
    test = catalog.load("digits").test
    assert hasattr(test, "images")
    right = np.array(load(path).predict(test.images, "NCHW")).astype(int) == test.labels
    assert facts["data"] == "digits" and facts["note"] is None
    assert facts["images"] == 360 and told[-1] == (360, 360)
    assert facts["wrong"] == 360 - right.sum() < 120
    assert facts["error"] == pytest.approx(100 * facts["wrong"] / 360)
    assert facts["top5_error"] <= facts["error"]
    assert np.trace(facts["confusion"]) == right.sum() and np.sum(facts["confusion"]) == 360
    assert facts["temperature"] == 2 and facts["classes"] == list(NAMES)
    assert 0 <= facts["calibration"] <= 100 and 0 <= facts["calibration_plain"] <= 100
    json.dumps(facts)


def test_the_first_pictures_alone(path: Path) -> None:
    facts, whole = evaluate(path, images=10), evaluate(path, images=10_000)
    assert facts["images"] == 10 and whole["images"] == 360
    assert np.sum(facts["confusion"]) == 10


@pytest.mark.parametrize("images", [0, -5])
def test_no_pictures_are_refused(path: Path, images: int) -> None:
    with pytest.raises(OnebitError, match=f"^images {images}: that leaves no test picture; test at least one$"):
        evaluate(path, images=images)


def test_classes_in_another_order_are_matched_by_name(path: Path, tmp_path: Path) -> None:
    turned = NAMES[3:] + NAMES[:3]
    other, facts = evaluate(digits_model(tmp_path / "turned.onebit", turned)), evaluate(path)
    assert other["note"] == "classes matched by name"
    assert other["wrong"] == facts["wrong"]
    assert other["classes"] == list(turned)
    assert other["confusion"][0][0] == facts["confusion"][3][3]


def test_other_names_are_matched_by_position(path: Path, tmp_path: Path) -> None:
    packed = file.load(path)
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    file.save(tmp_path / "words.onebit", packed._replace(classes=words))
    facts = evaluate(tmp_path / "words.onebit")
    assert facts["note"] == "class names differ ('0' for 'zero', ...): matched by position"
    assert facts["wrong"] == evaluate(path)["wrong"]


def folder(root: Path, *classes: str) -> Path:
    """Test and training pictures: of each class, brighter on the side of its name."""
    for half, count in (("train", 1), ("val", 3)):
        for name in classes:
            (root / half / name).mkdir(parents=True)
            for i in range(count):
                picture = np.full((10, 14), 40 + i, np.uint8)
                picture[:, slice(0, 7) if name == "left" else slice(7, 14)] = 200
                Image.fromarray(picture).save(root / half / name / f"{i}.png")
    return root


@pytest.mark.parametrize("known", [True, False])
def test_a_folder_of_pictures(tmp_path: Path, known: bool) -> None:
    pictures = folder(tmp_path / "pictures", "right", "left")
    file.save(tmp_path / "m.onebit", left_or_right(about={"data": "folder"} if known else None))
    where: dict[str, Any] = {"root": pictures} if known else {"data": str(pictures)}
    facts = evaluate(tmp_path / "m.onebit", **where)
    assert (facts["images"], facts["wrong"], facts["data"]) == (6, 0, "folder")


def test_a_model_that_does_not_say_its_data_needs_a_name(path: Path, tmp_path: Path) -> None:
    other = digits_model(tmp_path / "m.onebit", about={})
    with pytest.raises(
        OnebitError, match=r"m\.onebit: does not say what it was trained on; name a data set with --data$"
    ):
        evaluate(other)
    assert evaluate(other, data="digits")["wrong"] == evaluate(path)["wrong"]


@pytest.mark.parametrize(
    "shape",
    [(1, 8, 8), (3, 8, 8), (1, 9, 9)],
)
def test_a_data_set_of_another_kind_is_refused(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    file.save(tmp_path / "m.onebit", left_or_right(*shape))
    channels, size, _ = shape
    message = (
        rf"m\.onebit: takes {channels} channels and knows 2 classes of pictures of {size}x{size}, but digits has 1 and 10 of "
        r"8x8; name the data set that it was trained for with --data$"
    )
    with pytest.raises(OnebitError, match=message):
        evaluate(tmp_path / "m.onebit", data="digits")


def test_what_cannot_be_read_is_refused(tmp_path: Path, path: Path) -> None:
    with pytest.raises(OnebitError, match=r"none\.onebit: cannot be read"):
        evaluate(tmp_path / "none.onebit")
    with pytest.raises(OnebitError, match="data set 'digit' is unknown, and no folder of that name is there"):
        evaluate(path, data="digit")
    file.save(tmp_path / "wide.onebit", left_or_right(1, 4, 6))
    with pytest.raises(
        OnebitError, match=r"wide\.onebit: takes pictures of 4x6, data sets hold square ones; use onebit.load$"
    ):
        evaluate(tmp_path / "wide.onebit", data="digits")


def test_the_temperature_is_used_for_the_calibration(path: Path, tmp_path: Path) -> None:
    packed = file.load(path)
    last: Any = packed.program.operations[-1]
    plain = dataclasses.replace(last, sharpness=1 << 16)
    file.save(tmp_path / "plain.onebit", packed._replace(program=Program([*packed.program.operations[:-1], plain])))
    facts, other = evaluate(path), evaluate(tmp_path / "plain.onebit")
    assert other["calibration"] == other["calibration_plain"] == facts["calibration_plain"]
    assert facts["calibration"] != facts["calibration_plain"]
