"""Test error of a network: on the device, in evaluation mode, in float32 unless asked otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onebit import recipe as recipes
from onebit.data import catalog
from onebit.data.dataset import Arrays, DataSet, Files, aligned
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
    training = [(module, module.training) for module in net.modules()]
    net.eval()
    images = 0
    # Counted on the device: reading a number there would make the computer wait for it after every batch.
    counts = torch.zeros(2, dtype=torch.int64, device=device)
    loss = torch.zeros((), device=device)
    confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
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
            counts += torch.stack([(top[:, 0] != y).sum(), (top != y[:, None]).all(1).sum()])
            loss -= log_p.gather(1, y[:, None]).sum()
            confusion += torch.bincount(y * classes + top[:, 0], minlength=classes * classes)
    finally:
        for module, flag in training:
            module.training = flag
    if not images:
        raise OnebitError("evaluation: the test set holds no image")
    wrong, wrong5 = counts.tolist()
    return Score(images, wrong, wrong5, float(loss) / images, confusion.view(classes, classes).cpu())


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
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise OnebitError(f"{path}: is not a network of onebit ({str(error).splitlines()[0]})") from error
    net = net.to(device or torch.device("cpu")).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net.eval(), recipe, content


def run_root(path: Path) -> Path | None:
    """The data folder that a run was trained from, as its run.json (beside the checkpoint) says; None: it says none."""
    try:
        root = json.loads(((path if path.is_dir() else path.parent) / "run.json").read_text(encoding="utf-8"))["root"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Path(root) if isinstance(root, str) else None


def evaluate(
    path: Path, *, data: str | None = None, root: Path | None = None, crops: str | None = None,
    device: torch.device | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Test a trained network in float32 on the test half of its own data set, or of another one.

    Args:
        path: a run folder, or a model.pt or checkpoint.pt in one.
        data: None (the set it was trained on), a name of the catalog, or a folder of pictures, a folder a class.
        root: the folder that holds the data sets; None: the one that the run was trained from, or ONEBIT_DATA.
        crops: "centre" or "25" (photographs); None: as the recipe says.

    Returns ``error`` (percent), ``top5_error``, ``loss``, ``images``, ``wrong``, ``data``, ``classes``, ``confusion``
    [true][predicted], and ``note``, which says how classes were matched where their names differ (else None).
    Raises OnebitError when the number of classes or channels does not fit.
    """
    net, recipe, content = load_model(path, device)
    if data and data not in catalog.ENTRIES and Path(data).is_dir():
        data, root = "folder", Path(data)
    settings = [f"size={content['size']}"]
    if data:
        settings += [f"name={data}", f"grey={'true' if content['channels'] == 1 else 'false'}"]
    recipe = recipe.replace(settings)
    dataset = load_data(recipe, root or (run_root(path) if recipe.data.name != "folder" or not data else None))
    own = tuple(content["classes"])
    if len(dataset.classes) != len(own) or dataset.channels != content["channels"]:
        raise OnebitError(
            f"{path}: trained for {len(own)} classes and {content['channels']} channels, but {dataset.name} "
            f"has {len(dataset.classes)} and {dataset.channels}; fine-tune with `onebit train ... --from`"
        )
    test, note = aligned(dataset, own)
    where = next(net.parameters()).device
    result = score_split(net, test, dataset, recipe, where, crops=crops or recipe.data.crops)
    return {
        "error": result.error, "top5_error": 100.0 * result.wrong_top5 / result.images, "loss": result.loss,
        "images": result.images, "wrong": result.wrong, "data": dataset.name, "classes": list(own),
        "confusion": result.confusion.tolist(), "note": note,
    }  # fmt: skip
