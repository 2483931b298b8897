"""Readers against files written here from the published formats, and damaged versions of them."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from onebit.data import catalog, readers
from onebit.data.dataset import Arrays, DataSet, split_holdout, stratified
from onebit.errors import OnebitError

random = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def small_sets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published formats with fewer pictures than published; real data are counted as they are."""
    if "data_root" not in request.fixturenames:
        for name, entry in catalog.ENTRIES.items():
            monkeypatch.setitem(catalog.ENTRIES, name, dataclasses.replace(entry, counts=None))


def write_cifar(root: Path, n: int = 20) -> np.ndarray:
    at = root / "cifar-10-batches-bin"
    at.mkdir(parents=True)
    rows = random.integers(0, 256, (6, n, 3073), dtype=np.uint8)
    rows[:, :, 0] %= 10
    for i, part in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        (at / f"{part}.bin").write_bytes(rows[i].tobytes())
    (at / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    return rows


def test_cifar10(tmp_path: Path) -> None:
    rows = write_cifar(tmp_path)
    d = catalog.load("cifar10", tmp_path)
    assert isinstance(d.train, Arrays) and isinstance(d.test, Arrays)
    assert d.classes == tuple("abcdefghij") and len(d.train) == 100 and len(d.test) == 20
    assert d.train.labels[21] == rows[1, 1, 0]
    # byte 1 + 1024 c + 32 y + x of a record is pixel (y, x) of plane c
    assert d.train.images[21, 2, 5, 7] == rows[1, 1, 1 + 2048 + 5 * 32 + 7]


def test_cifar_damage(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    with pytest.raises(OnebitError, match=r"data_batch_3.*cut short"):
        catalog.load("cifar10", tmp_path)
    path.write_bytes(b"\x0a" + good[1:])
    with pytest.raises(OnebitError, match="label 10"):
        catalog.load("cifar10", tmp_path)
    path.unlink()
    with pytest.raises(OnebitError, match="missing"):
        catalog.load("cifar10", tmp_path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist(tmp_path: Path, suffix: str) -> None:
    x, y = random.integers(0, 256, (7, 28, 28), dtype=np.uint8), np.arange(7, dtype=np.uint8)
    at = tmp_path / "mnist"
    at.mkdir()
    for half in ("train", "t10k"):
        files = {f"{half}-images-idx3-ubyte": struct.pack(">IIII", 2051, 7, 28, 28) + x.tobytes()}
        files[f"{half}-labels-idx1-ubyte"] = struct.pack(">II", 2049, 7) + y.tobytes()
        for name, body in files.items():
            (at / (name + suffix)).write_bytes(gzip.compress(body) if suffix else body)
    d = catalog.load("mnist", tmp_path)
    assert isinstance(d.train, Arrays)
    assert np.array_equal(d.train.images[:, 0], x) and d.train.labels.tolist() == list(range(7))
    damaged = at / f"t10k-images-idx3-ubyte{suffix}"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(OnebitError, match="t10k-images"):
        catalog.load("mnist", tmp_path)


def test_idx_of_another_type_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(struct.pack(">IIII", 2052, 1, 1, 1) + b"0")
    with pytest.raises(OnebitError, match="magic"):
        readers.idx(tmp_path / "x", 3)


def test_svhn(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    (tmp_path / "svhn").mkdir()
    x = random.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    for part in ("train", "extra", "test"):
        scipy_io.savemat(tmp_path / "svhn" / f"{part}_32x32.mat", {"X": x, "y": np.array([[10], [1], [2], [9]])})
    d = catalog.load("svhn", tmp_path)
    assert isinstance(d.train, Arrays)
    assert len(d.train) == 8 and d.train.labels[:4].tolist() == [0, 1, 2, 9]
    assert d.train.images[1, 2, 3, 4] == x[3, 4, 2, 1]
    assert len(catalog.load("svhn", tmp_path, extra=False).train) == 4
    (tmp_path / "svhn" / "test_32x32.mat").write_bytes(b"nonsense")
    with pytest.raises(OnebitError, match="test_32x32"):
        catalog.load("svhn", tmp_path)


def test_imagenet32_and_no_pickles(tmp_path: Path) -> None:
    at = tmp_path / "imagenet32"
    at.mkdir()
    x = random.integers(0, 256, (3, 3072), dtype=np.uint8)
    for name in [*(f"train_data_batch_{i}" for i in range(1, 11)), "val_data"]:
        np.savez(at / f"{name}.npz", data=x, labels=np.array([1, 500, 1000]))
    d = catalog.load("imagenet32", tmp_path)
    assert len(d.train) == 30 and d.train.labels[:3].tolist() == [0, 499, 999]
    np.savez(at / "val_data.npz", data=x, labels=np.array([1, "a", None], dtype=object))
    with pytest.raises(OnebitError, match="val_data"):
        catalog.load("imagenet32", tmp_path)


def test_digits_split_is_stored_and_stratified() -> None:
    d = catalog.load("digits")
    assert isinstance(d.test, Arrays) and isinstance(d.train, Arrays)
    assert (len(d.train), len(d.test)) == (1437, 360)
    assert np.bincount(d.test.labels).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]  # largest remainder, by hand
    assert d.train.images.max() == 255 and d.train.images.min() == 0
    assert hashlib.sha256(d.test.images.tobytes()).hexdigest().startswith(DIGITS_TEST_SHA256)


DIGITS_TEST_SHA256 = "e25b92565fbac96d"


def test_holdout_is_stratified_and_disjoint() -> None:
    labels = np.repeat(np.arange(4), [10, 20, 30, 40])
    every = Arrays(np.arange(100, dtype=np.uint8)[:, None, None, None], labels)
    d = DataSet("x", tuple("abcd"), 1, 1, every, every)
    small, held = split_holdout(d, 10, seed=3)
    assert (
        np.bincount(held.labels).tolist() == [1, 2, 3, 4]
        and isinstance(small.train, Arrays)
        and isinstance(held, Arrays)
    )
    together = np.concatenate([small.train.images, held.images]).ravel()
    assert sorted(together.tolist()) == list(range(100))
    assert not np.array_equal(stratified(labels, 10, 0), stratified(labels, 10, 1))


def test_real_sets_have_their_published_counts(data_root: Path) -> None:
    found = 0
    for name, counts in {"cifar10": (50000, 10000), "cifar100": (50000, 10000), "mnist": (60000, 10000)}.items():
        try:
            d = catalog.load(name, data_root)
        except OnebitError:
            continue
        found += 1
        assert (len(d.train), len(d.test)) == counts
        if name != "mnist":
            assert len(set(np.bincount(d.train.labels))) == 1
    if not found:
        pytest.skip("ONEBIT_DATA holds none of CIFAR-10, CIFAR-100, MNIST")
