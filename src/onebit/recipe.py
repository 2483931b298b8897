"""Recipes: one commented TOML file an experiment, checked against the dataclasses below.

Every field of every table is named, typed and explained here once; a recipe file states what differs
from these defaults, and ``base = "NAME"`` starts from another recipe. Field names are unique over all
tables, so that ``--set width=4`` needs no prefix (``--set network.width=4`` works too).
"""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from onebit.errors import OnebitError, nearest


@dataclass(frozen=True)
class Network:
    """The network (PAPER section 3)."""

    family: Literal["wide", "imagenet", "plain"] = "wide"  # wide: 6n+2; imagenet: 18 layers; plain: no skips
    depth: int = 20
    width: float = 4.0  # k: 16k, 32k, 64k channels (imagenet: 64k, 128k, ...); fractions allowed
    weights: Literal["1bit", "float"] = "1bit"
    scale: Literal["he", "bwn-layer", "bwn-channel"] = "he"  # he: the paper's constant; bwn: mean |W| (section 5.2)
    norm: Literal["fixed", "learned", "none"] = "fixed"  # batch-norm gain and offset; none: shifted-ReLU networks
    activation: Literal["relu", "shifted-relu"] = "relu"
    activation_bits: Literal[32, 8, 4] = 32  # 8 or 4: train with the activations of the packed model
    input_relu: bool = True  # ReLU after the input batch-norm
    padding: Literal["symmetric", "bottom-right"] = "symmetric"  # bottom-right: TensorFlow "same" at stride 2
    logit_divisor: float = 1.0  # T of the shifted-ReLU networks: logits = pooled / T


@dataclass(frozen=True)
class Data:
    """The data set and its augmentation (PAPER, "Training")."""

    name: str = "digits"  # a catalog name, or "folder" with --data DIR
    size: int = 0  # side in pixels; 0: the set's own. Needed for folders and ImageNet
    grey: bool = False  # folders: one channel
    extra: bool = True  # SVHN: train on train + extra, as the paper
    flip: bool = False  # random horizontal flip
    pad: int = 0  # random crop after padding by this many pixels
    pad_fill: Literal["random", "zero"] = "random"  # random: uniform integers 0..255
    cutout: int = 0  # side of the patch, which may hang over the border; 0: none
    cutout_fill: Literal["random", "zero"] = "random"
    crops: Literal["centre", "25"] = "centre"  # photo-size sets: what the final test averages over
    workers: int = 2  # photo-size sets: decoding processes
    holdout: int = 0  # training images kept aside for selection (never the test set)


@dataclass(frozen=True)
class Training:
    """How the latent weights are trained (PAPER section 3.2)."""

    epochs: int = 30
    batch: int = 125
    last_batch: Literal["keep", "drop"] = "keep"
    schedule: Literal["restarts", "cosine", "steps"] = "restarts"
    cycle: int = 2  # restarts: epochs of the first cycle; every next one is twice as long
    lr: float = 0.1
    lr_end: float = 1e-4  # the end of each cosine (both published codes: 1e-5)
    step_epochs: tuple[int, ...] = ()  # steps: the learning rate is divided by 10 after these epochs
    momentum: float = 0.9
    momentum_at_restart: Literal["zero", "keep"] = "zero"  # MATLAB code: zero; Keras code: keep
    momentum_form: Literal["lr-inside", "lr-outside"] = "lr-inside"  # v = mv - lr g, or torch's v = mv + g
    weight_decay: float = 5e-4  # on latent convolution weights only
    moments: Literal["reestimate", "running"] = "reestimate"  # batch-norm moments that a network is tested with
    select: Literal["last", "best"] = "last"  # best: lowest error on the held-out images (needs holdout)
    precision: Literal["auto", "float32", "bf16"] = "auto"  # auto: bf16 where the hardware computes it
    compile: bool = False  # torch.compile: the network and the update of its weights
    cuda_graphs: bool = False  # with compile, on one CUDA device: record the compiled pieces (narrow networks)
    seed: int = 0
    checkpoint_minutes: float = 10.0  # besides one checkpoint an epoch


@dataclass(frozen=True)
class Recipe:
    """One experiment, complete.

    >>> recipe = load("digits").replace(["width=1", "epochs=3"])
    >>> recipe.network.width, recipe.training.epochs
    (1.0, 3)
    """

    name: str = "custom"
    title: str = ""  # one line for people
    published: Mapping[str, Any] = field(default_factory=dict)  # what the paper reports: where, error (percent), ...
    network: Network = field(default_factory=Network)
    data: Data = field(default_factory=Data)
    training: Training = field(default_factory=Training)

    def replace(self, settings: Iterable[str]) -> Recipe:
        """A copy with ``KEY=VALUE`` settings applied; raises OnebitError with the nearest valid name or value."""
        return _replace(self, settings)

    def to_toml(self) -> str:
        """Every field of the recipe as TOML; ``parse`` reads it back unchanged."""
        return _to_toml(self)


TABLES = ("network", "data", "training")


def names() -> list[str]:
    """Names of the recipes that ship with the package."""
    files = resources.files("onebit.recipes").iterdir()
    return sorted(f.name[:-5] for f in files if f.name.endswith(".toml") and not f.name.startswith("_"))


def load(name_or_path: str | Path) -> Recipe:
    """A recipe by name, or from a TOML file of yours (a path that ends in .toml).

    Raises OnebitError for an unknown name (with the nearest one), unreadable TOML, or a wrong field or value.
    """
    text, label = _source(str(name_or_path))
    return parse(text, label)


def parse(text: str, name: str = "custom") -> Recipe:
    """A recipe from TOML text. `name` stands in errors and becomes the recipe's name."""
    tree = _merged(text, name, seen=())
    published = tree.pop("published", {})
    title = tree.pop("title", "")
    tree.pop("name", None)
    tables = {table: tree.pop(table, {}) for table in TABLES}
    for key in tree:
        raise OnebitError(
            f"recipe {name}: unknown table {key!r}; {nearest(key, ['base', 'title', 'published', *TABLES])}"
        )
    types_of = {"network": Network, "data": Data, "training": Training}
    built = {t: _build(types_of[t], tables[t], f"recipe {name}, [{t}]") for t in TABLES}
    return Recipe(name=name, title=title, published=published, **built)


def _source(name: str) -> tuple[str, str]:
    if name.endswith(".toml"):
        try:
            return Path(name).read_text(encoding="utf-8"), Path(name).stem
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise OnebitError(f"recipe file {name}: cannot be read ({why}); name a TOML file or a recipe") from error
    shipped = resources.files("onebit.recipes").joinpath(f"{name}.toml")
    if "/" in name or "\\" in name or not shipped.is_file():
        raise OnebitError(f"recipe {name!r} is unknown: {nearest(name, names())} (`onebit recipes` lists all)")
    return shipped.read_text(encoding="utf-8"), name


def _merged(text: str, name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    """The TOML tree with its chain of bases merged below it."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OnebitError(f"recipe {name}: not valid TOML: {error}") from error
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str) or base in seen:
        raise OnebitError(f"recipe {name}: base {base!r} must name another recipe, without a circle")
    below = _merged(_source(base)[0], base, (*seen, base))
    below.pop("published", None)  # a result belongs to the experiment that had it
    for key, value in tree.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        below[key] = {**below[key], **value} if both else value
    return below


def _build(cls: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise OnebitError(f"{where}: must be a table, not {values!r}")
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise OnebitError(f"{where}: unknown field {key!r}; {nearest(key, hints)}")
    return cls(**{key: _checked(hints[key], key, value, where) for key, value in values.items()})


# Smallest sensible value of each number; the remedy in the error says it.
_LOWEST: dict[str, float] = {
    "width": 0, "epochs": 1, "batch": 1, "cycle": 1, "lr": 0, "lr_end": 0, "momentum": 0, "weight_decay": 0, "size": 0,
    "pad": 0, "cutout": 0, "workers": 0, "holdout": 0, "checkpoint_minutes": 0, "depth": 2, "seed": 0,
}  # fmt: skip


def _checked(hint: Any, key: str, value: Any, where: str) -> Any:
    """`value` as the field's type, or OnebitError with what would be accepted."""
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices or isinstance(value, bool):
            hint_text = nearest(value, choices) if isinstance(value, str) else f"known: {', '.join(map(str, choices))}"
            raise OnebitError(f"{where}: {key} = {value!r} is not offered; {hint_text}")
        return value
    if typing.get_origin(hint) is tuple:
        good = isinstance(value, list | tuple) and all(type(v) is int and v > 0 for v in value)
        if not good:
            raise OnebitError(f"{where}: {key} = {value!r} must be a list of whole numbers, such as [85, 170]")
        return tuple(value)
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        kind = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[hint]
        raise OnebitError(f"{where}: {key} = {value!r} must be {kind}")
    lowest = _LOWEST.get(key)
    if lowest is not None and not lowest <= value < float("inf"):
        raise OnebitError(f"{where}: {key} = {value!r} must be at least {lowest:g}")
    return value


def _fields() -> dict[str, tuple[str, ...]]:
    return {
        t: tuple(f.name for f in dataclasses.fields(c)) for t, c in zip(TABLES, (Network, Data, Training), strict=True)
    }


def _value(text: str) -> Any:
    """The value of a ``--set``: TOML where it is TOML (4, 0.5, true, [1, 2]), else the text itself."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _replace(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    by_table = _fields()
    owner = {name: table for table, fields in by_table.items() for name in fields}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals:
            raise OnebitError(f"--set {setting!r}: write FIELD=VALUE, for example --set width=4")
        table, _, name = key.rpartition(".")
        if name not in owner or (table and owner[name] != table):
            known = [*owner, *(f"{t}.{n}" for n, t in owner.items())]
            raise OnebitError(f"--set {setting!r}: unknown field {key!r}; {nearest(key, known if table else owner)}")
        part = getattr(recipe, owner[name])
        hint = typing.get_type_hints(type(part))[name]
        # a field of words takes the text as it stands: crops=25 is the word, not the number
        words = hint is str or any(isinstance(choice, str) for choice in typing.get_args(hint))
        value = _checked(hint, name, text.strip().strip("\"'") if words else _value(text.strip()), "--set")
        recipe = dataclasses.replace(recipe, **{owner[name]: dataclasses.replace(part, **{name: value})})
    return recipe


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    return repr(value)


def _to_toml(recipe: Recipe) -> str:
    lines = [f"title = {_toml_value(recipe.title)}"]
    tables: list[tuple[str, Mapping[str, Any]]] = [("published", recipe.published)] if recipe.published else []
    tables += [(t, dataclasses.asdict(getattr(recipe, t))) for t in TABLES]
    for table, values in tables:
        lines += ["", f"[{table}]", *(f"{k} = {_toml_value(v)}" for k, v in values.items())]
    return "\n".join(lines) + "\n"
