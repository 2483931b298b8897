"""Files to classes: order, failures, folders, inversion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onebit.data.pictures import fitted
from onebit.errors import OnebitError
from onebit.examine.predict import BATCH, Failure, Prediction, find, is_bright, predict, read_picture
from onebit.model import Model
from support.models import left_or_right


def sided(path: Path, bright: str, size: int = 8) -> Path:
    pixels = np.zeros((size, size), np.uint8)
    pixels[:, : size // 2] = 200
    Image.fromarray(pixels if bright == "left" else pixels[:, ::-1].copy()).save(path)
    return path


def test_many_files_keep_their_order_and_their_failures(tmp_path: Path) -> None:
    model = Model(left_or_right())
    names = ["left" if i % 3 else "right" for i in range(2 * BATCH + 3)]
    paths = [sided(tmp_path / f"{i:02}.png", name) for i, name in enumerate(names)]
    paths[BATCH - 1].write_bytes(b"damaged")
    found = list(predict(model, [*paths, tmp_path / "gone.png"]))
    assert [f.file for f in found] == [*paths, tmp_path / "gone.png"]
    for i, f in enumerate(found):
        if i in (BATCH - 1, len(paths)):
            assert isinstance(f, Failure) and str(f.file) in f.error
        else:
            assert isinstance(f, Prediction) and model.classes[f.top(1)[0]] == names[i]
            pixels = read_picture(model, f.file)
            assert np.array_equal(f.logits, model.logits(pixels[None])[0])
            assert np.allclose(f.probabilities, model.probabilities(pixels[None])[0])


def test_folders_expand_and_an_empty_one_is_one_failure(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    one, two = sided(tmp_path / "a" / "1.png", "left"), sided(tmp_path / "a" / "b" / "2.gif", "right")
    found = list(predict(Model(left_or_right()), [tmp_path / "empty", tmp_path / "a"]))
    assert [f.file for f in found] == [tmp_path / "empty", one, two]
    assert isinstance(found[0], Failure) and "holds no picture" in found[0].error
    assert list(predict(Model(left_or_right()), [])) == []


def test_pictures_are_fitted_as_the_card_says(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    for how in ("square", "crop"):
        model = Model(left_or_right(3, 16, 16, {"fit": how}))
        assert np.array_equal(read_picture(model, tmp_path / "a.png"), fitted(tmp_path / "a.png", (3, 16, 16), how))
    default, square = Model(left_or_right(3, 16, 16)), fitted(tmp_path / "a.png", (3, 16, 16), "square")
    assert np.array_equal(read_picture(default, tmp_path / "a.png"), square)
    assert np.array_equal(read_picture(default, tmp_path / "a.png", invert=True), 255 - square)


def test_only_a_model_of_dark_ground_minds_a_bright_border() -> None:
    paper = np.full((8, 8, 1), 255, np.uint8)
    dark = Model(left_or_right(about={"ground": "dark"}))
    assert is_bright(dark, paper) and not is_bright(dark, 255 - paper)
    assert not is_bright(Model(left_or_right()), paper)


@pytest.mark.parametrize(("channels", "about", "words"), [(2, {}, "2 channels"), (1, {"fit": "tile"}, "'tile'")])
def test_models_that_no_file_fits_are_refused_at_once(channels: int, about: dict[str, str], words: str) -> None:
    with pytest.raises(OnebitError, match=words):
        list(predict(Model(left_or_right(channels, about=about)), [Path("gone.png")]))


def test_a_run_folder_stands_for_its_packed_file(tmp_path: Path) -> None:
    with pytest.raises(OnebitError, match=r"holds no model\.onebit; make it with `onebit pack"):
        find(tmp_path)
    (tmp_path / "model.onebit").touch()
    assert find(tmp_path) == find(tmp_path / "model.onebit") == tmp_path / "model.onebit"
