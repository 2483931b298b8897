"""What a finished run leaves: its result, and for a 1-bit network the packed model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from onebit import __version__
from onebit.data.dataset import DataSet
from onebit.errors import OnebitError
from onebit.networks.summary import summarize
from onebit.networks.wide_resnet import describe
from onebit.recipe import Recipe
from onebit.train.evaluate import Score, load_model
from onebit.train.folder import RunFolder
from onebit.train.pack import card, pack, training_pictures


def describe_result(
    recipe: Recipe, data: DataSet, net: nn.Module, final: Score, machine: Mapping[str, Any], *, device: str, seconds: float,
    precision: str, selected_epoch: int | None,
) -> dict[str, Any]:  # fmt: skip
    """What result.json says of a network that was trained for `seconds` and tested with the score `final`."""
    costs = summarize(net, channels=data.channels, size=data.size)
    return {
        "recipe": recipe.name, "title": recipe.title, "label": describe(recipe.network),
        "weights": recipe.network.weights, "data": data.name, "seed": recipe.training.seed,
        "epochs": recipe.training.epochs, "error": final.error, "top5_error": 100 * final.wrong_top5 / final.images,
        "test_images": final.images, "wrong": final.wrong, "params": costs.params, "packed_bytes": costs.packed_bytes,
        "float_bytes": costs.float_bytes, "macs": costs.macs, "seconds": seconds, "precision": precision,
        "onebit": __version__, "selected_epoch": selected_epoch,
        **{k: v for k, v in machine.items() if k in ("cpu", "gpu", "threads", "torch")}, "device": device,
    }  # fmt: skip


def save_packed(
    folder: RunFolder, recipe: Recipe, data: DataSet, result: dict[str, Any], say: Callable[[str], None]
) -> int | None:
    """Write the packed model of a run; its bytes. A network that cannot be packed is no reason to lose the run: None."""
    say("packing")
    try:
        net, _, _ = load_model(folder.path)  # on the CPU, as one process trains it
        packing = pack(
            net, data.classes, channels=data.channels, size=data.size,
            about=card(recipe, result), pictures=training_pictures(recipe, data),
        )  # fmt: skip
        count = packing.save(folder.packed)
    except OnebitError as error:
        say(f"not packed: {error}")
        return None
    for line in packing.lines():
        say(line)
    say(f"packed: {count:,} bytes, {result['float_bytes'] / count:.1f} times smaller than float -> {folder.packed}")
    return count
