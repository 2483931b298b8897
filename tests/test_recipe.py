"""Recipes: every one loads, builds at full size on the meta device with the formula's count, and round-trips."""

from __future__ import annotations

import pytest
import torch

from onebit import networks, recipe
from onebit.errors import OnebitError


def formula(depth: int, width: float, classes: int, channels: int) -> int:
    """Weights of a 6n+2 network, written out on its own."""
    n, c = (depth - 2) // 6, round(16 * width)
    group = [
        c * c * 9 * 2 * n,
        9 * c * 2 * c + 9 * (2 * c) ** 2 * (2 * n - 1),
        9 * 2 * c * 4 * c + 9 * (4 * c) ** 2 * (2 * n - 1),
    ]
    return 9 * channels * c + sum(group) + 4 * c * classes


@pytest.mark.parametrize("name", recipe.names())
def test_recipe_builds_at_full_size(name: str) -> None:
    r = recipe.load(name)
    assert r.title
    channels, classes, size = {"mnist": (1, 10, 28), "digits": (1, 10, 8)}.get(r.data.name, (3, 10, 32))
    with torch.device("meta"):
        net = networks.build(r.network, classes=classes, channels=channels, size=size)
    counted = sum(p.numel() for p in net.parameters() if p.dim() == 4)
    assert counted == formula(r.network.depth, r.network.width, classes, channels)


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
