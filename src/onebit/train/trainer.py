"""The trainer: one run of a recipe, from raw pixels to a finished network in a run folder (`folder`).

A run is a loop over epochs and mini-batches (`step`), with a checkpoint after each epoch and now and then in between.
Learning rate, data order and augmentation are functions of the position; the checkpoint holds everything else.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onebit import __version__, zoo
from onebit import recipe as recipes
from onebit.data.augment import Augment
from onebit.data.dataset import Arrays, Files, split_holdout
from onebit.data.feed import Batch, make_feed, share
from onebit.errors import OnebitError
from onebit.machine import cpu_model
from onebit.networks import build
from onebit.recipe import Recipe
from onebit.train import checkpoint, distributed
from onebit.train.device import best_device, pick_device
from onebit.train.diagnose import non_finite, weights_finite
from onebit.train.evaluate import load_data, score_split
from onebit.train.finetune import start_from
from onebit.train.finish import describe_result, save_packed
from onebit.train.flips import share_of_flips, signs_of
from onebit.train.folder import RunFolder
from onebit.train.introduce import expect, introduce, measure
from onebit.train.moments import moment_batches, reestimate, reestimated
from onebit.train.optimizer import SGD, parameter_groups
from onebit.train.precision import autocast, resolve
from onebit.train.progress import Progress
from onebit.train.schedule import learning_rate, restart_epochs, same_path, with_epochs
from onebit.train.step import compiled, train_step

CHECK_EVERY = 20  # mini-batches between looks at the loss: each look makes the device wait
SAVING_SHARE = 20  # an epoch is saved when the one before has been safe for this many times what saving takes: 5 %


class Interrupted(OnebitError):
    """Ctrl-C: the run is saved and can be resumed."""


def train(
    recipe: Recipe, out: Path, *, root: Path | None = None, device: str | None = None, threads: int | None = None,
    start: Path | None = None, quiet: bool = False, resume: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Train `recipe` into the run folder `out`; returns what result.json holds (``error``: test error in percent).

    Args:
        root: the folder that holds the data sets (for a folder of pictures: the folder itself).
        device: "cpu", "cuda", "mps"; None: the best one present.
        threads: CPU threads; None: torch's own choice.
        start: run folder, checkpoint or packed model (by name, too) whose weights are the starting point (a new classifier
            where classes differ).
        resume: go on from the checkpoint in `out`.

    Raises:
        OnebitError: `out` holds another run; data missing; the loss is not finite (with a diagnosis).
    """
    if threads:
        torch.set_num_threads(threads)
    start = None if start is None else zoo.find(Path(start))
    name = device or best_device()
    rank = distributed.setup(name)  # first: among several processes it gives this one its own CUDA device
    try:
        where = pick_device(name)
        run = Run(recipe, RunFolder(Path(out)), root, where, rank, start, quiet, resume)
        try:
            return run.go()
        except BaseException as error:
            if rank.world > 1:
                traceback.clear_frames(error.__traceback__)  # they too hold what `leave` lets go of
            raise
        finally:
            run.leave()
    finally:
        distributed.cleanup()


def resume(
    out: Path,
    *,
    quiet: bool = False,
    root: Path | None = None,
    device: str | None = None,
    threads: int | None = None,
    epochs: int | None = None,
) -> dict[str, Any]:
    """Go on with the run in folder `out`, with its own recipe, data folder, device and threads unless told otherwise.

    `epochs` lengthens or shortens it (not a single cosine): what it ends in is what a run begun with as many ends in. What
    it had ended in before is kept as result-N.json, model-N.pt and model-N.onebit, N its epochs then.
    """
    recipe, about = RunFolder(Path(out)).begun()
    recipe = recipe if epochs is None else with_epochs(recipe, epochs)
    folder = root or (Path(about["root"]) if about.get("root") else None)
    start = Path(about["start"]) if about.get("start") else None
    return train(
        recipe, out, root=folder, device=device or about.get("device"), threads=threads or about.get("threads"),
        start=start, quiet=quiet, resume=True,
    )  # fmt: skip


class Run:
    """One training run. `_content` lists which attributes a checkpoint holds; all else follows from recipe and data."""

    def __init__(
        self, recipe: Recipe, folder: RunFolder, root: Path | None, device: torch.device, rank: distributed.Rank,
        start: Path | None, quiet: bool, resume: bool,
    ) -> None:  # fmt: skip
        self.recipe, self.folder, self.root, self.start = recipe, folder, root, start
        self.device, self.rank, self.main = device, rank, rank.rank == 0
        self.settings = recipe.training
        if not resume:
            folder.require_new()
        if self.settings.select == "best" and not recipe.data.holdout:
            raise OnebitError(
                "select = 'best' needs held-out images to choose by: --set holdout=5000 (never the test set)"
            )
        self.data = load_data(recipe, root)
        self.held: Arrays | Files | None = None
        if recipe.data.holdout:
            self.data, self.held = split_holdout(self.data, recipe.data.holdout, self.settings.seed)
        self.size = self.data.size
        checkpoint.seed_everything(self.settings.seed)
        net = build(recipe.network, classes=len(self.data.classes), channels=self.data.channels, size=self.size)
        self.net = net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = SGD(
            parameter_groups(self.net, self.settings.weight_decay), self.settings.lr, self.settings.momentum,
            form=self.settings.momentum_form, fused=self.settings.compile,
        )  # fmt: skip
        d = recipe.data
        self.feed = make_feed(
            self.data.train, device=device, batch=self.settings.batch, seed=self.settings.seed, last=self.settings.last_batch,
            augment=Augment(flip=d.flip, pad=d.pad, pad_fill=d.pad_fill, cutout=d.cutout, cutout_fill=d.cutout_fill),
            size=self.size, channels=self.data.channels, workers=d.workers, rank=rank.rank, world=rank.world,
        )  # fmt: skip
        # every process tests its share after each epoch
        self.test_share = self._share(self.data.test)
        self.held_share = None if self.held is None else self._share(self.held)
        self.precision = resolve(self.settings.precision, device)
        self.epoch, self.step_in_epoch = 0, 0
        self.sums = torch.zeros(3, dtype=torch.float32, device=device)  # loss, wrong, images of the epoch so far
        self.best: dict[str, Any] = {}
        self.quiet = quiet
        self.progress = Progress(self.settings.epochs * self.feed.steps, quiet=quiet or not self.main)
        self.seconds = 0.0
        self.saved_at, self.saving_took = time.monotonic(), 0.0
        self.stop = False
        saved = folder.load_checkpoint() if resume else None
        if saved is not None:
            self._restore(saved)
        else:
            if start is not None:
                self.progress.say(start_from(self.net, start, self.data.classes))
            self.signs = signs_of(self.net)
        self._agree()
        self.net = distributed.convert_batchnorm(self.net) if rank.world > 1 else self.net
        self.model: nn.Module = distributed.wrap(compiled(self.net, self.settings, rank.world), rank)

    # -- the run ---------------------------------------------------------------------------------

    def go(self) -> dict[str, Any]:
        """Train to the end, finish the moments, test, and write the results."""
        if self.main:
            self.seconds = self.folder.open(self.recipe, self._about(), self.epoch)
        if not self.quiet and self.epoch < self.settings.epochs:
            self._introduce()
        restarts = set(restart_epochs(self.settings))
        self.saved_at = time.monotonic()
        self.progress.start(self.step)
        with stopping(self._request_stop):
            while self.epoch < self.settings.epochs:
                if self.step_in_epoch == 0 and self.epoch in restarts and self.settings.momentum_at_restart == "zero":
                    self.optimizer.zero_momentum()
                self._train_epoch()
        return self._finish()

    def leave(self) -> None:
        """Let go of DistributedDataParallel before the processes part: as the last owner of their connection it waits
        for a thread that waits for Python, and the program never ends."""
        self.model = self.net

    @property
    def step(self) -> int:
        """Mini-batches done."""
        return self.epoch * self.feed.steps + self.step_in_epoch

    def _train_epoch(self) -> None:
        self.model.train()
        begun, first = time.monotonic(), self.step_in_epoch
        for batch in self.feed.epoch(self.epoch, self.step_in_epoch):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.settings, self.step, self.feed.steps)
            self.sums += train_step(self.model, self.optimizer, batch, self.precision, self.rank.world)
            self.step_in_epoch += 1
            look = self.step_in_epoch % CHECK_EVERY == 0 or self.step_in_epoch == self.feed.steps
            due = time.monotonic() - self.saved_at > 60 * self.settings.checkpoint_minutes
            if look or (self.rank.world == 1 and (self.stop or due)):
                self._look(batch, begun, first, due)
        self._end_epoch(begun, first)

    def _look(self, batch: Batch, begun: float, first: int, due: bool) -> None:
        """Is the loss a number? Show it; save where it is time. Several processes decide all of this together."""
        loss, wrong, images = self.sums.tolist()
        lost = not loss < float("inf") or not weights_finite(self.net)
        stop, due, anywhere = self._any(self.stop, due, lost)
        if anywhere:  # before saving: no checkpoint of a network that is lost
            self._give_up(batch, lost)
        speed = self._images_between(first, self.step_in_epoch) / (time.monotonic() - begun)
        part = max(images, 1.0)  # a process may have had no image of a small mini-batch
        self.progress.step(self.step, self.epoch + 1, self.settings.epochs, loss / part, 100 * wrong / part, speed)
        if stop or due:
            self._save()
        if stop:
            raise Interrupted(f"stopped in epoch {self.epoch + 1}, saved; go on with: onebit resume {self.folder.path}")

    def _give_up(self, batch: Batch, lost: bool) -> None:
        lr = float(self.optimizer.param_groups[0]["lr"])
        with autocast(self.precision, self.device):
            message = non_finite(self.net, batch.images, self.epoch + 1, self.step, lr)
        raise OnebitError(next(text for seen, text in distributed.gather_objects((lost, message)) if seen))

    def _end_epoch(self, begun: float, first: int) -> None:
        lr = float(self.optimizer.param_groups[0]["lr"])
        loss, wrong, images = distributed.sum_over_ranks(self.sums).tolist()
        speed = self._images_between(first, self.feed.steps) / (time.monotonic() - begun)
        self.epoch, self.step_in_epoch = self.epoch + 1, 0
        signs = signs_of(self.net)
        flips = share_of_flips(self.signs, signs)
        with self._tested():
            test_error = self._error(self.test_share)
            holdout_error = None if self.held_share is None else self._error(self.held_share)
        line = {
            "kind": "epoch", "epoch": self.epoch, "step": self.step, "loss": loss / images, "train_error": 100 * wrong / images,
            "test_error": test_error, "holdout_error": holdout_error, "lr": lr, "images_per_second": speed, "flip_rate": flips,
        }  # fmt: skip
        chosen = self.settings.select == "best" and holdout_error is not None
        if chosen and holdout_error <= self.best.get("holdout_error", 100.0):
            self.best = {
                "holdout_error": holdout_error,
                "epoch": self.epoch,
                "model": checkpoint.to_cpu(self.net.state_dict(), copy=True),
            }
        self.seconds += time.monotonic() - begun
        line["seconds"] = self.seconds
        self.signs = signs
        self.sums.zero_()
        self.progress.epoch(self.epoch, self.settings.epochs, line, self.step)
        if self.main:
            self.folder.metrics.append(line)
        (stop,) = self._any(self.stop)
        last = self.epoch == self.settings.epochs or self.epoch in restart_epochs(self.settings)
        if self._any(stop or last or time.monotonic() - self.saved_at > SAVING_SHARE * self.saving_took)[0]:
            self._save()
        if stop:
            raise Interrupted(f"stopped after epoch {self.epoch}, saved; go on with: onebit resume {self.folder.path}")

    def _finish(self) -> dict[str, Any]:
        if self.best:
            self.net.load_state_dict(self.best["model"])
        if self.settings.moments == "reestimate":
            self.progress.say("re-estimating batch-norm moments on one augmented pass over the training set")
            with autocast(self.precision, self.device):
                reestimate(self.net, self._pictures(self.feed.steps))
        if not self.main:
            return {}
        self.folder.save_model(self._model_content())
        final = score_split(self.net, self.data.test, self.data, self.recipe, self.device, crops=self.recipe.data.crops)
        result = describe_result(
            self.recipe, self.data, self.net, final, self._machine(), device=str(self.device), seconds=self.seconds,
            precision=self.precision, selected_epoch=self.best.get("epoch"),
        )  # fmt: skip
        self.folder.save_result(result)  # first: nothing that happens while packing can lose it
        if self.recipe.network.weights == "1bit":
            result["packed_bytes"] = (
                save_packed(self.folder, self.recipe, self.data, result, self.progress.say) or result["packed_bytes"]
            )
            self.folder.save_result(result)
        self.progress.say(f"test error {final.error:.2f} % ({final.wrong} of {final.images}) -> {self.folder.path}")
        return result

    # -- several processes -----------------------------------------------------------------------

    def _agree(self) -> None:
        """All processes compute in one precision, from the same point of the same experiment."""
        if "float32" in distributed.gather_objects(self.precision):
            self.precision = "float32"
        facts = {
            "recipe": self.recipe.to_toml(),
            "training images": self.feed.count,
            "test images": len(self.data.test),
        }
        distributed.require_same({**facts, "mini-batches done": self.step, "onebit": __version__})

    def _any(self, *flags: bool) -> list[bool]:
        """Each flag: is it up in any process?"""
        if self.rank.world == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.int32, device=self.device)
        return [vote > 0 for vote in distributed.sum_over_ranks(votes).tolist()]

    def _share(self, split: Arrays | Files) -> Arrays | Files:
        """This process's part of the images of `split`."""
        if self.rank.world == 1:
            return split
        return split.take(np.arange(len(split))[share(len(split), self.rank.rank, self.rank.world)])

    def _error(self, part: Arrays | Files) -> float:
        """Error in percent over all processes' parts of a split."""
        counts = [0, 0]
        if len(part):
            score = score_split(self.net, part, self.data, self.recipe, self.device, precision=self.precision)
            counts = [score.wrong, score.images]
        wrong, images = distributed.sum_over_ranks(torch.tensor(counts, device=self.device)).tolist()
        return 100.0 * wrong / images

    def _pictures(self, count: int) -> Iterator[Tensor]:
        """Images of the `count` mini-batches that training would see next."""
        for batch in islice(self.feed.epoch(self.epoch), count):
            yield batch.images.contiguous(memory_format=torch.channels_last)

    @contextmanager
    def _tested(self) -> Iterator[None]:
        """Within it the network is as it is tested after an epoch: with moments of its own weights, like the finished one."""
        with ExitStack() as stack:
            if self.settings.moments == "reestimate":
                pictures = self._pictures(moment_batches(self.feed.steps))
                with autocast(self.precision, self.device):
                    stack.enter_context(reestimated(self.net, pictures))
            yield

    def _images_between(self, first: int, last: int) -> int:
        """Images of the mini-batches `first` .. `last` - 1 of an epoch."""
        return min(last * self.settings.batch, self.feed.count) - min(first * self.settings.batch, self.feed.count)

    # -- state -----------------------------------------------------------------------------------

    def _request_stop(self) -> None:
        if self.stop:  # asked for the second time: now
            raise KeyboardInterrupt
        self.stop = True

    def _model_content(self) -> dict[str, Any]:
        return {
            "name": self.recipe.name, "recipe": self.recipe.to_toml(), "classes": list(self.data.classes),
            "channels": self.data.channels, "size": self.size, "model": self.net.state_dict(),
        }  # fmt: skip

    def _save(self) -> None:
        random = distributed.gather_objects(checkpoint.random_state())
        sums = distributed.gather_objects(self.sums.cpu())
        begun = time.monotonic()
        if self.main:
            self.folder.save_checkpoint(self._content(sums, random))
        self.saved_at = time.monotonic()
        self.saving_took = self.saved_at - begun

    def _content(self, sums: list[Tensor], random: list[dict[str, Any]]) -> dict[str, Any]:
        """All that determines the rest of the run; `sums` and `random` are those of every process."""
        return {
            **self._model_content(), "optimizer": self.optimizer.state_dict(), "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch, "sums": sums, "signs": self.signs, "best": self.best, "random": random,
            "machine": self._machine(),
        }  # fmt: skip

    def _machine(self) -> dict[str, Any]:
        """What bits may depend on."""
        kind = {"device": self.device.type, "cpu": cpu_model()}
        if self.device.type == "cuda":
            kind["gpu"] = torch.cuda.get_device_name(self.device)
        return {
            **kind, "threads": torch.get_num_threads(), "torch": str(torch.__version__), "precision": self.precision,
            "world": self.rank.world,
        }  # fmt: skip

    def _restore(self, content: dict[str, Any]) -> None:
        if not same_path(recipes.parse(content["recipe"], self.recipe.name), self.recipe):
            raise OnebitError(f"{self.folder.path}: its checkpoint belongs to another recipe; choose another --out")
        begun = content["epoch"] + (content["step_in_epoch"] > 0)
        if begun > self.settings.epochs:
            raise OnebitError(
                f"epochs: {self.settings.epochs}, but {self.folder.path} is in epoch {begun} already; give {begun} or more"
            )
        self.net.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.epoch, self.step_in_epoch, self.best = content["epoch"], content["step_in_epoch"], content["best"]
        self.signs = {name: signs.to(self.device) for name, signs in content["signs"].items()}
        before = content["machine"]
        # The precision it was begun in, but never one that this machine would only emulate unless the recipe says so.
        if not (self.settings.precision == "auto" and before["precision"] == "bf16"):
            self.precision = before["precision"]
        if changed := [k for k, v in self._machine().items() if before.get(k) != v]:
            old = ", ".join(f"{k} {before.get(k)}" for k in changed)
            new = ", ".join(f"{k} {self._machine()[k]}" for k in changed)
            self.progress.say(f"begun with {old}, goes on with {new}: bits may differ from an uninterrupted run")
        if before["world"] == self.rank.world:
            self.sums = content["sums"][self.rank.rank].to(self.device)
            checkpoint.set_random_state(content["random"][self.rank.rank])
        elif self.main:
            self.sums = torch.stack(content["sums"]).sum(0).to(self.device)

    def _about(self) -> dict[str, Any]:
        """What a resumed run needs to know, and who runs it."""
        return {
            "recipe": self.recipe.name, "root": str(self.root.absolute()) if self.root else None, "device": str(self.device),
            "threads": torch.get_num_threads(), "start": str(self.start.absolute()) if self.start else None,
            "pid": os.getpid(), "onebit": __version__,
        }  # fmt: skip

    def _introduce(self) -> None:
        where = f"{self.precision} on {self.device}" + (f" x {self.rank.world}" if self.rank.world > 1 else "")
        if self.main:
            lines = introduce(
                self.recipe, self.net, data=self.data.name, channels=self.data.channels, size=self.size, device=where
            )
            for line in lines:
                self.progress.say(line)
        pace = measure(self.net, self.feed, self.recipe, self.precision, self.rank)
        tested = len(self.test_share) + (0 if self.held_share is None else len(self.held_share))
        self.progress.say(expect(pace, self.recipe, self.feed, epoch=self.epoch, tested=tested, world=self.rank.world))


@contextmanager
def stopping(request: Callable[[], None]) -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM call `request`; afterwards they do what they did before."""
    try:
        before = {s: signal.signal(s, lambda _number, _frame: request()) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals go elsewhere
        before = {}
    try:
        yield
    finally:
        for s, old in before.items():
            signal.signal(s, old)
