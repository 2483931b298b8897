"""Packed models for speed tests: the published architecture with random weights.

    python benchmarks/make_models.py OUT 20-2 20-4 20-4-4bit ...

Writes OUT/NAME.onebit. The network is that of the recipe cifar10-20-4-1bit at the named width, its weights are random
(seed 0), its batch-norms have the moments that these weights give on 64 pictures of CIFAR-10, and it is packed as a trained
one is. The classes that it answers mean nothing; its layers, shapes, ranges and bytes are those of a trained network, and
speed depends on nothing else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from onebit import networks, recipe
from onebit.binary import binary_layers, latent_weight
from onebit.packed import file
from onebit.train.moments import reestimate
from onebit.train.pack import pack

PICTURES = Path(__file__).resolve().parent.parent / "tests" / "golden" / "cifar10-test-64.npy"


def make(name: str, seed: int = 0) -> file.Packed:
    """The packed model of a name such as 20-4 or 20-4-4bit: depth, width, and activations of 4 bits instead of 8."""
    depth, width, *rest = name.split("-")
    bits = 4 if rest == ["4bit"] else 8
    settings = [f"depth={depth}", f"width={width}", f"activation_bits={4 if bits == 4 else 32}"]
    net = networks.build(
        recipe.load("cifar10-20-4-1bit").replace(settings).network, classes=10, channels=3, size=32
    )  # fmt: skip
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in binary_layers(net).values():
            weight = latent_weight(layer)
            weight.normal_(0, (2 / weight[0].numel()) ** 0.5, generator=random)
    pictures = torch.from_numpy(np.load(PICTURES).transpose(0, 3, 1, 2).copy()).float()
    reestimate(net, [pictures])
    about = {"data": "cifar10", "made": f"random weights, seed {seed}", "recipe": recipe_text(depth, width)}
    classes = [f"class {k}" for k in range(10)]
    return pack(net.eval(), classes, channels=3, size=32, about=about, bits=bits).packed


def recipe_text(depth: str, width: str) -> str:
    return f"cifar10-{depth}-{width}-1bit"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="+", metavar="NAME", help="20-4, 20-2, 20-4-4bit, ...")
    options = parser.parse_args()
    torch.manual_seed(0)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        path = options.out / f"{name}.onebit"
        print(f"{path}: {file.save(path, make(name)):,} bytes")


if __name__ == "__main__":
    main()
