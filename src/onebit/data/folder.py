"""A folder of class folders as a data set; a split is drawn once and stored where the folder has none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onebit.data.dataset import DataSet, Files, stratified
from onebit.errors import OnebitError, reason
from onebit.files import write_text

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
SPLIT_FILE = "onebit-split.json"
TEST_SHARE = 0.2


def load(
    root: Path, *, size: int, channels: int = 3, name: str = "folder", halves: tuple[str, ...] = ("test", "val")
) -> DataSet:
    """DIR/train and DIR/test (or val) with one folder a class; or one folder a class, split 80/20 and stored.

    Pictures may lie in subfolders of a class folder; what begins with a dot is left out. The split is stratified, drawn
    with seed 0 and written to ``onebit-split.json`` before anything is trained. `halves` are the names that the test
    half may have, the first one that holds class folders counts. `size` is the side in pixels that the pictures will
    have once decoded, `channels` 1 or 3.

    Raises OnebitError: no such folder, no pictures, fewer than two classes, classes that differ between the halves, a
    class too small to be split, a stored split that does not fit the pictures.

    >>> import tempfile; from PIL import Image
    >>> with tempfile.TemporaryDirectory() as d:
    ...     for file in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
    ...         Path(d, file).parent.mkdir(exist_ok=True)
    ...         Image.new("RGB", (9, 9)).save(Path(d, file))
    ...     pets = load(Path(d), size=8)
    >>> pets.classes, len(pets.train), len(pets.test)
    (('cat', 'dog'), 2, 2)
    """
    if not root.is_dir():
        raise OnebitError(f"{root}: is no folder; give one that holds a folder of pictures for each class")
    if size < 1:
        raise OnebitError(f"{root}: say how large the pictures shall be, for example --size 64")
    if _class_folders(root / "train"):  # a folder "train" without folders in it is a class of vehicles
        half = next((n for n in halves if _class_folders(root / n)), None)
        if half is None:
            raise OnebitError(
                f"{root}: has class folders in train but none in {' or '.join(halves)}; "
                "add them, or put the class folders directly into it"
            )
        classes, train = _scan(root / "train")
        other, test = _scan(root / half)
        if classes != other:
            raise OnebitError(
                f"{root}: classes differ between train and {half}: {sorted({*classes} ^ {*other})[:5]}; "
                "give both the same class folders"
            )
        return DataSet(name, classes, channels, size, train, test)
    classes, every = _scan(root)
    mask = _stored_split(root, classes, every)
    return DataSet(name, classes, channels, size, every.take(np.flatnonzero(~mask)), every.take(np.flatnonzero(mask)))


def _class_folders(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    return sorted(d.name for d in root.iterdir() if not d.name.startswith(".") and d.is_dir())


def _scan(root: Path) -> tuple[tuple[str, ...], Files]:
    """The classes below `root` and all their pictures, in an order that does not depend on the file system."""
    classes = _class_folders(root)
    if len(classes) < 2:
        raise OnebitError(
            f"{root}: holds {len(classes)} class folder(s); a classifier needs at least two, one folder a class"
        )
    paths: list[Path] = []
    labels: list[int] = []
    for label, c in enumerate(classes):
        found = _pictures(root / c)
        if not found:
            raise OnebitError(
                f"{root / c}: holds no picture ({', '.join(sorted(PICTURES))}); fill or remove the folder"
            )
        paths += found
        labels += [label] * len(found)
    return tuple(classes), Files(tuple(paths), np.array(labels, dtype=np.int64))


def _pictures(root: Path) -> list[Path]:
    def fail(error: OSError) -> None:  # pictures left out in silence would change the data set
        raise OnebitError(f"{error.filename}: cannot be read ({reason(error)}); make the folder readable, or remove it")

    found = []
    for folder, subfolders, files in os.walk(root, onerror=fail):
        # Hidden files are no pictures of the user's: "._1.jpg" is what macOS writes beside "1.jpg" on foreign disks.
        subfolders[:] = [s for s in subfolders if not s.startswith(".")]
        found += [Path(folder, f) for f in files if f[0] != "." and os.path.splitext(f)[1].lower() in PICTURES]
    return sorted(found)


def _stored_split(root: Path, classes: tuple[str, ...], every: Files) -> NDArray[np.bool_]:
    """The stored split of `root` as a mask of test pictures, drawn and stored when there is none."""
    names = [p.relative_to(root).as_posix() for p in every.paths]
    path = root / SPLIT_FILE
    if path.exists():
        return _read_split(path, classes, every.labels, names)
    sizes = np.bincount(every.labels)
    if sizes.min() < 2:
        raise OnebitError(
            f"{root / classes[sizes.argmin()]}: holds one picture; a class needs two, one to train on and one to test"
        )
    count = min(max(1, round(TEST_SHARE * len(every))), len(every) - len(classes))
    mask = stratified(every.labels, count, seed=0, least=1)
    text = json.dumps(
        {"made": "stratified, seed 0", "test": [n for n, m in zip(names, mask, strict=True) if m]}, indent=0
    )
    try:
        write_text(path, text + "\n")
    except OnebitError as error:
        raise OnebitError(f"{error}, or split it into train and test yourself") from error
    return mask


def _read_split(path: Path, classes: tuple[str, ...], labels: NDArray[np.int64], names: list[str]) -> NDArray[np.bool_]:
    remedy = "restore it, or delete it to draw a new split"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OnebitError(f"{path}: damaged ({reason(error)}); {remedy}") from error
    listed = content.get("test") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed or not all(isinstance(n, str) for n in listed):
        raise OnebitError(f'{path}: damaged ("test" must list the test pictures by name); {remedy}')
    test = set(listed)
    missing = sorted(test - set(names))
    if missing:
        raise OnebitError(
            f"{path}: names {missing[0]!r}, which is gone ({len(missing)} in all); restore it, or delete {path.name} to draw a new split"
        )
    mask = np.array([n in test for n in names])
    untrained = np.flatnonzero(np.bincount(labels[~mask], minlength=len(classes)) == 0)
    if len(untrained):
        raise OnebitError(
            f"{path}: leaves class {classes[untrained[0]]!r} without training pictures; add some, or delete {path.name} to draw a new split"
        )
    return mask
