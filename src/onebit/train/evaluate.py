"""Test error of a network: on the device, in evaluation mode, in float32 unless asked otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onebit import recipe as recipes
from onebit.data import catalog
from onebit.data.dataset import Arrays, DataSet, Files
from onebit.data.feed import test_batches
from onebit.errors import OnebitError
from onebit.networks import build
from onebit.recipe import Recipe
from onebit.train import checkpoint
from onebit.train.precision import autocast


@dataclass(frozen=True)
class Score:
    """Counts over a test set. `confusion` [true class, predicted class] int64."""

    images: int
    wrong: int
    wrong_top5: int
    loss: float
    confusion: Tensor

    @property
    def error(self) -> float:
        """Top-1 error in percent."""
        return 100.0 * self.wrong / self.images


@torch.no_grad()
def score(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], classes: int, precision: str = "float32") -> Score:
    """Run `net` over batches of images [N, C, H, W] (or [N, crops, C, H, W]: mean softmax) and count."""
    device = next(net.parameters()).device
    training = net.training
    net.eval()
    images = wrong = wrong5 = 0
    loss = 0.0
    confusion = torch.zeros(classes * classes, dtype=torch.int64)
    try:
        for x, y in batches:
            crops = x.shape[1] if x.dim() == 5 else 0
            x = x.flatten(0, 1) if crops else x
            with autocast(precision, device):
                logits = net(x.contiguous(memory_format=torch.channels_last))
            log_p = logits.float().log_softmax(1)
            if crops:
                log_p = log_p.exp().unflatten(0, (-1, crops)).mean(1).log()
            top = log_p.topk(min(5, classes), 1).indices
            images += len(y)
            wrong += int((top[:, 0] != y).sum())
            wrong5 += int((top != y[:, None]).all(1).sum())
            loss -= float(log_p.gather(1, y[:, None]).sum())
            confusion += torch.bincount((y * classes + top[:, 0]).cpu(), minlength=classes * classes)
    finally:
        net.train(training)
    if not images:
        raise OnebitError("evaluation: the test set holds no image")
    return Score(images, wrong, wrong5, loss / images, confusion.view(classes, classes))


def load_data(recipe: Recipe, root: Path | None) -> DataSet:
    """The data set of a recipe."""
    d = recipe.data
    return catalog.load(d.name, root, size=d.size, grey=d.grey, extra=d.extra)


def score_split(
    net: nn.Module, split: Arrays | Files, data: DataSet, recipe: Recipe, device: torch.device, *, precision: str = "float32",
    crops: str = "centre", batch: int = 250,
) -> Score:  # fmt: skip
    """`score` over a split of a data set, fed as the recipe says."""
    if crops != "centre":
        batch = max(1, batch // 25)
    batches = test_batches(
        split, device=device, batch=batch, size=data.size, channels=data.channels, workers=recipe.data.workers,
        crops=crops, seed=recipe.training.seed,
    )  # fmt: skip
    return score(net, batches, len(data.classes), precision)


def load_model(path: Path, device: torch.device | None = None) -> tuple[nn.Module, Recipe, dict[str, Any]]:
    """A trained network from a run folder, its model.pt or a checkpoint.pt, with its recipe and the file's content."""
    path = Path(path)
    if path.is_dir():
        path = next((path / n for n in ("model.pt", "checkpoint.pt") if (path / n).exists()), path / "model.pt")
    content = checkpoint.load(path)
    try:
        recipe = recipes.parse(content["recipe"], content["name"])
        classes = content["classes"]
        net = build(recipe.network, classes=len(classes), channels=content["channels"], size=content["size"])
        net.load_state_dict(content["model"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise OnebitError(f"{path}: is not a network of onebit ({str(error).splitlines()[0]})") from error
    net = net.to(device or torch.device("cpu")).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net.eval(), recipe, content


def evaluate(
    path: Path, *, data: str | None = None, root: Path | None = None, crops: str | None = None,
    device: torch.device | None = None, settings: Iterable[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Test a trained network on its own data set, or on another of the same classes.

    Returns ``error`` (percent), ``top5_error``, ``loss``, ``images``, ``wrong``, ``classes``, ``confusion``
    [true][predicted]. Raises OnebitError when the classes or channels do not fit.
    """
    net, recipe, content = load_model(path, device)
    recipe = recipe.replace([*settings, f"size={content['size']}", *([f"name={data}"] if data else [])])
    dataset = load_data(recipe, root if root or data else Path(content["root"]) if content.get("root") else None)
    if len(dataset.classes) != len(content["classes"]) or dataset.channels != content["channels"]:
        raise OnebitError(
            f"{path}: trained for {len(content['classes'])} classes and {content['channels']} channels, but {dataset.name} "
            f"has {len(dataset.classes)} and {dataset.channels}; fine-tune with `onebit train ... --from`"
        )
    where = next(net.parameters()).device
    result = score_split(net, dataset.test, dataset, recipe, where, crops=crops or recipe.data.crops)
    return {
        "error": result.error, "top5_error": 100.0 * result.wrong_top5 / result.images, "loss": result.loss,
        "images": result.images, "wrong": result.wrong, "data": dataset.name, "classes": list(dataset.classes),
        "confusion": result.confusion.tolist(),
    }  # fmt: skip
