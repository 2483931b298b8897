"""A folder of class folders as a data set; a split is drawn once and stored where the folder has none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from onebit.data.dataset import DataSet, Files, stratified
from onebit.errors import OnebitError

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
SPLIT_FILE = "onebit-split.json"
TEST_SHARE = 0.2


def load(root: Path, *, size: int, channels: int = 3, name: str = "folder") -> DataSet:
    """DIR/train and DIR/test (or val) with one folder a class; or one folder a class, split 80/20 and stored.

    The split is stratified, drawn with seed 0 and written to ``onebit-split.json`` before anything is trained.
    Raises OnebitError: no such folder, no pictures, fewer than two classes, classes that differ between the halves.
    """
    if not root.is_dir():
        raise OnebitError(f"{root}: is no folder; give one that holds a folder of pictures for each class")
    if size < 1:
        raise OnebitError(f"{root}: say how large the pictures shall be, for example --size 64")
    halves = [root / "train", next((root / n for n in ("test", "val") if (root / n).is_dir()), root / "test")]
    if halves[0].is_dir():
        if not halves[1].is_dir():
            raise OnebitError(
                f"{root}: has train but neither test nor val; add one, or put the class folders directly into it"
            )
        classes, train = _scan(halves[0])
        other, test = _scan(halves[1])
        if classes != other:
            raise OnebitError(
                f"{root}: classes differ between train and {halves[1].name}: {sorted({*classes} ^ {*other})[:5]}"
            )
        return DataSet(name, classes, channels, size, train, test)
    classes, every = _scan(root)
    mask = _stored_split(root, every)
    return DataSet(name, classes, channels, size, every.take(np.flatnonzero(~mask)), every.take(np.flatnonzero(mask)))


def _scan(root: Path) -> tuple[tuple[str, ...], Files]:
    classes = sorted(d.name for d in root.iterdir() if d.is_dir() and not d.name.startswith("."))
    paths: list[Path] = []
    labels: list[int] = []
    for label, c in enumerate(classes):
        found = sorted(p for p in (root / c).rglob("*") if p.suffix.lower() in PICTURES and p.is_file())
        if not found:
            raise OnebitError(
                f"{root / c}: holds no picture ({', '.join(sorted(PICTURES))}); fill or remove the folder"
            )
        paths += found
        labels += [label] * len(found)
    if len(classes) < 2:
        raise OnebitError(
            f"{root}: holds {len(classes)} class folder(s); a classifier needs at least two, one folder a class"
        )
    return tuple(classes), Files(tuple(paths), np.array(labels, dtype=np.int64))


def _stored_split(root: Path, every: Files) -> np.ndarray:
    """The stored split of `root` as a mask of test pictures, drawn and stored when there is none."""
    names = [p.relative_to(root).as_posix() for p in every.paths]
    path = root / SPLIT_FILE
    if path.exists():
        try:
            test = set(json.loads(path.read_text(encoding="utf-8"))["test"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OnebitError(f"{path}: damaged ({error}); restore it, or delete it to draw a new split") from error
        missing = sorted(test - set(names))
        if missing:
            raise OnebitError(
                f"{path}: names {missing[0]}, which is gone ({len(missing)} in all); restore it, or delete the file for a new split"
            )
        return np.array([n in test for n in names])
    mask = stratified(every.labels, max(1, round(TEST_SHARE * len(every))), seed=0)
    text = json.dumps(
        {"made": "stratified, seed 0", "test": [n for n, m in zip(names, mask, strict=True) if m]}, indent=0
    )
    temporary = path.with_name(f".{SPLIT_FILE}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OnebitError(
            f"{root}: the split cannot be stored there ({error}); make the folder writable or split it into train and test"
        ) from error
    return mask
