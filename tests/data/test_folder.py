"""Folders of class folders: which pictures belong to which class and half, and what is said about odd ones."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from onebit.data import catalog, folder
from onebit.data.dataset import Files
from onebit.errors import OnebitError


def pictures(root: Path, counts: dict[str, int], suffix: str = "png") -> None:
    for name, n in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            Image.new("RGB", (4, 3), (i, 0, 0)).save(root / name / f"{i}.{suffix}")


def files(root: Path, size: int = 8) -> tuple[Files, Files]:
    d = folder.load(root, size=size)
    assert isinstance(d.train, Files) and isinstance(d.test, Files)
    return d.train, d.test


def problem(root: Path) -> str:
    with pytest.raises(OnebitError) as caught:
        folder.load(root, size=8)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_split_is_drawn_once_and_stored(tmp_path: Path) -> None:
    pictures(tmp_path, {"cat": 10, "dog": 20})
    train, test = files(tmp_path)
    assert np.bincount(test.labels).tolist() == [2, 4] and not set(train.paths) & set(test.paths)
    stored = json.loads((tmp_path / "onebit-split.json").read_text())["test"]
    assert sorted(stored) == sorted(p.relative_to(tmp_path).as_posix() for p in test.paths)
    pictures(tmp_path / "cat", {"new": 1})  # what comes later trains
    later_train, later_test = files(tmp_path)
    assert later_test.paths == test.paths and len(later_train) == len(train) + 1
    test.paths[0].unlink()
    assert "is gone" in problem(tmp_path)


def test_split_does_not_depend_on_the_order_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path, {"b": 7, "a": 9, "c": 5})
    _, first = files(tmp_path)
    (tmp_path / "onebit-split.json").unlink()
    scandir = os.scandir

    class Backwards:
        def __init__(self, path: str) -> None:
            with scandir(path) as entries:
                self.entries = sorted(entries, key=lambda e: e.name)

        def __enter__(self) -> Backwards:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def __next__(self) -> os.DirEntry[str]:
            if not self.entries:
                raise StopIteration
            return self.entries.pop()

    monkeypatch.setattr(os, "scandir", Backwards)
    _, again = files(tmp_path)
    assert again.paths == first.paths


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.integers(2, 40), min_size=2, max_size=5))
def test_every_class_trains_and_is_tested(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    root = tmp_path_factory.mktemp("d")
    for c, n in enumerate(sizes):
        (root / f"{c}").mkdir()
        for i in range(n):
            (root / f"{c}" / f"{i}.png").touch()  # listed, not decoded
    train, test = files(root)
    counts = np.bincount(test.labels, minlength=len(sizes))
    assert (counts >= 1).all() and (counts < sizes).all() and len(train) + len(test) == sum(sizes)
    assert (np.abs(counts - 0.2 * np.array(sizes)) <= 1).all()


def test_train_and_val_are_taken_as_they_are(tmp_path: Path) -> None:
    pictures(tmp_path / "train", {"a": 2, "b": 3})
    pictures(tmp_path / "val", {"a": 1, "b": 1})
    d = catalog.load("folder", tmp_path, size=8, grey=True)
    assert (len(d.train), len(d.test), d.channels, d.size) == (5, 2, 1, 8)
    assert not (tmp_path / "onebit-split.json").exists()
    pictures(tmp_path / "val", {"c": 1})
    assert "differ" in problem(tmp_path) and "'c'" in problem(tmp_path)


def test_test_pictures_without_labels_leave_val_to_test_on(tmp_path: Path) -> None:
    pictures(tmp_path / "train", {"a": 2, "b": 3})
    pictures(tmp_path, {"test": 5})  # no class folders in it
    assert "test or val" in problem(tmp_path)
    pictures(tmp_path / "val", {"a": 1, "b": 1})
    assert len(files(tmp_path)[1]) == 2
    (tmp_path / "imagenet").symlink_to(tmp_path)
    pictures(tmp_path / "test", {"a": 3, "b": 3})  # ImageNet's test pictures have no labels, whatever lies there
    assert len(files(tmp_path)[1]) == 6
    d = catalog.load("imagenet", tmp_path)
    assert (d.name, d.size, len(d.test)) == ("imagenet", 224, 2)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    pictures(tmp_path, {"bus": 5, "train": 5})
    assert folder.load(tmp_path, size=8).classes == ("bus", "train")


def test_subfolders_count_and_hidden_files_do_not(tmp_path: Path) -> None:
    pictures(tmp_path, {"a": 2, "a/b/c": 3, "b": 2, ".trash": 4, "a/.thumbnails": 5})
    pictures(tmp_path, {"b": 2}, suffix="JPEG")
    (tmp_path / "a" / "._0.png").write_bytes(b"what macOS writes beside 0.png")
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    (tmp_path / "c.png").touch()
    train, test = files(tmp_path)
    found = Counter(p.relative_to(tmp_path).parts[0] for p in train.paths + test.paths)
    assert found == {"a": 5, "b": 4}
    label = dict(zip(train.paths + test.paths, np.concatenate([train.labels, test.labels]), strict=True))
    assert label[tmp_path / "a" / "b" / "c" / "0.png"] == 0 and label[tmp_path / "b" / "1.JPEG"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "damaged"),
        ("[]", '"test" must list'),
        ('{"test": "a/0.png"}', '"test" must list'),
        ('{"test": {"a/0.png": 1}}', '"test" must list'),
        ('{"test": [1]}', '"test" must list'),
        ('{"test": []}', '"test" must list'),
        ('{"test": [["a/0.png"]]}', '"test" must list'),
        ("[" * 100_000, "damaged"),
        ("\udcff", "damaged"),
        ('{"test": ["a/9.png"]}', "is gone"),
        ('{"test": ["../a/0.png"]}', "is gone"),
        ('{"test": ["a/0.png", "a/1.png"]}', "class 'a' without training pictures"),
    ],
)
def test_stored_split_that_does_not_fit(tmp_path: Path, text: str, words: str) -> None:
    pictures(tmp_path, {"a": 2, "b": 3})
    (tmp_path / "onebit-split.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert words in problem(tmp_path) and "onebit-split.json" in problem(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["test", "made", "x"]), inner),
    )
)
def test_any_json_as_split_gives_a_mask_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    root = tmp_path_factory.getbasetemp() / "any-json"
    pictures(root, {"a": 2, "b": 3})
    (root / "onebit-split.json").write_text(json.dumps(content))
    assert "onebit-split.json" in problem(root)  # none of these names a picture that is there


def test_errors_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OnebitError, match="--size"):
        catalog.load("folder", tmp_path)
    assert "at least two" in problem(tmp_path)
    pictures(tmp_path, {"a": 3, "empty": 0})
    assert f"{tmp_path / 'empty'}: holds no picture" in problem(tmp_path)
    pictures(tmp_path, {"empty": 1})
    assert f"{tmp_path / 'empty'}: holds one picture" in problem(tmp_path)
    assert "is no folder" in problem(tmp_path / "gone")
    assert not (tmp_path / "onebit-split.json").exists()
    pictures(tmp_path, {"empty": 2})

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    assert "Read-only file system" in problem(tmp_path) and "writable" in problem(tmp_path)


def test_unreadable_folder_is_named_and_never_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path, {"a": 3, "a/locked": 3, "b": 3})
    scandir = os.scandir

    def locked(path: object = ".") -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", locked)
    assert f"{tmp_path / 'a' / 'locked'}: cannot be read (Permission denied)" in problem(tmp_path)


@pytest.mark.data
def test_real_photo_folder(data_root: Path) -> None:
    root = data_root / "tinyimagenet20"
    if not root.is_dir():
        pytest.skip("ONEBIT_DATA holds no tinyimagenet20")
    train, test = files(root, 64)
    assert np.bincount(train.labels).tolist() == [500] * 20 and np.bincount(test.labels).tolist() == [50] * 20
