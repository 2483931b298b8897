"""Scores against counting by hand; other data sets; classes that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from onebit import recipe
from onebit.data import catalog
from onebit.data.dataset import Arrays
from onebit.errors import OnebitError
from onebit.train import checkpoint
from onebit.train.evaluate import evaluate, load_model, run_root, score
from onebit.train.trainer import train


class Table(nn.Module):
    """Logits that are the pixels: what comes out is what a test puts in."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


@given(st.integers(1, 30), st.integers(2, 12), st.integers(0, 99))
def test_scores_are_counts(n: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.permuted(np.tile(np.arange(classes, dtype=np.float32), (n, 1)), axis=1)  # no two are equal
    labels = random.integers(0, classes, n)
    cuts = [
        (torch.from_numpy(logits[i : i + 7, :, None, None]), torch.from_numpy(labels[i : i + 7]))
        for i in range(0, n, 7)
    ]
    found = score(Table(), cuts, classes)
    wrong = wrong5 = 0
    loss = 0.0
    confusion = np.zeros((classes, classes), int)
    for row, label in zip(logits.astype(np.float64), labels, strict=True):
        order = sorted(range(classes), key=lambda c: -row[c])
        wrong += order[0] != label
        wrong5 += label not in order[:5]
        loss -= row[label] - np.log(np.exp(row).sum())
        confusion[label, order[0]] += 1
    assert (found.images, found.wrong, found.wrong_top5) == (n, wrong, wrong5)
    assert found.error == pytest.approx(100 * wrong / n) and found.loss == pytest.approx(loss / n, rel=1e-5)
    assert (found.confusion.numpy() == confusion).all()


def test_many_crops_are_a_mean_of_probabilities_not_of_logits() -> None:
    # one crop is very sure of class 0, two are moderately sure of class 1: logits favour 0, probabilities 1
    crops = torch.tensor([[30.0, 0.0], [0.0, 3.0], [0.0, 3.0]]).view(1, 3, 2, 1, 1)
    assert crops.mean(1).argmax() == 0
    assert score(Table(), [(crops, torch.tensor([1]))], 2).wrong == 0


def test_no_image_is_an_error_and_the_mode_comes_back() -> None:
    net = Table().train()
    with pytest.raises(OnebitError, match="no image"):
        score(net, [], 2)
    assert net.training


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train(recipe.load("digits").replace(["width=0.25", "depth=8", "epochs=2"]), out, quiet=True)
    return out


def pictures(root: Path, names: list[str]) -> Path:
    """The digits' test images as class folders; class i is called names[i]."""
    test = catalog.load("digits").test
    assert isinstance(test, Arrays)
    for half in ("train", "test"):
        for label, name in enumerate(names):
            (root / half / name).mkdir(parents=True)
            for i in np.flatnonzero(test.labels == label)[: 1 if half == "train" else None]:
                Image.fromarray(test.images[i, 0]).resize((16, 16), 0).save(root / half / name / f"{i}.png")
    return root


def test_a_folder_is_a_data_set_and_classes_are_matched_by_name(trained: Path, tmp_path: Path) -> None:
    own = evaluate(trained)
    plain = evaluate(trained, data=str(pictures(tmp_path / "plain", list("0123456789"))))
    assert plain["images"] == 360 and plain["note"] is None
    # the test crop is the middle of the scaled picture, so the counts are near, not equal; classes in another order
    # on disk must not change them at all
    content = checkpoint.load(trained / "model.pt")
    turned = {**content, "classes": list("9876543210")}
    checkpoint.save(tmp_path / "turned.pt", turned)
    by_name = evaluate(tmp_path / "turned.pt", data=str(tmp_path / "plain"))
    assert by_name["note"] == "classes matched by name" and by_name["classes"] == list("9876543210")
    before, after = np.array(plain["confusion"]), np.array(by_name["confusion"])
    assert (after == before[::-1]).all()  # the truth moved with its name, the network's outputs did not
    other = evaluate(trained, data=str(pictures(tmp_path / "other", list("abcdefghij"))))
    assert "by position" in other["note"] and other["confusion"] == plain["confusion"]
    assert own["note"] is None


def test_what_does_not_fit_is_refused(trained: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "few", list("01"))
    with pytest.raises(OnebitError, match=r"trained for 10 classes .* has 2"):
        evaluate(trained, data=str(folder))
    with pytest.raises(OnebitError, match="'cifar10'"):
        evaluate(trained, data="cifar11")
    checkpoint.save(tmp_path / "x.pt", {"model": {}})
    with pytest.raises(OnebitError, match=r"x\.pt: is not a network of onebit"):
        load_model(tmp_path / "x.pt")


def test_the_data_folder_of_a_run_is_remembered(tmp_path: Path) -> None:
    assert run_root(tmp_path) is None
    (tmp_path / "run.json").write_text('{"root": "somewhere"}')
    assert run_root(tmp_path) == run_root(tmp_path / "model.pt") == Path("somewhere")
    (tmp_path / "run.json").write_text("[")
    assert run_root(tmp_path) is None
