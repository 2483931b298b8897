"""The trainer itself in two processes (gloo, CPU): the losses of one, killed and resumed, lost together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onebit import recipe
from onebit.train import checkpoint
from onebit.train.trainer import resume, train

# 125 training images, so that an epoch is one mini-batch of 63 + 62 images; a restart after two epochs
SETTINGS = [
    "width=0.25", "depth=8", "epochs=5", "batch=125", "holdout=1312", "precision=float32", "checkpoint_minutes=0",
    "flip=true", "pad=1", "cutout=3",
]  # fmt: skip


def launch(*arguments: object) -> list[subprocess.Popen[str]]:
    """The command in two processes, with the variables that torchrun sets."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    common = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(
            [sys.executable, "-m", "onebit", *map(str, arguments)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]


def begin(out: Path, *settings: str) -> list[subprocess.Popen[str]]:
    chosen = [x for s in [*SETTINGS, *settings] for x in ("--set", s)]
    return launch("train", "digits", "--out", out, "--threads", 1, *chosen)


def wait(processes: list[subprocess.Popen[str]], status: int = 0, timeout: float = 120) -> list[str]:
    """What each printed; kills both when one hangs."""
    try:
        printed = [p.communicate(timeout=timeout)[0] for p in processes]
    finally:
        for p in processes:
            p.kill()
    assert [p.returncode for p in processes] == [status, status], "\n".join(printed)
    return printed


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes, not stopped."""
    out = tmp_path_factory.mktemp("pair") / "whole"
    printed = wait(begin(out))
    assert "float32 on cpu x 2" in printed[0] and "about 0:0" in printed[0]
    assert "epoch" not in printed[1]  # one of them speaks
    return out


def test_five_steps_have_the_losses_of_one_process(whole: Path, tmp_path: Path) -> None:
    result = train(recipe.load("digits").replace(SETTINGS), tmp_path / "one", quiet=True, threads=1)
    one, two = metrics(tmp_path / "one"), metrics(whole)
    assert [line["step"] for line in two] == [1, 2, 3, 4, 5]
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-5)
    assert [line["train_error"] for line in two] == [line["train_error"] for line in one]
    for key, images in (("test_error", 360), ("holdout_error", 1312)):  # tested in two shares; a near tie may turn
        assert [line[key] for line in two] == pytest.approx([line[key] for line in one], abs=200 / images)
    pair = json.loads((whole / "result.json").read_text())
    assert pair["test_images"] == 360 and pair["wrong"] == pytest.approx(result["wrong"], abs=2)


def test_killed_and_resumed_ends_in_the_same_bytes_and_one_process_can_go_on(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "killed"
    processes = begin(out)
    deadline = time.monotonic() + 60
    while not (out / "checkpoint.pt").exists() and processes[0].poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    for p in processes:
        p.send_signal(signal.SIGKILL)
    for p in processes:
        p.communicate()
    assert checkpoint.load(out / "checkpoint.pt")["epoch"] < 5 or not (out / "result.json").exists()
    shutil.copytree(out, tmp_path / "alone")
    wait(launch("resume", out))
    for name in ("checkpoint.pt", "model.pt"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    resume(tmp_path / "alone", threads=1)
    assert "world 2, goes on with world 1: bits may differ" in capsys.readouterr().err
    losses = [[line["loss"] for line in metrics(run)] for run in (whole, tmp_path / "alone")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_lost_network_stops_both_with_one_diagnosis(tmp_path: Path) -> None:
    printed = wait(begin(tmp_path / "run", "lr=1e30", "weights=float", "norm=none"), status=2)
    for text in printed:
        assert "not finite at epoch" in text and "Traceback" not in text


@pytest.mark.slow
def test_torchrun_and_ctrl_c(tmp_path: Path) -> None:
    """torchrun passes the signal on; both processes save together and stop."""
    out = tmp_path / "run"
    chosen = [x for s in ["width=0.25", "depth=8", "epochs=200", "batch=125"] for x in ("--set", s)]
    command = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "onebit",
        "train",
        "digits",
    ]
    process = subprocess.Popen(
        [sys.executable, *command, "--out", str(out), *chosen],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while not (out / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert "saved; go on with: onebit resume" in printed
    assert 0 < checkpoint.load(out / "checkpoint.pt")["epoch"] < 200


@pytest.mark.slow
def test_two_processes_and_compile(tmp_path: Path) -> None:
    wait(begin(tmp_path / "run", "compile=true", "epochs=1"), timeout=900)  # compiling takes minutes
    assert metrics(tmp_path / "run")[0]["loss"] > 0
