"""Trained models that come with the package, by name. No torch.

Each is a packed file and a card beside it (`tools/publish_model.py` writes both from a run folder). Nothing is fetched.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebit.errors import OnebitError, nearest

if TYPE_CHECKING:
    from onebit.model import Model

FOLDER = Path(__file__).parent


@cache
def names() -> tuple[str, ...]:
    """The models, by data set, then by size.

    >>> "digits-20-1" in names()
    True
    """
    found = [path.stem for path in FOLDER.glob("*.json")]
    return tuple(sorted(found, key=lambda name: (card(name)["data"], card(name)["bytes"])))


def path(name: str) -> Path:
    """The packed file of a model. Raises OnebitError for a name that is none."""
    found = FOLDER / f"{name}.onebit"
    if name not in {file.stem for file in FOLDER.glob("*.json")} or not found.is_file():
        raise OnebitError(f"model {name!r}: there is none by that name: {nearest(name, names())}")
    return found


def card(name: str) -> dict[str, Any]:
    """What a model is, how it was made and measured, what it is for and not for; `docs/models.md` explains the keys."""
    try:
        content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise OnebitError(f"model {name!r}: there is none by that name: {nearest(name, names())}") from None
    return content


def pretrained(name: str, *, threads: int | None = None, isa: str | None = None) -> Model:
    """A trained model that comes with the package; arguments as for `onebit.load`, names from `onebit models`.

    Raises OnebitError for a name that is none, and what `onebit.load` raises.

    >>> import numpy as np
    >>> model = pretrained("digits-20-1")
    >>> len(model.predict(np.zeros((2, 8, 8), np.uint8)))
    2
    """
    from onebit.model import load

    return load(path(name), threads=threads, isa=isa)


def find(given: Path) -> Path:
    """The packed file that a person means by `given`: a model's name, if nothing else is there by that name.

    >>> find(Path("digits-20-1")).name, find(Path("own.onebit")).name
    ('digits-20-1.onebit', 'own.onebit')
    """
    if given.name == str(given) and not given.exists() and given.suffix != ".onebit":
        if str(given) in names():
            return path(str(given))
        if not given.suffix:
            raise OnebitError(
                f"{given}: there is no such file or run folder, and no model by that name: {nearest(str(given), names())}"
            )
    return given
