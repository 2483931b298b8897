"""Sets by name: what is said when something is missing, and the published sets against published facts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onebit.data import catalog
from onebit.data.dataset import Arrays, DataSet
from onebit.errors import OnebitError


def problem(name: str, root: Path | None = None) -> str:
    with pytest.raises(OnebitError) as caught:
        catalog.load(name, root, size=8)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_root_is_the_argument_or_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEBIT_DATA", raising=False)
    assert "--data" in problem("mnist") and "ONEBIT_DATA" in problem("mnist")
    assert "--data" in problem("folder") and "ONEBIT_DATA" not in problem("folder")
    monkeypatch.setenv("ONEBIT_DATA", str(tmp_path / "variable"))
    assert f"{tmp_path / 'variable'}: is no folder" in problem("cifar10")
    assert f"{tmp_path / 'argument'}: is no folder" in problem("cifar10", tmp_path / "argument")
    assert problem("cifar10", str(tmp_path / "text")) == problem("cifar10", tmp_path / "text")  # type: ignore[arg-type]
    assert "--data" in problem("folder")  # the variable names the place of the sets, not of the user's pictures
    assert len(catalog.load("digits").test) == 360


@pytest.mark.parametrize("name", sorted(set(catalog.ENTRIES) - {"digits", "folder"}))
def test_missing_files_are_named(name: str, tmp_path: Path) -> None:
    said = problem(name, tmp_path)
    assert str(tmp_path) in said and ("is missing; `onebit data list`" in said or "ROOT/imagenet/train" in said)


def test_a_root_that_cannot_be_looked_at_is_one_line(tmp_path: Path) -> None:
    assert "cannot be read (File name too long)" in problem("mnist", tmp_path / ("x" * 300))


def test_too_little_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> DataSet:
        raise MemoryError

    monkeypatch.setitem(catalog.ENTRIES, "svhn", catalog.Entry("", read, ""))
    assert "memory" in problem("svhn", tmp_path)


@pytest.mark.parametrize(("extra", "train"), [(True, 604_388), (False, 73_257)])
def test_sets_cut_short_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: bool, train: int) -> None:
    """SVHN: 73,257 training, 531,131 extra and 26,032 test digits, says its page."""
    sizes = {"train": train, "test": 26_032}

    def read(*_: object) -> DataSet:
        halves = [Arrays(np.zeros((n, 1, 1, 1), np.uint8), np.zeros(n, np.int64)) for n in sizes.values()]
        return DataSet("svhn", tuple("0123456789"), 1, 1, *halves)

    entry = catalog.ENTRIES["svhn"]
    monkeypatch.setitem(catalog.ENTRIES, "svhn", catalog.Entry(entry.title, read, entry.get, entry.counts))
    assert len(catalog.load("svhn", tmp_path, extra=extra).train) == train
    for half in sizes:
        sizes[half] -= 1
        with pytest.raises(OnebitError, match="cut short"):
            catalog.load("svhn", tmp_path, extra=extra)
        sizes[half] += 1


def test_reading_needs_no_torch() -> None:
    code = "import sys; from onebit.data import catalog, fetch, sheet; catalog.load('digits'); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def real(name: str, root: Path) -> tuple[DataSet, Arrays, Arrays]:
    try:
        d = catalog.load(name, root)
    except OnebitError as error:
        if "missing" not in str(error) and "is no folder" not in str(error):
            raise
        pytest.skip(f"ONEBIT_DATA holds no {name}")
    assert isinstance(d.train, Arrays) and isinstance(d.test, Arrays)
    for part in (d.train, d.test):
        assert part.images.shape[1:] == (d.channels, d.size, d.size) and part.images.dtype == np.uint8
        assert part.labels.dtype == np.int64 and len(part.images) == len(part.labels)
    return d, d.train, d.test


@pytest.mark.data
def test_real_cifar10(data_root: Path) -> None:
    d, train, test = real("cifar10", data_root)
    assert d.classes[:2] == ("airplane", "automobile") and d.classes[9] == "truck"
    assert np.bincount(train.labels).tolist() == [5000] * 10 and np.bincount(test.labels).tolist() == [1000] * 10
    assert train.labels[:5].tolist() == [6, 9, 9, 4, 1] and test.labels[:5].tolist() == [3, 8, 8, 0, 6]
    # The means of R, G, B that everybody normalises with
    assert np.abs(train.images.mean((0, 2, 3)) / 255 - [0.4914, 0.4822, 0.4465]).max() < 1e-4


@pytest.mark.data
def test_real_cifar100(data_root: Path) -> None:
    d, train, test = real("cifar100", data_root)
    assert (d.classes[0], d.classes[99]) == ("apple", "worm")
    assert np.bincount(train.labels).tolist() == [500] * 100 and np.bincount(test.labels).tolist() == [100] * 100
    assert np.abs(train.images.mean((0, 2, 3)) / 255 - [0.5071, 0.4865, 0.4409]).max() < 1e-4


@pytest.mark.data
def test_real_mnist(data_root: Path) -> None:
    _, train, test = real("mnist", data_root)
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.labels[:6].tolist() == [5, 0, 4, 1, 9, 2] and test.labels[:4].tolist() == [7, 2, 1, 0]
    assert abs(train.images.mean() / 255 - 0.1307) < 1e-4


@pytest.mark.data
def test_real_svhn(data_root: Path) -> None:
    _, train, test = real("svhn", data_root)
    assert np.bincount(test.labels).tolist() == [1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595]
    assert (len(train), len(test)) == (604_388, 26_032)
