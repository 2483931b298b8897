"""Starting from other weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from onebit import networks, zoo
from onebit.binary import binary_layers, latent_weight
from onebit.errors import OnebitError
from onebit.recipe import Network, load
from onebit.train import checkpoint
from onebit.train.evaluate import load_model
from onebit.train.finetune import start_from
from onebit.train.trainer import train

TEN = [str(i) for i in range(10)]


def net(seed: int, classes: int = 10, channels: int = 1, **changes: object) -> torch.nn.Module:
    torch.manual_seed(seed)
    network = Network(**{"depth": 8, "width": 0.25, **changes})  # type: ignore[arg-type]
    return networks.build(network, classes=classes, channels=channels, size=8)


def plain(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {k.replace(".parametrizations.weight.original", ".weight"): v for k, v in module.state_dict().items()}


def saved(module: torch.nn.Module, path: Path, classes: list[str] = TEN) -> Path:
    checkpoint.save(path, {"model": module.state_dict(), "classes": classes})
    return path


@pytest.mark.parametrize(("theirs", "own"), [("1bit", "1bit"), ("float", "1bit"), ("1bit", "float")])
def test_same_classes_take_everything(tmp_path: Path, theirs: str, own: str) -> None:
    first, second = net(1, weights=theirs), net(2, weights=own)
    message = start_from(second, saved(first, tmp_path / "m.pt"), TEN)
    assert "new" not in message
    assert all(torch.equal(v, plain(first)[k]) for k, v in plain(second).items())


@pytest.mark.parametrize(("count", "names"), [(7, [str(i) for i in range(7)]), (10, list("abcdefghij"))])
def test_other_classes_get_a_new_classifier(tmp_path: Path, count: int, names: list[str]) -> None:
    first, second = net(1), net(2, classes=count)
    before = {k: v.clone() for k, v in plain(second).items()}
    message = start_from(second, saved(first, tmp_path / "m.pt"), names)
    assert "classifier.weight" in message
    for name, value in plain(second).items():
        head = name.startswith(("classifier", "class_norm"))
        assert torch.equal(value, before[name] if head else plain(first)[name])


def test_other_channels_get_new_first_layers(tmp_path: Path) -> None:
    message = start_from(net(2, channels=3), saved(net(1), tmp_path / "m.pt"), TEN)
    new = message.partition("new: ")[2].split(", ")
    assert "stem.weight" in new and all(name.startswith(("stem", "input_norm")) for name in new)


@pytest.mark.parametrize("changes", [{"width": 0.5}, {"depth": 14}])
def test_half_a_network_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    own = net(2, **changes)
    before = {k: v.clone() for k, v in own.state_dict().items()}
    with pytest.raises(OnebitError, match=r"no layer fits .* same family, depth and width"):
        start_from(own, saved(net(1), tmp_path / "m.pt"), TEN)
    assert all(torch.equal(v, before[k]) for k, v in own.state_dict().items())
    with pytest.raises(OnebitError, match="no such checkpoint"):
        start_from(own, tmp_path / "nothing", TEN)


def test_a_run_starts_from_a_run_folder_even_an_unfinished_one(tmp_path: Path) -> None:
    chosen = load("digits").replace(["width=0.25", "depth=8", "epochs=1", "batch=500", "precision=float32"])
    train(chosen, tmp_path / "first", quiet=True)
    weights = checkpoint.load(tmp_path / "first" / "checkpoint.pt")["model"]
    (tmp_path / "first" / "model.pt").unlink()
    still = chosen.replace(["lr=0.0", "lr_end=0.0", "seed=5"])
    train(still, tmp_path / "second", start=tmp_path / "first", quiet=True)
    own = checkpoint.load(tmp_path / "second" / "checkpoint.pt")["model"]
    latent = [k for k in own if k.endswith("original")]
    assert len(latent) == 8 and all(torch.equal(own[k], weights[k]) for k in latent)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = ["width=0.25", "depth=8", "epochs=1", "batch=500", "precision=float32"]
    train(load("digits").replace(settings), folder / "run", quiet=True)
    return folder / "run"


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    return {name: latent_weight(m).detach().clone() for name, m in module.named_modules() if isinstance(m, kinds)}


@pytest.mark.parametrize("other", [False, True])
def test_a_packed_model_gives_its_signs(finished: Path, other: bool) -> None:
    theirs, _, content = load_model(finished)
    own = net(3)
    before = weights(own)
    classes = [*content["classes"][1:], "x"] if other else content["classes"]
    message = start_from(own, finished / "model.onebit", classes)
    assert f"the signs of {7 if other else 8} layers" in message and ("new: classifier.weight" in message) == other
    for name, weight in weights(own).items():
        if other and name == "classifier":
            assert torch.equal(weight, before[name])
        else:
            assert torch.equal(weight >= 0, weights(theirs)[name] >= 0)
            assert torch.equal(weight.abs(), before[name].abs())


def test_a_float_network_starts_from_what_the_packed_one_computed_with(finished: Path) -> None:
    theirs, _, content = load_model(finished)
    own = net(3, weights="float")
    start_from(own, finished / "model.onebit", content["classes"])
    for name, layer in binary_layers(theirs).items():
        torch.testing.assert_close(weights(own)[name], layer.weight.detach())  # type: ignore[arg-type]


def test_packed_models_that_do_not_fit(finished: Path) -> None:
    for changes, message in (
        ({"width": 0.5}, "no layer fits stem|no layer fits body"),
        ({"depth": 14}, "has 8 layers with weights"),
    ):
        own = net(2, **changes)  # type: ignore[arg-type]
        before = weights(own)
        with pytest.raises(OnebitError, match=message):
            start_from(own, finished / "model.onebit", TEN)
        assert all(torch.equal(w, before[name]) for name, w in weights(own).items())
    message = start_from(net(2, channels=3), finished / "model.onebit", load_model(finished)[2]["classes"])
    assert "7 layers taken, new: stem.weight" in message


def test_a_name_stands_for_the_packed_file(tmp_path: Path) -> None:
    # a rate of 0: the network stays what it started from
    still = load("digits").replace(["epochs=1", "lr=0.0", "lr_end=0.0", "batch=500", "precision=float32", "seed=7"])
    train(still, tmp_path / "run", start=Path("digits-20-1"), quiet=True)
    own, _, content = load_model(tmp_path / "run")
    again = net(8, depth=20, width=1.0)
    message = start_from(again, zoo.path("digits-20-1"), content["classes"])
    assert message == "started from digits-20-1: the signs of 20 layers taken"
    for name, weight in weights(own).items():
        assert torch.equal(weight >= 0, weights(again)[name] >= 0)
    with pytest.raises(OnebitError, match="no model by that name: did you mean 'digits-20-1'"):
        train(still, tmp_path / "other", start=Path("digits-20-2"), quiet=True)
