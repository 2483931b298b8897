"""The data sets by name: what they are, where their files go, how they are read. No torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onebit.data import folder, readers
from onebit.data.dataset import Arrays, DataSet
from onebit.errors import OnebitError, nearest, reason


@dataclass(frozen=True)
class Entry:
    """One data set: `get` says to people how its files come to ROOT, `counts` how many pictures are published."""

    title: str
    read: Callable[[Path, int, bool, bool], DataSet]  # root, size, grey, extra
    get: str
    counts: tuple[int, int] | None = None  # train, test; None: whatever is there


DIGITS = tuple("0123456789")
SVHN_EXTRA = 531_131


def _digits(root: Path, size: int, grey: bool, extra: bool) -> DataSet:
    return DataSet("digits", DIGITS, 1, 8, *readers.digits())


def _mnist(root: Path, size: int, grey: bool, extra: bool) -> DataSet:
    at = root / "mnist"
    halves = [
        readers.mnist(at / f"{half}-images-idx3-ubyte", at / f"{half}-labels-idx1-ubyte") for half in ("train", "t10k")
    ]
    return DataSet("mnist", DIGITS, 1, 28, *halves)


def _cifar10(root: Path, size: int, grey: bool, extra: bool) -> DataSet:
    at = root / "cifar-10-batches-bin"
    train = readers.cifar([at / f"data_batch_{i}.bin" for i in range(1, 6)], 10)
    return DataSet(
        "cifar10", readers.names(at / "batches.meta.txt", 10), 3, 32, train, readers.cifar([at / "test_batch.bin"], 10)
    )


def _cifar100(root: Path, size: int, grey: bool, extra: bool) -> DataSet:
    at = root / "cifar-100-binary"
    halves = [readers.cifar([at / f"{half}.bin"], 100, label_bytes=2) for half in ("train", "test")]
    return DataSet("cifar100", readers.names(at / "fine_label_names.txt", 100), 3, 32, *halves)


def _svhn(root: Path, size: int, grey: bool, extra: bool) -> DataSet:
    at = root / "svhn"
    train = readers.svhn([at / f"{part}_32x32.mat" for part in (("train", "extra") if extra else ("train",))])
    return DataSet("svhn", DIGITS, 3, 32, train, readers.svhn([at / "test_32x32.mat"]))


def _imagenet32(root: Path, size: int, grey: bool, extra: bool) -> DataSet:
    at = root / "imagenet32"
    train = readers.imagenet32([at / f"train_data_batch_{i}.npz" for i in range(1, 11)])
    return DataSet("imagenet32", tuple(map(str, range(1000))), 3, 32, train, readers.imagenet32([at / "val_data.npz"]))


def _imagenet(root: Path, size: int, grey: bool, extra: bool) -> DataSet:
    at = root / "imagenet"
    if not at.is_dir():
        raise OnebitError(f"{at}: is no folder; data set imagenet needs {ENTRIES['imagenet'].get}")
    # Its published test pictures have no labels: only val can be tested on.
    return folder.load(at, size=size or 224, channels=1 if grey else 3, name="imagenet", halves=("val",))


def _folder(root: Path, size: int, grey: bool, extra: bool) -> DataSet:
    return folder.load(root, size=size, channels=1 if grey else 3)


ENTRIES: dict[str, Entry] = {
    "digits": Entry("1,797 handwritten digits, 8x8 grey, inside the package", _digits, "nothing: it is in the package"),
    "mnist": Entry(
        "MNIST: 60,000 + 10,000 handwritten digits, 28x28 grey", _mnist,
        "the four IDX files, plain or .gz, in ROOT/mnist", (60_000, 10_000),
    ),
    "cifar10": Entry(
        "CIFAR-10: 50,000 + 10,000 pictures, 32x32 colour, 10 classes", _cifar10,
        "the binary version, unpacked, in ROOT/cifar-10-batches-bin", (50_000, 10_000),
    ),
    "cifar100": Entry(
        "CIFAR-100: 50,000 + 10,000 pictures, 32x32 colour, 100 classes", _cifar100,
        "the binary version, unpacked, in ROOT/cifar-100-binary", (50_000, 10_000),
    ),
    "svhn": Entry(
        "SVHN: 604,388 + 26,032 house-number digits, 32x32 colour", _svhn,
        "the cropped files train_32x32.mat, extra_32x32.mat and test_32x32.mat in ROOT/svhn", (604_388, 26_032),
    ),
    "imagenet32": Entry(
        "ImageNet32: 1,281,167 + 50,000 pictures, 32x32 colour, 1000 classes", _imagenet32,
        "train_data_batch_1..10.npz and val_data.npz in ROOT/imagenet32 (image-net.org, after a login)",
        (1_281_167, 50_000),
    ),
    "imagenet": Entry(
        "ImageNet (ILSVRC 2012): 1,281,167 + 50,000 photographs, 1000 classes", _imagenet,
        "class folders in ROOT/imagenet/train and ROOT/imagenet/val (image-net.org, after a login)",
    ),
    "folder": Entry("your own pictures: one folder a class", _folder, "a folder that holds one folder of pictures a class"),
}  # fmt: skip


def load(
    name: str, root: str | Path | None = None, *, size: int = 0, grey: bool = False, extra: bool = True
) -> DataSet:
    """Read data set `name` below `root` (None: the folder in the environment variable ONEBIT_DATA).

    `size` (pixels; 0: 224 for imagenet) is for photographs: imagenet, and folder, where `root` is the folder of class
    folders itself; the other sets have their own. `grey` makes one channel of three. `extra` is for SVHN: train on its
    extra pictures too, as the paper does.

    Raises OnebitError: unknown name, no folder given, files missing, damaged or too few.

    >>> d = load("digits")
    >>> len(d.train), len(d.test), d.train.images.shape[1:]
    (1437, 360, (1, 8, 8))
    """
    entry = ENTRIES.get(name)
    if entry is None:
        raise OnebitError(
            f"data set {name!r} is unknown, and no folder of that name is there: {nearest(name, ENTRIES)}"
        )
    if root is None and name not in ("digits", "folder"):
        root = os.environ.get("ONEBIT_DATA") or None
    root = None if root is None else Path(root)
    if root is None and name != "digits":
        where = "" if name == "folder" else ", or set ONEBIT_DATA to ROOT"
        raise OnebitError(
            f"data set {name}: say where it is with --data (data show: --root){where}; it needs {entry.get}"
        )
    try:
        if name != "digits" and root is not None and not root.is_dir():
            raise OnebitError(f"{root}: is no folder; data set {name} needs {entry.get}")
        dataset = entry.read(root or Path(), size, grey, extra)
    except OSError as error:  # a folder that may not be entered, a name that is too long, a disk that fails
        raise OnebitError(
            f"{error.filename or root}: cannot be read ({reason(error)}); check its permissions"
        ) from error
    except MemoryError:
        raise OnebitError(
            f"data set {name}: does not fit into the memory of this machine; free some, or use another"
        ) from None
    if entry.counts is not None:
        train, test = entry.counts
        train -= SVHN_EXTRA if name == "svhn" and not extra else 0
        if (len(dataset.train), len(dataset.test)) != (train, test):
            raise OnebitError(
                f"{root}: data set {name} has {len(dataset.train):,} training and {len(dataset.test):,} test pictures, "
                f"published are {train:,} and {test:,}; a file is cut short or left over, fetch the set again"
            )
    if grey and isinstance(dataset.train, Arrays) and isinstance(dataset.test, Arrays):
        return dataclasses.replace(dataset, channels=1, train=dataset.train.grey(), test=dataset.test.grey())
    return dataset
