"""Runs of the trainer: it learns, it resumes to the same bytes, it stops with a diagnosis."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from onebit import networks, recipe
from onebit.data import catalog
from onebit.data.dataset import Arrays
from onebit.errors import OnebitError
from onebit.train import checkpoint
from onebit.train.evaluate import evaluate, load_model
from onebit.train.optimizer import SGD
from onebit.train.trainer import parameter_groups, resume, train

TINY = ["width=0.25", "depth=8", "epochs=3", "batch=100", "precision=float32"]


def tiny(*more: str) -> recipe.Recipe:
    return recipe.load("digits").replace([*TINY, *more])


def test_run_folder_is_complete_and_consistent(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = train(tiny("holdout=100", "select=best"), out, quiet=True)
    assert json.loads((out / "result.json").read_text()) == result
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert all(0 <= f <= 1 for f in lines[0]["flip_rate"].values()) and len(lines[0]["flip_rate"]) == 8
    best = min(line["holdout_error"] for line in lines)
    assert lines[result["selected_epoch"] - 1]["holdout_error"] == best
    again = evaluate(out)
    assert again["error"] == result["error"] and sum(map(sum, again["confusion"])) == 360
    assert sum(again["confusion"][i][i] for i in range(10)) == 360 - result["wrong"]
    with pytest.raises(OnebitError, match="already holds a run"):
        train(tiny(), out, quiet=True)


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(tiny("epochs=1", f"seed={seed}"), tmp_path / name, quiet=True)
    a, b, c = ((tmp_path / n / "model.pt").read_bytes() for n in "abc")
    assert a == b and a != c


COMMAND = [sys.executable, "-m", "onebit"]


def spawn(*arguments: object) -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def start(out: Path) -> subprocess.Popen[str]:
    settings = [x for s in [*TINY, "epochs=6", "checkpoint_minutes=0"] for x in ("--set", s)]
    return spawn("train", "digits", "--out", out, "--threads", 1, *settings)


def test_killed_at_random_moments_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole = start(tmp_path / "whole")
    assert whole.wait() == 0, whole.stdout and whole.stdout.read()
    out = tmp_path / "killed"
    moments = random.Random(0)
    process = start(out)
    kills = 0
    # checkpoint_minutes=0: a checkpoint is being written most of the time, so kills hit that too
    for _ in range(4):
        deadline = time.monotonic() + 60
        while not (out / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        before = (out / "checkpoint.pt").stat().st_mtime_ns
        while (
            process.poll() is None
            and (out / "checkpoint.pt").stat().st_mtime_ns == before
            and time.monotonic() < deadline
        ):
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.15))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        process = spawn("resume", out)
    assert process.wait() == 0, process.stdout and process.stdout.read()
    assert kills >= 2
    assert (out / "model.pt").read_bytes() == (tmp_path / "whole" / "model.pt").read_bytes()
    assert (out / "checkpoint.pt").read_bytes() == (tmp_path / "whole" / "checkpoint.pt").read_bytes()
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and len(steps) == 6


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(out)
    while not (out / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "onebit resume" in printed and "Traceback" not in printed
    assert resume(out, quiet=True)["epochs"] == 6


def test_a_loss_that_is_not_finite_stops_with_a_diagnosis(tmp_path: Path) -> None:
    net = tiny("lr=1e30", "weights=float", "norm=none", "epochs=2")
    with pytest.raises(OnebitError, match=r"not finite at epoch 1.*learning rate") as caught:
        train(net, tmp_path / "run", quiet=True)
    assert "\n" not in str(caught.value)


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
    with pytest.raises(OnebitError, match="not a readable checkpoint"):
        checkpoint.load(path)


def test_fine_tuning_starts_from_other_weights_with_a_new_classifier(tmp_path: Path) -> None:
    train(tiny("epochs=1"), tmp_path / "first", quiet=True)
    first, _, content = load_model(tmp_path / "first")
    content["model"] = {
        k: v[:7] if "classifier" in k or "class_norm.running" in k else v for k, v in content["model"].items()
    }
    checkpoint.save(tmp_path / "seven.pt", content)
    result = train(
        tiny("epochs=1", "lr=0.0", "lr_end=0.0"), tmp_path / "second", start=tmp_path / "seven.pt", quiet=True
    )
    second, _, _ = load_model(tmp_path / "second")
    own, theirs = second.state_dict(), first.state_dict()
    same = [k for k in own if k.endswith("original") and torch.equal(own[k], theirs[k])]
    assert len(same) == 7 and result["epochs"] == 1  # all but the classifier
    with pytest.raises(OnebitError, match="no layer fits"):
        train(tiny("width=1"), tmp_path / "third", start=tmp_path / "seven.pt", quiet=True)


@pytest.mark.parametrize("name", recipe.names())
def test_a_narrow_copy_of_every_recipe_learns(name: str) -> None:
    """On 64 real digits, enlarged, the loss halves within 50 steps."""
    torch.manual_seed(0)
    r = recipe.load(name)
    depth = 18 if r.network.family == "imagenet" else 8
    r = r.replace(["width=1", f"depth={depth}", "compile=false"])
    net = networks.build(r.network, classes=10, channels=1, size=16)
    digits = catalog.load("digits").train
    assert isinstance(digits, Arrays)
    x = torch.from_numpy(digits.images[:64]).repeat_interleave(2, 2).repeat_interleave(2, 3)
    y = torch.from_numpy(digits.labels[:64])
    optimizer = SGD(parameter_groups(net, r.training.weight_decay), 0.1, 0.9, form=r.training.momentum_form)
    losses = []
    for _ in range(50):
        loss = torch.nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses) < losses[0] / 2
