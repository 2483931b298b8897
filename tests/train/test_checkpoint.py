"""Checkpoints: whole or not at all, the same bytes for the same content, one clear line for a damaged one."""

from __future__ import annotations

import random
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from onebit.errors import OnebitError
from onebit.train import checkpoint


def test_full_disk_keeps_the_older_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    checkpoint.save(path, {"x": torch.zeros(10)})
    good = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(OnebitError, match="cannot be written"):
            checkpoint.save(path, {"x": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == good and [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_damaged_checkpoints_give_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    checkpoint.save(path, {"x": torch.zeros(1000)})
    good = path.read_bytes()
    for body in (b"", b"nonsense", good[:500], good[: len(good) // 2]):
        path.write_bytes(body)
        with pytest.raises(OnebitError, match=r"c\.pt") as caught:
            checkpoint.load(path)
        assert "\n" not in str(caught.value)
    torch.save({"format": 99}, path)
    with pytest.raises(OnebitError, match="99"):
        checkpoint.load(path)
    torch.save({"format": 1, "x": random.Random()}, path)  # a pickled object: weights_only refuses it
    with pytest.raises(OnebitError, match="not a readable checkpoint") as caught:
        checkpoint.load(path)
    assert "weights_only" not in str(caught.value)  # torch advises to load it unsafely


@pytest.mark.filterwarnings("ignore")  # torch wonders about some of the bytes
def test_flipped_bytes_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    checkpoint.save(path, {"x": torch.zeros(10), "list": [1, "two", (3.0,)], "random": checkpoint.random_state()})
    good = path.read_bytes()
    draw = random.Random(0)
    refused = 0
    for _ in range(300):
        body = bytearray(good)
        body[draw.choice([draw.randrange(1500), draw.randrange(len(body))])] = draw.randrange(256)
        path.write_bytes(body)
        try:
            assert isinstance(checkpoint.load(path), dict)
        except OnebitError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 50


def test_what_was_loaded_is_saved_to_the_same_bytes(tmp_path: Path) -> None:
    """Also where some strings come from the file and others, equal ones, from the program."""
    weight = torch.randn(4, 3, 3, 3).contiguous(memory_format=torch.channels_last)
    content = {
        "model": {"w": weight},
        "best": {"model": {"w": weight + 1}, "epoch": 1},
        "epoch": 2,
        "list": ["epoch", ()],
    }
    checkpoint.save(tmp_path / "a.pt", content)
    loaded = checkpoint.load(tmp_path / "a.pt")
    loaded.pop("format")
    assert torch.equal(loaded["model"]["w"], weight) and loaded["model"]["w"].stride() == weight.stride()
    mixed = {**loaded, "model": {"w": weight}, "epoch": 2}
    for name, tree in (("b.pt", loaded), ("c.pt", mixed)):
        checkpoint.save(tmp_path / name, tree)
        assert (tmp_path / name).read_bytes() == (tmp_path / "a.pt").read_bytes()


def test_random_generators_come_back(tmp_path: Path) -> None:
    def draws() -> list[float]:
        return [
            random.random(),
            random.gauss(0, 1),
            float(np.random.rand()),
            float(np.random.randn()),
            torch.rand(1).item(),
        ]

    checkpoint.seed_everything(3)
    first = draws()
    checkpoint.save(tmp_path / "c.pt", {"random": checkpoint.random_state()})
    second = draws()
    checkpoint.seed_everything(3)
    assert draws() == first != second
    checkpoint.set_random_state(checkpoint.load(tmp_path / "c.pt")["random"])
    assert draws() == second
