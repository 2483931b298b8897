"""Recipes: every one loads, builds at full size on the meta device with the formula's count, and round-trips."""

from __future__ import annotations

import runpy
from importlib import resources
from pathlib import Path

import pytest
import torch

from onebit import networks, recipe
from onebit.errors import OnebitError

SETS = {
    "digits": (10, 1, 8), "mnist": (10, 1, 28), "cifar10": (10, 3, 32), "cifar100": (100, 3, 32), "svhn": (10, 3, 32),
    "imagenet32": (1000, 3, 32), "imagenet": (1000, 3, 224), "folder": (7, 3, 64),
}  # fmt: skip


def formula(r: recipe.Recipe, classes: int, channels: int) -> int:
    """Weights of the recipe's network, written out on its own: the stem, the groups, the classifier."""
    imagenet = r.network.family == "imagenet"
    groups, stem = (4, 49) if imagenet else (3, 9)
    c = round((64 if imagenet else 16) * r.network.width)
    n = (r.network.depth - 2) // (2 * groups)
    total = stem * channels * c + 9 * c * c * 2 * n
    for _ in range(groups - 1):
        total += 9 * c * 2 * c + 9 * (2 * c) ** 2 * (2 * n - 1)
        c *= 2
    return total + c * classes


@pytest.mark.parametrize("name", recipe.names())
def test_recipe_builds_at_full_size(name: str) -> None:
    r = recipe.load(name)
    assert r.title
    classes, channels, size = SETS[r.data.name]
    with torch.device("meta"):
        net = networks.build(r.network, classes=classes, channels=channels, size=size)
        assert net(torch.zeros(2, channels, size, size)).shape == (2, classes)
    counted = sum(p.numel() for p in net.parameters() if p.dim() == 4)
    assert counted == formula(r, classes, channels)
    assert counted == networks.parameter_count(r.network, classes=classes, channels=channels)


# The paper's tables once more, by hand: weights, network, epochs, then the errors of each column.
TABLES = """
float 20-4   126  cifar10 5.02  cifar100 21.53  cifar10-cutout 4.39  cifar100-cutout 20.48
float 20-10  254  cifar10 4.22  cifar100 18.76  cifar10-cutout 3.46  cifar100-cutout 17.19
float 26-10  254  cifar10 4.23  cifar100 18.63  cifar10-cutout 3.54  cifar100-cutout 17.22
float 20-20  126  cifar100 18.14
1bit  20-4   126  cifar10 6.13  cifar100 23.87  cifar10-cutout 5.34  cifar100-cutout 23.74
1bit  20-10  254  cifar10 4.72  cifar100 19.35  cifar10-cutout 3.92  cifar100-cutout 18.51
1bit  26-10  254  cifar10 4.46  cifar100 18.94  cifar10-cutout 3.41  cifar100-cutout 18.50
1bit  20-20  126  cifar100 18.81
float 20-4    30  svhn 1.75  imagenet32 46.61
float 20-10   30  imagenet32 39.96
float 20-15   30  imagenet32 38.90
float 18-2.5  62  imagenet 26.92
1bit  20-4    30  svhn 1.93  imagenet32 56.08
1bit  20-10   30  imagenet32 44.27
1bit  26-10   62  imagenet32 41.36
1bit  20-15   30  imagenet32 41.26
1bit  18-2.5  62  imagenet 31.03
1bit  20-4    14  mnist 0.27
float 20-4     6  mnist 0.28
"""


def test_every_row_of_the_tables_is_a_recipe() -> None:
    covered = set()
    for row in TABLES.strip().splitlines():
        weights, network, epochs, *columns = row.split()
        for column, error in zip(columns[::2], columns[1::2], strict=True):
            data, _, cutout = column.partition("-")
            name = f"{data}-{network}{'-cutout' if cutout else ''}-{weights}"
            r = recipe.load(name)
            covered.add(name)
            assert (r.published["error"], r.training.epochs) == (float(error), int(epochs)), name
            assert f"{r.network.depth}-{r.network.width:g}" == network and r.network.weights == weights, name
            assert (r.data.name, r.data.cutout) == (data, 18 if cutout else 0), name
            learned = data.startswith("imagenet")
            assert r.network.norm == ("learned" if learned else "fixed"), name
            assert r.training.weight_decay == (1e-4 if learned else 5e-4), name
            assert r.data.flip == (data not in ("svhn", "mnist")), name
            assert (r.training.batch, r.training.lr, r.training.momentum, r.training.cycle) == (125, 0.1, 0.9, 2), name
    others = {n for n in recipe.names() if recipe.load(n).published} - covered
    assert all(n.startswith("shifted-relu-") for n in others)


def test_generated_recipes_are_current() -> None:
    script = Path(__file__).resolve().parents[1] / "tools" / "make_recipes.py"
    for stem, text in runpy.run_path(str(script))["all_recipes"]().items():
        shipped = resources.files("onebit.recipes").joinpath(f"{stem}.toml").read_text(encoding="utf-8")
        assert shipped == text, f"{stem}.toml: edit tools/make_recipes.py and run it"


@pytest.mark.parametrize("name", recipe.names())
def test_recipe_round_trips_through_toml(name: str) -> None:
    r = recipe.load(name)
    assert recipe.parse(r.to_toml(), name) == r


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("widht=4", "'width'"),
        ("data.widht=4", "unknown field"),
        ("depth=4.5", "whole number"),
        ("weights=1bits", "'1bit'"),
        ("epochs=0", "at least 1"),
        ("flip=yes", "true or false"),
        ("width", "FIELD=VALUE"),
        ("step_epochs=[1, -2]", "whole numbers"),
        ("lr=nan", "at least 0"),
    ],
)
def test_wrong_setting_is_refused_with_the_remedy(setting: str, words: str) -> None:
    with pytest.raises(OnebitError, match=words.replace("[", "\\[")) as caught:
        recipe.load("digits").replace([setting])
    assert "\n" not in str(caught.value)


def test_a_field_of_words_takes_the_text_as_it_stands() -> None:
    for setting in ("crops=25", 'crops="25"', "crops = '25'"):
        assert recipe.load("digits").replace([setting]).data.crops == "25"
    assert recipe.load("digits").replace(["name=007"]).data.name == "007"


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(OnebitError, match="'digits'"):
        recipe.load("digit")


def test_unknown_base_is_refused() -> None:
    with pytest.raises(OnebitError, match="unknown"):
        recipe.parse('base = "no-such-recipe"', "x")


def test_26_7_million_weights_in_20_10() -> None:
    assert networks.parameter_count(recipe.Network(depth=20, width=10), classes=10, channels=3) == 26_737_120
    imagenet = recipe.Network(family="imagenet", depth=18, width=2.5)
    assert networks.parameter_count(imagenet, classes=1000, channels=3) == 69_962_720
