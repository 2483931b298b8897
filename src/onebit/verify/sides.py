"""One form of a network, ready to be asked: a checkpoint, an author's file, a packed model or an export of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit import zoo
from onebit.errors import OnebitError
from onebit.examine.compare import activation_bits
from onebit.packed import file

Pictures = NDArray[np.uint8]  # [N, H, W, C], raw pixels
Run = Callable[[Pictures], NDArray[Any]]


@dataclass(frozen=True)
class Card:
    """What a form knows about its pictures: shape [channels, height, width], names of classes, texts (``data``, ...)."""

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    about: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Side:
    """A form of a network.

    Attributes:
        kind: what it is, for people.
        exact: does it compute with the packed model's integers? Two such forms must agree to the last bit.
        logits: of pictures uint8 [N, H, W, C] in real numbers, float [N, classes].
        bits: the width of its activations; None where they are not rounded.
        root: the folder of data sets that it was trained from, where it says so.
    """

    path: Path
    kind: str
    exact: bool
    card: Card
    logits: Run
    bits: int | None = None
    root: Path | None = None


def open_side(path: Path) -> Side:
    """Find out what `path` is by its content and make it ready.

    Raises OnebitError where it is none of the forms, damaged, or needs a package or tool that is missing.
    """
    path = zoo.find(path)
    if path.suffix == ".mat":
        return _author(path)
    if path.suffix == ".onnx":
        return _onnx(path)
    if (path / "index.html").is_file():
        return _web(path)
    if (path / "network.mk").is_file():
        return _firmware(path)
    if file.is_packed(path) or path.suffix == ".onebit":
        return _packed(path)
    return _checkpoint(path)


def _packed(path: Path) -> Side:
    from onebit.model import load

    model = load(path)
    card = Card(model.shape, model.classes, model.about)
    return Side(path, "packed model", True, card, model.logits, activation_bits(model.program))


def _firmware(path: Path) -> Side:
    from onebit.export import firmware

    return _integers(path, "firmware, compiled for this machine", file.load(path / "model.onebit"), firmware.logits)


def _web(path: Path) -> Side:
    from onebit.export import web

    return _integers(path, "web page, its WebAssembly run by node", web.model(path), web.logits)


def _integers(path: Path, kind: str, packed: file.Packed, run: Callable[[Path, Pictures], NDArray[np.int32]]) -> Side:
    scale = 2.0**-packed.program.logits.fraction
    card = Card(packed.program.input.shape, packed.classes, packed.about)
    return Side(path, kind, True, card, lambda images: run(path, images) * scale, activation_bits(packed.program))


def _onnx(path: Path) -> Side:
    from onebit.export import builder, onnx, qonnx

    found = builder.describe(path)
    card = Card(found.shape, found.classes, found.about)
    if found.kind == "qonnx":
        return Side(path, "QONNX, run by qonnx", False, card, lambda images: qonnx.logits(path, images))
    return Side(path, "ONNX, run by ONNX Runtime", False, card, lambda images: onnx.logits(path, images))


def _author(path: Path) -> Side:
    from onebit.graph import author, nodes

    found = author.read(path)
    about = {"data": f"cifar{len(found.classes)}"}
    card = Card((3, author.SIZE, author.SIZE), found.classes, about)
    return Side(
        path, "the author's file, float32", False, card, lambda x: nodes.run(found.graph, x.transpose(0, 3, 1, 2))
    )


def _checkpoint(path: Path) -> Side:
    try:
        import torch

        from onebit.train.evaluate import load_model, run_root
    except ModuleNotFoundError as error:
        raise OnebitError(f"{path}: a checkpoint needs torch ({error}); pip install 'onebit[train]'") from None
    net, recipe, content = load_model(path)

    @torch.no_grad()
    def run(pictures: Pictures) -> NDArray[Any]:
        x = torch.from_numpy(np.array(pictures.transpose(0, 3, 1, 2))).contiguous(memory_format=torch.channels_last)
        return net(x).float().numpy()

    size = content["size"]
    card = Card((content["channels"], size, size), tuple(content["classes"]), {"data": recipe.data.name})
    return Side(path, "checkpoint, float32", False, card, run, root=run_root(path))
