"""Every script from end to end on real photographs and digits, a few of each, in the published formats.

CIFAR and MNIST are the first records of the published files. SVHN's, ImageNet32's and ImageNet's files are written here from
20 classes of Tiny ImageNet.
"""

from __future__ import annotations

import dataclasses
import gzip
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onebit.data import catalog
from onebit.report.reproduction import main

HOME = Path(__file__).resolve().parents[2] / "reproduce"
TRAIN, TEST = 8, 2  # pictures a class

pytestmark = pytest.mark.data


def photographs(root: Path, half: str, count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, side, side, 3] and labels 0..19: the first photographs of each class, scaled down."""
    folder = root / "tinyimagenet20" / half
    if not folder.is_dir():
        pytest.skip(f"needs the photographs of tinyimagenet20/{half} in the data folder")
    images, labels = [], []
    for label, name in enumerate(sorted(p.name for p in folder.iterdir())):
        for path in sorted((folder / name).iterdir())[:count]:
            images.append(np.asarray(Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BOX)))
            labels.append(label)
    return np.stack(images), np.array(labels)


def write_cifar(data: Path, root: Path) -> None:
    for folder, record, files in (
        ("cifar-10-batches-bin", 3073, [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]),
        ("cifar-100-binary", 3074, ["train", "test"]),
    ):
        (root / folder).mkdir()
        for file in files:
            with open(data / folder / f"{file}.bin", "rb") as source:
                (root / folder / f"{file}.bin").write_bytes(source.read(25 * record))
        for names in (data / folder).glob("*.txt"):
            shutil.copy(names, root / folder)


def write_mnist(data: Path, root: Path) -> None:
    (root / "mnist").mkdir()
    for half in ("train", "t10k"):
        for kind, header, size in (("images-idx3", 16, 784), ("labels-idx1", 8, 1)):
            path = data / "mnist" / f"{half}-{kind}-ubyte"
            with gzip.open(f"{path}.gz") if not path.exists() else open(path, "rb") as source:
                content = bytearray(source.read(header + 50 * size))
            content[4:8] = (50).to_bytes(4, "big")
            (root / "mnist" / path.name).write_bytes(content)


def write_svhn(data: Path, root: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    (root / "svhn").mkdir()
    for part, half, count in (("train", "train", TRAIN), ("extra", "train", TRAIN), ("test", "val", TEST)):
        images, labels = photographs(data, half, count, 32)
        digit = labels % 10
        content = {"X": images.transpose(1, 2, 3, 0), "y": np.where(digit == 0, 10, digit).astype(np.uint8)[:, None]}
        scipy_io.savemat(root / "svhn" / f"{part}_32x32.mat", content, do_compression=True)


def write_imagenet32(data: Path, root: Path) -> None:
    (root / "imagenet32").mkdir()
    images, labels = photographs(data, "train", TRAIN, 32)
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    for i in range(10):
        part = slice(i, None, 10)
        np.savez(root / "imagenet32" / f"train_data_batch_{i + 1}.npz", data=rows[part], labels=labels[part] + 1)
    images, labels = photographs(data, "val", TEST, 32)
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    np.savez(root / "imagenet32" / "val_data.npz", data=rows, labels=labels + 1)


def write_imagenet(data: Path, root: Path) -> None:
    photographs(data, "val", 1, 8)  # skips where there are none
    for half, count in (("train", TRAIN), ("val", TEST)):
        for folder in (data / "tinyimagenet20" / half).iterdir():
            target = root / "imagenet" / half / folder.name
            target.mkdir(parents=True)
            for path in sorted(folder.iterdir())[:count]:
                shutil.copy(path, target)


@pytest.fixture(scope="module")
def few(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a few pictures of every set."""
    root = tmp_path_factory.mktemp("data")
    for write in (write_cifar, write_mnist, write_svhn, write_imagenet32, write_imagenet):
        write(data_root, root)
    return root


@pytest.fixture(autouse=True)
def small_sets_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalog refuses sets with other numbers of pictures than published."""
    for name, entry in catalog.ENTRIES.items():
        monkeypatch.setitem(catalog.ENTRIES, name, dataclasses.replace(entry, counts=None))


@pytest.mark.parametrize(
    ("script", "only", "settings"),
    [
        ("table1", ["cifar10-20-4-cutout-float", "cifar100-20-10-1bit"], []),
        ("table2", ["svhn-20-4-1bit", "svhn-20-4-float", "imagenet32-20-10-1bit", "imagenet32-20-10-float"], []),
        ("table2", ["imagenet-18-2.5-1bit"], ["size=32", "workers=0"]),
        ("curves", ["cifar10-20-10-cutout-1bit", "cifar10-20-1-cutout-float"], []),
        ("ablation", ["restarts-fixed-1bit", "steps-learned-float"], []),
        ("bwn", ["bwn"], []),
        ("plain", ["plain-cifar100-20-4-1bit"], []),
        ("mnist", ["mnist-20-4-1bit"], []),
        ("shifted_relu", ["cifar10-20-10-1bit"], []),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "as-is",
)
def test_a_script_runs_and_marks_what_it_made(
    few: Path, tmp_path: Path, script: str, only: list[str], settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = runpy.run_path(str(HOME / f"{script}.py"))["EXPERIMENT"]
    changes = [part for s in ["width=0.125", "batch=50", *settings] for part in ("--set", s)]
    arguments = [
        "--out",
        str(tmp_path),
        "--data",
        str(few),
        "--epochs",
        "1",
        "--threads",
        "1",
        "--also",
        "--only",
        *only,
    ]
    assert main(experiment, HOME, [*arguments, *changes]) == 0, capsys.readouterr().err
    runs = list(tmp_path.glob("*/result.json"))
    assert len(runs) >= len(only) and (tmp_path / f"{script}.png").read_bytes()[:4] == b"\x89PNG"
    page = (tmp_path / f"{script}.md").read_text()
    assert page.count("| not yet run |") == len(experiment.rows)  # what was cut short fills no row
    marked = [line for line in page.splitlines() if line.startswith("| ↳ ")]
    assert len(marked) == len(runs)
    assert all("**1 of " in line and "width 0.125 instead of" in line and "pictures" in line for line in marked)
    assert len(list(tmp_path.glob("imagenet-*/crops-25.json"))) == len(list(tmp_path.glob("imagenet-*/result.json")))
