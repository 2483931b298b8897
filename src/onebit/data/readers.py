"""Readers of the published file formats: one function a format, each file checked before it is believed. No pickle."""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.data import matfile
from onebit.data.dataset import Arrays
from onebit.errors import OnebitError, reason

PIXELS = 3 * 32 * 32
LARGEST = 1 << 30  # what a .gz may unpack to, in bytes: MNIST's largest file has 47 million
DEFLATE = 1032  # no deflated stream holds more than this many times its own size
CHUNK = 1 << 20


def cifar(paths: Iterable[Path], classes: int, label_bytes: int = 1) -> Arrays:
    """CIFAR's binary version: records of `label_bytes` labels (the last one counts) and 3072 pixels, R, G, B planes.

    Returns images uint8 [N, 3, 32, 32] and labels int64 [N], file after file. Raises OnebitError: a file is missing,
    cut short, or holds a label beyond `classes`.
    """
    images, labels = [], []
    record = label_bytes + PIXELS
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
    """Class names, one a line. Raises OnebitError unless there are `count`."""
    found = tuple(line.strip() for line in _bytes(path).decode("utf-8", "replace").splitlines() if line.strip())
    if len(found) != count:
        raise OnebitError(f"{path}: names {len(found)} classes, expected {count}; fetch the set again")
    return found


def idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """One IDX file of unsigned bytes (MNIST): magic number, big-endian sizes, data. Plain or .gz, whichever exists.

    Returns uint8 of the announced shape, read-only. Raises OnebitError: missing, of another type, or of another length
    than announced.
    """
    packed = path.with_name(path.name + ".gz")
    path = packed if packed.exists() and not path.exists() else path
    data = _bytes(path)
    header = 4 + 4 * dimensions
    if len(data) < header or data[:4] != bytes([0, 0, 8, dimensions]):
        raise OnebitError(
            f"{path}: begins with {data[:4].hex()}, not the IDX magic 0000080{dimensions}; fetch it again"
        )
    shape = [int.from_bytes(data[i : i + 4], "big") for i in range(4, header, 4)]
    if len(data) != header + math.prod(shape):
        raise OnebitError(
            f"{path}: announces {shape} but holds {len(data) - header:,} bytes; it is damaged, fetch it again"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)


def mnist(images: Path, labels: Path) -> Arrays:
    """A pair of IDX files: images uint8 [N, 1, 28, 28], labels int64 [N]. Raises OnebitError where they do not fit."""
    x, y = idx(images, 3), idx(labels, 1).astype(np.int64)
    if x.shape[1:] != (28, 28):
        raise OnebitError(f"{images}: holds images of {x.shape[1]}x{x.shape[2]}, expected 28x28; fetch it again")
    if len(x) != len(y):
        raise OnebitError(f"{images}: has {len(x):,} images but {labels.name} {len(y):,} labels; fetch both again")
    check_labels(y, 10, labels)
    return Arrays(x[:, None], y)


def svhn(paths: Iterable[Path]) -> Arrays:
    """SVHN's cropped .mat files: X [32, 32, 3, N] uint8, y [N, 1] with 10 for the digit 0.

    Returns images uint8 [N, 3, 32, 32] and labels int64 [N], file after file. Raises OnebitError: a file is
    missing or has another format.
    """
    paths = list(paths)
    labels = [_svhn_labels(path) for path in paths]
    # Filled in place: train and extra are 1.9 GB, and joining parts would need them twice.
    images = np.empty((sum(map(len, labels)), 3, 32, 32), np.uint8)
    end = 0
    for path, own in zip(paths, labels, strict=True):
        start, end = end, end + len(own)
        _svhn_images(path, images[start:end])
    return Arrays(images, np.concatenate(labels))


def imagenet32(paths: Iterable[Path], classes: int = 1000) -> Arrays:
    """ImageNet32's npz files: data uint8 [N, 3072] (R, G, B planes) and labels 1..1000.

    Returns images uint8 [N, 3, 32, 32] and labels int64 [N], 0..999, file after file. Raises OnebitError: a file is
    missing or has another format.
    """
    paths = list(paths)
    labels = []
    for path in paths:
        own = _npz(path, "labels", "iu").reshape(-1).astype(np.int64) - 1
        check_labels(own, classes, path, first=1)
        labels.append(own)
    # Filled in place: the 1.28 million pictures are 3.9 GB, and joining parts would need them twice.
    images = np.empty((sum(map(len, labels)), PIXELS), np.uint8)
    end = 0
    for path, own in zip(paths, labels, strict=True):
        start, end = end, end + len(own)
        _npz(path, "data", "u", into=images[start:end])
    return Arrays(images.reshape(-1, 3, 32, 32), np.concatenate(labels))


def digits() -> tuple[Arrays, Arrays]:
    """(train, test) of the digits inside the package; pixels 0..16 become 0..255. The split is stored in the file.

    >>> train, test = digits()
    >>> train.images.shape, test.images.shape, test.images.dtype
    ((1437, 1, 8, 8), (360, 1, 8, 8), dtype('uint8'))
    """
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


def check_labels(labels: NDArray[Any], classes: int, path: Path, first: int = 0) -> None:
    """Raises OnebitError unless `labels` are whole numbers in 0..classes-1; the file counts them from `first`."""
    bad = labels[~((labels >= 0) & (labels < classes) & (labels == np.floor(labels)))]
    if len(bad):
        raise OnebitError(
            f"{path}: holds label {bad[0] + first}, expected {first} to {first + classes - 1}; it is damaged, fetch it again"
        )


def _missing(path: Path) -> OnebitError:
    return OnebitError(
        f"{path}: is missing; `onebit data list` says what belongs where, `onebit data fetch` downloads it"
    )


def _bytes(path: Path) -> bytes:
    """The file's bytes, unpacked when it is a .gz."""
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, EOFError, zlib.error) as error:
        raise OnebitError(f"{path}: cannot be read ({reason(error)}); fetch it again") from error
    if len(data) > LARGEST:
        raise OnebitError(
            f"{path}: unpacks to more than {LARGEST:,} bytes; it is not the published file, fetch it again"
        )
    return data


@contextmanager
def _svhn_variable(path: Path, name: str) -> Iterator[matfile.Variable]:
    """Variable `name` of a .mat file; whatever goes wrong with it becomes an OnebitError."""
    try:
        with closing(matfile.variables(path)) as every:
            found = next((v for v in every if v.name == name), None)
            # What a deflated file announces is believed as far as its size allows, before anything is allocated.
            if found is None or not 0 < math.prod(found.shape) * found.dtype.itemsize <= DEFLATE * path.stat().st_size:
                raise ValueError(f"no {name} of a possible size")
            yield found
            found.stream.finish()
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise OnebitError(
            f"{path}: is not SVHN's cropped format, X 32x32x3xN uint8 and y ({reason(error)}); fetch it again"
        ) from error


def _svhn_labels(path: Path) -> NDArray[np.int64]:
    with _svhn_variable(path, "y") as y:
        found = y.read(math.prod(y.shape))
    labels = np.where(found == 10, 0, found)
    check_labels(labels, 10, path)
    return labels.astype(np.int64)


def _svhn_images(path: Path, into: NDArray[np.uint8]) -> None:
    with _svhn_variable(path, "X") as x:
        if x.shape != (32, 32, 3, len(into)) or x.dtype != np.uint8:
            raise ValueError(f"X is {x.dtype} {x.shape}, y has {len(into):,} labels")
        for start in range(0, len(into), 1000):
            part = into[start : start + 1000]
            # Picture after picture, in each plane column after column
            part[:] = x.read(part.size).reshape(-1, 3, 32, 32).transpose(0, 1, 3, 2)


_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _npz(path: Path, name: str, kinds: str, into: NDArray[Any] | None = None) -> NDArray[Any]:
    """Array `name` of an .npz file, of a dtype out of `kinds`, written to `into` if given.

    ``numpy.load`` would allocate whatever a header announces, and cannot fill an array that is there already. Objects,
    that is pickles, are of no kind that anybody asks for.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            shape, fortran, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
            if dtype.kind not in kinds or (into is not None and (shape, dtype) != (into.shape, into.dtype)):
                expected = f"{into.dtype} {into.shape}" if into is not None else "whole numbers"
                raise ValueError(f"{name}: {dtype} {shape} instead of {expected}")
            if not 0 <= math.prod(shape) * dtype.itemsize <= DEFLATE * path.stat().st_size:
                raise ValueError(f"{name}: announces {shape}, more than the file can hold")
            array = np.empty(shape, dtype, order="F" if fortran else "C") if into is None or fortran else into
            room = array.reshape(-1, order="A").view(np.uint8)
            done = 0
            while done < len(room):
                read = file.readinto(room[done : done + CHUNK].data)  # type: ignore[attr-defined]
                if not read:
                    raise EOFError(f"{name}: cut short")
                done += read
            if file.read(1):  # also the end of the member, where zipfile compares its checksum
                raise ValueError(f"{name}: longer than announced")
            if into is not None and fortran:
                into[:] = array
            return array
    except FileNotFoundError:
        raise _missing(path) from None
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for a damaged file
        raise OnebitError(f"{path}: is not ImageNet32's npz format ({reason(error)}); download it again") from error
