"""Readers against files written here from the published formats, and damaged or hostile versions of them."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onebit.data import catalog, readers
from onebit.data.dataset import Arrays
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
    grey = catalog.load("cifar10", tmp_path, grey=True)
    assert grey.channels == 1 and isinstance(grey.test, Arrays) and grey.test.images.shape == (20, 1, 32, 32)


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


def imagenet32_file(path: Path, n: int, start: int = 0) -> np.ndarray:
    x = random.integers(0, 256, (n, 3072), dtype=np.uint8)
    np.savez(path, data=x, labels=(np.arange(start, start + n) % 1000 + 1).tolist(), mean=x.mean(0))
    return x


def member(name: str, header: bytes, body: bytes = b"", version: bytes = b"\x01\x00") -> tuple[str, bytes]:
    """An array of an .npz file with a header of our choice."""
    return f"{name}.npy", b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + body


def problem(path: Path) -> str:
    with pytest.raises(OnebitError) as caught:
        readers.imagenet32([path])
    assert path.name in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_imagenet32_needs_its_pictures_in_memory_once(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.npz" for i in range(4)]
    x = np.concatenate([imagenet32_file(path, 1000, 1000 * i) for i, path in enumerate(paths)])
    tracemalloc.start()
    try:
        got = readers.imagenet32(paths)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(got.images.reshape(-1, 3072), x) and got.labels.tolist() == list(range(1000)) * 4
    assert got.images.flags.writeable and peak < 1.3 * x.nbytes


def test_imagenet32_in_other_layouts(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    x = random.integers(0, 256, (5, 3072), dtype=np.uint8)
    np.savez_compressed(path, data=np.asfortranarray(x), labels=np.arange(1, 6, dtype=">i2")[:, None])
    got = readers.imagenet32([path])
    assert np.array_equal(got.images.reshape(5, -1), x) and got.labels.tolist() == [0, 1, 2, 3, 4]


GOOD = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 3072), }\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (member("data", GOOD.replace(b"1,", b"9" * 12 + b","), bytes(3072)), "instead of"),
        (member("data", GOOD, bytes(3071)), "cut short"),
        (member("data", GOOD, bytes(3073)), "longer"),
        (member("data", GOOD.replace(b"|u1", b"|O"), bytes(3072)), "object"),
        (member("data", GOOD.replace(b"(1, 3072)", b"__import__('os')"), bytes(3072)), "npz"),
        (member("data", GOOD, bytes(3072), version=b"\x09\x00"), "npz"),
        (("data", bytes(3072)), "npz"),
    ],
)
def test_hostile_npz_data(tmp_path: Path, data: tuple[str, bytes], words: str) -> None:
    labels = member("labels", b"{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }\n", struct.pack("<q", 1))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(*labels)
        archive.writestr(*data)
    assert words in problem(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [b"(10000000000000,)", b"(-4,)", b"(4, 'x')"])
def test_announced_sizes_are_checked_before_allocation(tmp_path: Path, shape: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(*member("labels", b"{'descr': '<i8', 'fortran_order': False, 'shape': " + shape + b", }\n"))
    tracemalloc.start()
    try:
        problem(tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("unpickled"),))


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Bomb()))
    assert (tmp_path / "unpickled").exists()  # the bomb works
    (tmp_path / "unpickled").unlink()
    hostile = np.empty(1, object)
    hostile[0] = Bomb()
    np.savez(tmp_path / "a.npz", data=np.zeros((1, 3072), np.uint8), labels=hostile, allow_pickle=True)
    assert "object" in problem(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", data=hostile, labels=np.ones(1, int), allow_pickle=True)
    problem(tmp_path / "a.npz")
    for name in ("train", "extra", "test"):
        (tmp_path / "svhn").mkdir(exist_ok=True)
        (tmp_path / "svhn" / f"{name}_32x32.mat").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(OnebitError, match="header is not that of"):
        catalog.load("svhn", tmp_path)
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"X": np.zeros((32, 32, 3, 2), np.uint8)}, "cropped format"),
        ({"y": np.ones(2)}, "cropped format"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint16), "y": np.ones(2)}, "cropped format"),
        ({"X": np.zeros((32, 32, 2), np.uint8), "y": np.ones(2)}, "cropped format"),
        ({"X": np.zeros((31, 32, 3, 2), np.uint8), "y": np.ones(2)}, "cropped format"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones(3)}, "cropped format"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array(["a", "b"], object)}, "cropped format"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": {"a": 1}}, "cropped format"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([1, 11])}, "label 11"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([1, 1.5])}, r"label 1\.5"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([1, np.nan])}, "label nan"),
    ],
)
def test_mat_files_of_another_kind(tmp_path: Path, content: dict[str, object], words: str) -> None:
    pytest.importorskip("scipy.io").savemat(tmp_path / "a.mat", content)
    with pytest.raises(OnebitError, match=words) as caught:
        readers.svhn([tmp_path / "a.mat"])
    assert "a.mat" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("last", ["X", "y"])
def test_checksums_of_mat_files_are_looked_at(tmp_path: Path, last: str) -> None:
    content = {"X": random.integers(0, 256, (32, 32, 3, 9), dtype=np.uint8), "y": np.arange(1, 10, dtype=np.uint8)}
    content[last] = content.pop(last)
    path = tmp_path / "a.mat"
    pytest.importorskip("scipy.io").savemat(path, content, do_compression=True)
    assert readers.svhn([path]).labels.tolist() == list(range(1, 10))
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    with pytest.raises(OnebitError, match="incorrect data check"):
        readers.svhn([path])


def test_gz_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(struct.pack(">II", 2049, 10_000_000) + bytes(10_000_000)))
    assert len(readers.idx(tmp_path / "x", 1)) == 10_000_000
    monkeypatch.setattr(readers, "LARGEST", 10_000)
    tracemalloc.start()
    try:
        with pytest.raises(OnebitError, match="more than 10,000 bytes"):
            readers.idx(tmp_path / "x", 1)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_mnist_of_another_size_or_number_is_refused(tmp_path: Path) -> None:
    def write(images: tuple[int, int, int], labels: bytes) -> tuple[Path, Path]:
        (tmp_path / "x").write_bytes(struct.pack(">IIII", 2051, *images) + bytes(int(np.prod(images))))
        (tmp_path / "y").write_bytes(struct.pack(">II", 2049, len(labels)) + labels)
        return tmp_path / "x", tmp_path / "y"

    assert readers.mnist(*write((2, 28, 28), b"\x00\x09")).labels.tolist() == [0, 9]
    for images, labels, words in (
        ((2, 27, 28), b"\x00\x09", "27x28"),
        ((3, 28, 28), b"\x00\x09", "fetch both"),
        ((2, 28, 28), b"\x00\x0a", "label 10"),
    ):
        with pytest.raises(OnebitError, match=words):
            readers.mnist(*write(images, labels))


def test_class_names_are_counted(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    (tmp_path / "cifar-10-batches-bin" / "batches.meta.txt").write_text("a\nb\n")
    with pytest.raises(OnebitError, match="names 2 classes, expected 10"):
        catalog.load("cifar10", tmp_path)


def test_cifar100_takes_the_fine_label(tmp_path: Path) -> None:
    rows = random.integers(0, 256, (4, 3074), dtype=np.uint8)
    rows[:, 0], rows[:, 1] = [19, 0, 1, 2], [99, 98, 0, 1]
    at = tmp_path / "cifar-100-binary"
    at.mkdir()
    for half in ("train", "test"):
        (at / f"{half}.bin").write_bytes(rows.tobytes())
    (at / "fine_label_names.txt").write_text("\n".join(f"c{i}" for i in range(100)))
    d = catalog.load("cifar100", tmp_path)
    assert isinstance(d.train, Arrays) and d.train.labels.tolist() == [99, 98, 0, 1]
    assert np.array_equal(d.train.images.reshape(4, -1), rows[:, 2:])


CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4)
KEPT = st.one_of(st.just(1.0), st.floats(0, 1))
FORMATS = ["cifar", "idx", "idx.gz", "npz", "npz.deflated", "mat", "mat.deflated"]


@pytest.fixture(scope="module")
def good_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Two pictures in every format."""
    root, generator = tmp_path_factory.mktemp("good"), np.random.default_rng(1)
    x = generator.integers(0, 256, (2, 3072), dtype=np.uint8)
    np.savez(root / "npz", data=x, labels=[1, 2])
    np.savez_compressed(root / "npz.deflated", data=x, labels=[1, 2])
    scipy_io = pytest.importorskip("scipy.io")
    mat = {"X": x.reshape(2, 3, 32, 32).transpose(2, 3, 1, 0), "y": np.array([[1], [10]], np.uint8)}
    scipy_io.savemat(root / "mat", mat, appendmat=False)
    scipy_io.savemat(root / "mat.deflated", mat, appendmat=False, do_compression=True)
    idx = struct.pack(">IIII", 2051, 2, 28, 28) + x[:, :784].tobytes()
    files = {"idx": idx, "idx.gz": gzip.compress(idx), "cifar": b"".join(bytes([i]) + x[i].tobytes() for i in range(2))}
    read = {n: (root / f).read_bytes() for n, f in (("npz", "npz.npz"), ("npz.deflated", "npz.deflated.npz"))}
    return files | read | {n: (root / n).read_bytes() for n in ("mat", "mat.deflated")}


@pytest.mark.parametrize("kind", FORMATS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(changes=CHANGES, kept=KEPT)
def test_corrupt_files_give_one_line_or_the_right_shape(
    kind: str,
    changes: list[tuple[float, int]],
    kept: float,
    good_files: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    body = bytearray(good_files[kind])
    for place, value in changes:
        body[int(place * len(body))] = value
    path = tmp_path_factory.getbasetemp() / f"corrupt.{kind}"
    path.write_bytes(body[: int(kept * len(body))])
    try:
        if kind.startswith("idx"):
            image_set = Arrays(readers.idx(path, 3)[:, None], np.zeros(2, np.int64))
        else:
            reader = {"cifar": lambda p: readers.cifar(p, 10), "npz": readers.imagenet32, "mat": readers.svhn}
            image_set = reader[kind.partition(".")[0]]([path])
    except OnebitError as error:
        assert "\n" not in str(error) and path.name in str(error)
        return
    count = 1 if kind == "cifar" and len(image_set) == 1 else 2  # a whole record: only the catalog knows how many
    assert image_set.images.shape == ((2, 1, 28, 28) if kind.startswith("idx") else (count, 3, 32, 32))
    assert image_set.images.dtype == np.uint8 and image_set.labels.shape == (count,)
    if kind.endswith(("gz", "deflated")) or kind == "npz":  # these carry checksums
        assert np.array_equal(image_set.images, original(kind, good_files))


def original(kind: str, good_files: dict[str, bytes]) -> np.ndarray:
    if kind == "idx.gz":
        return np.frombuffer(good_files["idx"], np.uint8, offset=16).reshape(2, 1, 28, 28)
    return np.frombuffer(good_files["cifar"], np.uint8).reshape(2, -1)[:, 1:].reshape(2, 3, 32, 32)
