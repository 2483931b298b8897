"""Runs of the trainer: it learns, it resumes to the same bytes, it stops with a diagnosis."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from onebit import networks, recipe
from onebit.binary import binary_layers, latent_weight
from onebit.data import catalog
from onebit.data.augment import Augment
from onebit.data.dataset import Arrays
from onebit.data.feed import Batch, make_feed
from onebit.errors import OnebitError
from onebit.train import checkpoint
from onebit.train.distributed import Rank
from onebit.train.evaluate import evaluate, load_model, score_split
from onebit.train.folder import RunFolder
from onebit.train.moments import reestimate
from onebit.train.optimizer import SGD, parameter_groups
from onebit.train.precision import resolve
from onebit.train.step import train_step
from onebit.train.trainer import Interrupted, Run, resume, train

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


def test_the_best_epoch_is_kept_as_it_was(tmp_path: Path) -> None:
    """Training goes on in the same memory: the network kept from an earlier epoch must be a copy."""
    # a rate that ruins the second epoch: the first one is the best
    settings = ["schedule=steps", "step_epochs=[]", "moments=running", "select=best", "holdout=300", "lr=0.05"]
    first = train(tiny("epochs=1", *settings), tmp_path / "one", quiet=True)
    run = tiny("epochs=2", *settings)
    ruin = Run(run, RunFolder(tmp_path / "two"), None, torch.device("cpu"), Rank(), None, True, False)
    error = ruin._error
    ruin._error = lambda part: error(part) if ruin.epoch == 1 or part is not ruin.held_share else 100.0  # type: ignore[method-assign]
    second = ruin.go()
    assert first["selected_epoch"] == second["selected_epoch"] == 1
    one, two = (checkpoint.load(tmp_path / n / "model.pt")["model"] for n in ("one", "two"))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert second["error"] == first["error"]


def test_a_result_names_the_gpu(tmp_path: Path) -> None:
    """Beside what the processor is; the tables of reports name it."""
    run = Run(tiny("epochs=1"), RunFolder(tmp_path / "r"), None, torch.device("cpu"), Rank(), None, True, False)
    machine = run._machine()
    run._machine = lambda: {**machine, "gpu": "a GPU"}  # type: ignore[method-assign]
    result = run.go()
    assert result["gpu"] == "a GPU" and result["cpu"] == machine["cpu"]


def test_the_held_out_images_are_not_trained_on(tmp_path: Path) -> None:
    run = Run(tiny("holdout=100"), RunFolder(tmp_path / "r"), None, torch.device("cpu"), Rank(), None, True, False)
    whole = catalog.load("digits").train
    assert isinstance(run.held, Arrays) and isinstance(run.data.train, Arrays) and isinstance(whole, Arrays)
    assert len(run.held) == 100 and run.feed.count == len(whole) - 100

    def pictures(split: Arrays) -> list[bytes]:
        return [picture.tobytes() for picture in split.images]

    assert sorted(pictures(run.held) + pictures(run.data.train)) == sorted(pictures(whole))
    with pytest.raises(OnebitError, match="needs held-out images"):
        train(tiny("select=best"), tmp_path / "x", quiet=True)


def test_counts_of_the_last_mini_batch(tmp_path: Path) -> None:
    for last, steps, images in (("keep", 15, 1437), ("drop", 14, 1400)):
        out = tmp_path / last
        run = Run(tiny(f"last_batch={last}"), RunFolder(out), None, torch.device("cpu"), Rank(), None, True, False)
        assert run.feed.steps == steps and run._images_between(0, steps) == images
        assert run._images_between(10, steps) == images - 1000


def test_metrics_of_an_epoch_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    """Loss, error, flips and momentum over one epoch, recomputed with torch.optim.SGD and nothing of the trainer."""
    chosen = tiny("epochs=1", "schedule=steps", "step_epochs=[]", "moments=running")
    train(chosen, tmp_path / "run", quiet=True)
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    checkpoint.seed_everything(0)
    net = networks.build(chosen.network, classes=10, channels=1, size=8).to(memory_format=torch.channels_last)
    before = {n: latent_weight(m).detach() >= 0 for n, m in binary_layers(net).items()}
    digits = catalog.load("digits").train
    d = chosen.data
    feed = make_feed(
        digits, device="cpu", batch=100, seed=0, last="keep", size=8, channels=1,
        augment=Augment(flip=d.flip, pad=d.pad, pad_fill=d.pad_fill, cutout=d.cutout, cutout_fill=d.cutout_fill),
    )  # fmt: skip
    latent = [p for p in net.parameters() if p.dim() == 4]
    other = [p for p in net.parameters() if p.dim() != 4]
    optimizer = torch.optim.SGD([{"params": latent, "weight_decay": 5e-4}, {"params": other}], lr=0.1, momentum=0.9)
    total = wrong = 0.0
    for batch in feed.epoch(0):
        logits = net(batch.images)
        loss = torch.nn.functional.cross_entropy(logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch.labels)
        wrong += float((logits.argmax(1) != batch.labels).sum())
    # not bit by bit: a sign may flip one step earlier where the order of additions differs
    assert line["loss"] == pytest.approx(total / 1437, rel=1e-3)
    assert line["train_error"] == pytest.approx(100 * wrong / 1437, abs=0.5)
    for name, layer in binary_layers(net).items():
        flips = float(((latent_weight(layer).detach() >= 0) != before[name]).float().mean())
        assert line["flip_rate"][name] == pytest.approx(flips, abs=0.02)


def test_epochs_are_tested_with_moments_of_their_own_weights(tmp_path: Path) -> None:
    """The last epoch's errors, computed anew from its checkpoint with the moments of 4 mini-batches; training is the same."""
    contents, lines = {}, {}
    for moments in ("reestimate", "running"):
        out = tmp_path / moments
        train(tiny("epochs=2", f"moments={moments}", "holdout=100"), out, quiet=True)
        contents[moments] = checkpoint.load(out / "checkpoint.pt")["model"]
        lines[moments] = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(torch.equal(t, contents["running"][name]) for name, t in contents["reestimate"].items())
    for moments, epochs in lines.items():
        net, chosen, _ = load_model(tmp_path / moments / "checkpoint.pt")
        run = Run(chosen, RunFolder(tmp_path / "other"), None, torch.device("cpu"), Rank(), None, True, False)
        if moments == "reestimate":
            reestimate(net, [batch.images for batch in run.feed.epoch(2)][:4])
        for split, key in ((run.data.test, "test_error"), (run.held, "holdout_error")):
            assert split is not None
            score = score_split(net, split, run.data, chosen, torch.device("cpu"))
            # another order of additions may turn a picture that stands between two classes
            assert epochs[-1][key] == pytest.approx(score.error, abs=100 / score.images)


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
    settings = [
        x for s in [*TINY, "epochs=6", "checkpoint_minutes=0", "holdout=100", "select=best"] for x in ("--set", s)
    ]
    return spawn("train", "digits", "--out", out, "--threads", 1, *settings)


def test_killed_at_random_moments_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole = start(tmp_path / "whole")
    assert whole.wait() == 0, whole.stdout and whole.stdout.read()
    out = tmp_path / "killed"
    moments = random.Random(0)
    process = start(out)
    kills = 0
    # checkpoint_minutes=0: a checkpoint is being written most of the time, so kills hit that too
    for _ in range(3):
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
    assert not list(out.glob(".*.tmp"))  # cleared when it was resumed
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and len(steps) == 6


def test_resuming_elsewhere_says_that_bits_may_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    train(tiny("epochs=1", "precision=auto"), out, quiet=True, threads=1)
    content = checkpoint.load(out / "checkpoint.pt")
    assert not any(str(tmp_path) in str(value) for value in content["machine"].values())
    content["machine"].update(cpu="Another CPU", precision="bf16")
    checkpoint.save(out / "checkpoint.pt", content)
    result = resume(out, threads=1)
    printed = capsys.readouterr().err
    assert "begun with cpu Another CPU" in printed and "bits may differ" in printed
    assert result["precision"] == resolve("auto", torch.device("cpu"))  # bf16 is not emulated where it is not native
    other = tiny("epochs=1", "precision=auto", "seed=9")
    with pytest.raises(OnebitError, match="belongs to another recipe"):
        train(other, out, resume=True, quiet=True)


def test_a_finished_run_resumes_to_the_same_result(tmp_path: Path) -> None:
    result = train(tiny("epochs=1"), tmp_path / "run", quiet=True)
    model = (tmp_path / "run" / "model.pt").read_bytes()
    assert resume(tmp_path / "run", quiet=True) == result
    assert (tmp_path / "run" / "model.pt").read_bytes() == model
    with pytest.raises(OnebitError, match="is not a run folder"):
        resume(tmp_path / "nothing")


def test_a_finished_run_goes_on_to_the_bytes_of_a_longer_one(tmp_path: Path) -> None:
    """Warm restarts after 2, 6, ... epochs: 2 epochs are the beginning of 5, which end inside a cycle."""
    settings = ["holdout=100", "select=best"]
    short = train(tiny("epochs=2", *settings), tmp_path / "run", quiet=True)
    longer = resume(tmp_path / "run", epochs=5, quiet=True)
    whole = train(tiny("epochs=5", *settings), tmp_path / "whole", quiet=True)
    assert {**longer, "seconds": 0} == {**whole, "seconds": 0}
    for name in ("model.pt", "checkpoint.pt"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert json.loads((tmp_path / "run" / "result-2.json").read_text()) == short
    assert evaluate(tmp_path / "run" / "model-2.pt")["error"] == short["error"]
    assert (tmp_path / "run" / "model-2.onebit").exists() and (tmp_path / "run" / "model.onebit").exists()
    assert resume(tmp_path / "run", quiet=True)["epochs"] == 5  # its recipe from now on


def test_a_run_ends_earlier_or_says_why_not(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = Run(tiny("epochs=6"), RunFolder(out), None, torch.device("cpu"), Rank(), None, True, False)
    run.progress.epoch = lambda epoch, *_: setattr(run, "stop", epoch == 2)  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match="after epoch 2"):
        run.go()
    with pytest.raises(OnebitError, match="is in epoch 2 already"):
        resume(out, epochs=1, quiet=True)
    assert resume(out, epochs=2, quiet=True)["epochs"] == 2
    train(tiny("epochs=2"), tmp_path / "short", quiet=True)
    assert (out / "model.pt").read_bytes() == (tmp_path / "short" / "model.pt").read_bytes()
    train(tiny("epochs=1", "schedule=cosine"), tmp_path / "cosine", quiet=True)
    with pytest.raises(OnebitError, match="learning rate that depends on the number of epochs"):
        resume(tmp_path / "cosine", epochs=2)


def test_saving_takes_a_small_part_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch that is short beside its saving is not saved, but the ends of cycles and of the run are."""
    run = Run(tiny("epochs=7"), RunFolder(tmp_path / "r"), None, torch.device("cpu"), Rank(), None, True, False)
    saved, save = [], run._save

    def slow() -> None:
        saved.append(run.epoch)
        save()
        run.saving_took = 1e9

    run._save = slow  # type: ignore[method-assign]
    run.go()
    assert saved == [1, 2, 6, 7]


def test_what_is_said_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet, loud = tmp_path / "quiet", tmp_path / "loud"
    train(tiny("epochs=1"), quiet, quiet=True)
    assert capsys.readouterr().err == ""
    train(tiny("epochs=1"), loud)
    printed = capsys.readouterr().err
    assert "4,804 weights = 1.2 kB packed" in printed and "multiply-accumulates" in printed
    assert re.search(r"1 epoch, 1,437 pictures: about \d+:\d\d\n", printed)
    # trying mini-batches for the estimate has left no trace
    assert (quiet / "model.pt").read_bytes() == (loud / "model.pt").read_bytes()


@pytest.mark.slow
def test_compiled_training(tmp_path: Path) -> None:
    plain = train(tiny("epochs=1"), tmp_path / "plain", quiet=True)
    # CUDA graphs are for CUDA alone: elsewhere the same recipe runs without them
    compiled = train(tiny("epochs=1", "compile=true", "cuda_graphs=true"), tmp_path / "compiled", quiet=True)
    assert compiled["test_images"] == plain["test_images"]
    losses = [json.loads((tmp_path / n / "metrics.jsonl").read_text())["loss"] for n in ("plain", "compiled")]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert list(checkpoint.load(tmp_path / "compiled" / "model.pt")["model"]) == list(
        checkpoint.load(tmp_path / "plain" / "model.pt")["model"]
    )


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


def learnable() -> dict[str, tuple[recipe.Network, str]]:
    """Every kind of network that a recipe trains, made small, by the name of the first recipe that has it."""
    kinds: dict[tuple[recipe.Network, str], str] = {}
    for name in recipe.names():
        r = recipe.load(name)
        small = {"width": 0.25, "depth": 10} if r.network.family == "imagenet" else {"width": 1.0, "depth": 8}
        # T divides the logits of wide networks, which are large
        network = dataclasses.replace(r.network, logit_divisor=min(r.network.logit_divisor, 10.0), **small)  # type: ignore[arg-type]
        kinds.setdefault((network, r.training.momentum_form), name)
    return {name: kind for kind, name in kinds.items()}


@pytest.mark.parametrize(("network", "form"), learnable().values(), ids=learnable().keys())
def test_every_kind_of_network_in_the_recipes_learns(network: recipe.Network, form: Any) -> None:
    """The loss on 64 real digits halves within 40 steps."""
    torch.manual_seed(0)
    zoom = 4 if network.family == "imagenet" else 1
    net = networks.build(network, classes=10, channels=1, size=8 * zoom)
    digits = catalog.load("digits").train
    assert isinstance(digits, Arrays)
    x = torch.from_numpy(digits.images[:64]).repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    batch = Batch(x, torch.from_numpy(digits.labels[:64]), 64)
    optimizer = SGD(parameter_groups(net, 5e-4), 0.1, 0.9, form=form)
    losses = [train_step(net, optimizer, batch, "float32")[0].item() / 64 for _ in range(40)]
    assert min(losses) < losses[0] / 2
