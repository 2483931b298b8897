"""Readers of the published file formats: one function a format, each file checked before it is believed. No pickle."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.data.dataset import Arrays
from onebit.errors import OnebitError

CIFAR_PIXELS = 3 * 32 * 32


def _bytes(path: Path) -> bytes:
    """The file's bytes, unpacked when it is a .gz."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                return file.read()
        return path.read_bytes()
    except FileNotFoundError:
        raise OnebitError(f"{path}: is missing; `onebit data fetch` gets it, or put it there") from None
    except (OSError, EOFError, zlib.error) as error:
        raise OnebitError(f"{path}: cannot be read ({error}); fetch it again") from error


def check_labels(labels: NDArray[np.int64], classes: int, path: Path) -> None:
    """Labels must lie in 0..classes-1."""
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        bad = labels.max() if labels.max() >= classes else labels.min()
        raise OnebitError(
            f"{path}: holds label {bad}, expected 0 to {classes - 1}; the file is damaged, fetch it again"
        )


def cifar(paths: Iterable[Path], classes: int, label_bytes: int = 1) -> Arrays:
    """CIFAR's binary version: records of `label_bytes` labels (the last one counts) and 3072 pixels, R, G, B planes."""
    images, labels = [], []
    record = label_bytes + CIFAR_PIXELS
    for path in paths:
        data = np.frombuffer(_bytes(path), dtype=np.uint8)
        if data.size == 0 or data.size % record:
            raise OnebitError(
                f"{path}: has {data.size:,} bytes, not a multiple of {record:,}; it is cut short, fetch it again"
            )
        rows = data.reshape(-1, record)
        own = rows[:, label_bytes - 1].astype(np.int64)
        check_labels(own, classes, path)
        labels.append(own)
        images.append(rows[:, label_bytes:].reshape(-1, 3, 32, 32))
    return Arrays(np.concatenate(images), np.concatenate(labels))


def names(path: Path, count: int) -> tuple[str, ...]:
    """Class names, one a line."""
    found = tuple(line.strip() for line in _bytes(path).decode("utf-8", "replace").splitlines() if line.strip())
    if len(found) != count:
        raise OnebitError(f"{path}: names {len(found)} classes, expected {count}; fetch the set again")
    return found


def idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """One IDX file of unsigned bytes (MNIST): magic number, big-endian sizes, data. Plain or .gz, whichever exists."""
    path = path if path.exists() or path.suffix == ".gz" else path.with_name(path.name + ".gz")
    data = _bytes(path)
    header = 4 + 4 * dimensions
    if len(data) < header or data[:4] != bytes([0, 0, 8, dimensions]):
        raise OnebitError(
            f"{path}: begins with {data[:4].hex()}, not the IDX magic 0000080{dimensions}; fetch it again"
        )
    shape = [int.from_bytes(data[i : i + 4], "big") for i in range(4, header, 4)]
    if len(data) != header + math.prod(shape):
        raise OnebitError(
            f"{path}: announces {shape} but holds {len(data) - header:,} bytes; it is cut short, fetch it again"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)


def mnist(images: Path, labels: Path) -> Arrays:
    """A pair of IDX files."""
    x, y = idx(images, 3), idx(labels, 1).astype(np.int64)
    if len(x) != len(y):
        raise OnebitError(f"{images}: has {len(x):,} images but {labels.name} {len(y):,} labels; fetch both again")
    check_labels(y, 10, labels)
    return Arrays(x[:, None], y)


def svhn(paths: Iterable[Path]) -> Arrays:
    """SVHN's cropped .mat files: X [32, 32, 3, N] uint8, y [N, 1] with 10 for the digit 0."""
    images, labels = [], []
    for path in paths:
        content = _mat(path)
        x, y = content.get("X"), content.get("y")
        if (
            x is None
            or y is None
            or x.ndim != 4
            or x.shape[:3] != (32, 32, 3)
            or x.dtype != np.uint8
            or y.size != x.shape[3]
        ):
            raise OnebitError(f"{path}: is not SVHN's cropped format (X 32x32x3xN uint8 and y); fetch it again")
        own = y.reshape(-1).astype(np.int64)
        own[own == 10] = 0
        check_labels(own, 10, path)
        images.append(np.ascontiguousarray(x.transpose(3, 2, 0, 1)))
        labels.append(own)
    return Arrays(np.concatenate(images), np.concatenate(labels))


def _mat(path: Path) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError:
        raise OnebitError(f"{path}: reading .mat files needs scipy: pip install 'onebit[import]'") from None
    if not path.exists():
        raise OnebitError(f"{path}: is missing; `onebit data fetch svhn` gets it")
    try:
        content: dict[str, Any] = loadmat(path, variable_names=["X", "y"])
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise OnebitError(f"{path}: is not a readable .mat file ({error}); fetch it again") from error
    return content


def imagenet32(paths: Iterable[Path], classes: int = 1000) -> Arrays:
    """ImageNet32's npz files: data [N, 3072] uint8 (R, G, B planes) and labels 1..1000."""
    images, labels = [], []
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as file:
                x, y = file["data"], np.asarray(file["labels"]).reshape(-1).astype(np.int64) - 1
        except FileNotFoundError:
            raise OnebitError(
                f"{path}: is missing; download ImageNet32 (npz) from image-net.org and put it there"
            ) from None
        except (OSError, ValueError, KeyError, EOFError, zlib.error) as error:
            raise OnebitError(f"{path}: is not ImageNet32's npz format ({error}); download it again") from error
        if x.dtype != np.uint8 or x.ndim != 2 or x.shape != (len(y), CIFAR_PIXELS):
            raise OnebitError(
                f"{path}: data is {x.dtype} {x.shape}, expected uint8 ({len(y)}, {CIFAR_PIXELS}); download it again"
            )
        check_labels(y, classes, path)
        images.append(x.reshape(-1, 3, 32, 32))
        labels.append(y)
    return Arrays(np.concatenate(images), np.concatenate(labels))


def digits() -> tuple[Arrays, Arrays]:
    """(train, test) of the digits inside the package; pixels 0..16 become 0..255. The split is stored in the file."""
    from importlib import resources

    with (
        resources.files("onebit.data").joinpath("digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as content,
    ):
        images, labels, test = content["images"], content["labels"].astype(np.int64), content["test"]
    every = Arrays((images.astype(np.uint16) * 255 // 16).astype(np.uint8)[:, None], labels)
    mask = np.zeros(len(every), dtype=bool)
    mask[test] = True
    return every.take(np.flatnonzero(~mask)), every.take(np.flatnonzero(mask))
