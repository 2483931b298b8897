"""Starting from other weights (``--from``): all that fits is taken, the classifier only for the same classes.

They may be those of a run, or the signs of a packed model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from onebit import zoo
from onebit.binary import HE_GAIN, fan_in, latent_weight, layer_scale
from onebit.errors import OnebitError
from onebit.packed import file
from onebit.packed import program as p
from onebit.train import checkpoint

HEAD = ("classifier", "class_norm")  # belongs to the classes
REPLACEABLE = (*HEAD, "stem", "input_norm")  # the latter two belong to the input's channels


def start_from(net: nn.Module, path: Path, classes: Sequence[str]) -> str:
    """Load the weights of a run folder or checkpoint into `net`, in place; returns one line that says what was taken.

    Float and 1-bit networks start from each other: latent weights are the float network's weights. With other
    `classes` the classifier stays as it was initialised, as do the first layers where the channels differ.
    A packed model gives its signs; latent weights keep the sizes that they were initialised with.
    Raises OnebitError when another convolution of `net` finds no weights of its shape: half a network is no start.
    """
    if path.suffix == ".onebit":
        return _from_packed(net, path, classes)
    if path.is_dir():
        path = next((p for n in ("model.pt", "checkpoint.pt") if (p := path / n).exists()), path / "model.pt")
    content = checkpoint.load(path)
    theirs = {_plain(name): value for name, value in content.get("model", {}).items()}
    if list(content.get("classes", [])) != list(classes):
        theirs = {name: value for name, value in theirs.items() if not name.startswith(HEAD)}
    taken: dict[str, Tensor] = {}
    new: list[str] = []
    for name, own in net.state_dict().items():
        value = theirs.get(_plain(name))
        if isinstance(value, Tensor) and value.shape == own.shape:
            taken[name] = value
            continue
        new.append(_plain(name))
        if own.dim() > 1 and not name.startswith(REPLACEABLE):
            raise OnebitError(
                f"{path}: no layer fits {_plain(name)} {list(own.shape)}; start from a run of the same family, depth and width"
            )
    with torch.no_grad():
        net.load_state_dict(taken, strict=False)
    return f"started from {path}: {len(taken)} tensors taken" + (f", new: {', '.join(new)}" if new else "")


@torch.no_grad()
def _from_packed(net: nn.Module, path: Path, classes: Sequence[str]) -> str:
    """The signs of a packed model; each latent weight keeps the size that it was initialised with, a float one gets the scale."""
    packed = file.load(path)
    theirs = [op for _, op in packed.program.convolutions()]
    own = {name: layer for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    if len(theirs) != len(own):
        raise OnebitError(
            f"{path}: has {len(theirs)} layers with weights, the network to train has {len(own)}; start from a model of the same depth"
        )
    found: dict[str, Tensor] = {}
    new: list[str] = []
    for (name, layer), op in zip(own.items(), theirs, strict=True):
        shape = latent_weight(layer).shape
        signs = p.signs(op, packed.program.fan_in(op)).reshape(len(op.bits), *op.kernel, -1).transpose(0, 3, 1, 2)
        other = name.startswith(HEAD) and list(packed.classes) != list(classes)
        if not other and signs.shape == (*shape, 1, 1)[:4]:
            found[name] = torch.from_numpy(signs.copy()).reshape(shape)
            continue
        new.append(f"{name}.weight")
        if not name.startswith(REPLACEABLE):
            raise OnebitError(
                f"{path}: no layer fits {name}.weight {list(shape)}; start from a model of the same family, depth and width"
            )
    for name, sign in found.items():
        weight = latent_weight(own[name])
        size = HE_GAIN / fan_in(weight) ** 0.5 if layer_scale(own[name]) is None else weight.abs()
        weight.copy_(sign.to(weight.device) * size)
    name = path.stem if path.parent == zoo.FOLDER else path
    return f"started from {name}: the signs of {len(found)} layers taken" + (f", new: {', '.join(new)}" if new else "")


def _plain(name: str) -> str:
    """The name of a layer's weight in a float network.

    >>> _plain("classifier.parametrizations.weight.original")
    'classifier.weight'
    """
    return name.replace(".parametrizations.weight.original", ".weight")
