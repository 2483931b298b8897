"""The trainer: one run of a recipe, from raw pixels to a finished network in a run folder.

recipe.toml      every field of the experiment       metrics.jsonl   one line an epoch
checkpoint.pt    all that determines the rest        model.pt        the finished network
run.json         data folder, device, threads        result.json     test error and costs
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit import __version__
from onebit import recipe as recipes
from onebit.binary import binary_layers, latent_weight
from onebit.data.augment import Augment
from onebit.data.dataset import Arrays, Files, split_holdout
from onebit.data.feed import Batch, make_feed
from onebit.errors import OnebitError
from onebit.networks import build
from onebit.networks.summary import summarize
from onebit.networks.wide_resnet import describe
from onebit.recipe import Recipe
from onebit.train import checkpoint, distributed
from onebit.train.diagnose import non_finite
from onebit.train.evaluate import load_data, score_split
from onebit.train.moments import reestimate
from onebit.train.optimizer import SGD
from onebit.train.precision import autocast, cpu_model, resolve
from onebit.train.progress import Metrics, Progress, clock
from onebit.train.schedule import learning_rate, restart_epochs

CHECK_EVERY = 20  # mini-batches between looks at the loss: each look makes the device wait


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
        start: run folder or checkpoint whose weights are the starting point (a new classifier where classes differ).
        resume: go on from the checkpoint in `out`.

    Raises:
        OnebitError: `out` holds another run; data missing; the loss is not finite (with a diagnosis).
    """
    if threads:
        torch.set_num_threads(threads)
    where = pick_device(device)
    rank = distributed.setup(where)
    try:
        run = Run(recipe, Path(out), root, where, rank, start, quiet, resume)
        return run.go()
    finally:
        distributed.cleanup()


def resume(
    out: Path,
    *,
    quiet: bool = False,
    root: Path | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Go on with the run in folder `out`, with its own recipe, data folder, device and threads unless told otherwise."""
    out = Path(out)
    try:
        about = json.loads((out / "run.json").read_text())
        recipe = recipes.parse((out / "recipe.toml").read_text(), about["recipe"])
    except (OSError, ValueError, KeyError) as error:
        raise OnebitError(
            f"{out}: is not a run folder ({error}); start one with `onebit train RECIPE --out {out}`"
        ) from error
    folder = root or (Path(about["root"]) if about.get("root") else None)
    start = Path(about["start"]) if about.get("start") else None
    return train(
        recipe, out, root=folder, device=device or about.get("device"), threads=threads or about.get("threads"),
        start=start, quiet=quiet, resume=True,
    )  # fmt: skip


def pick_device(name: str | None) -> torch.device:
    """The named device, or the best one present: CUDA, then MPS, then CPU."""
    if name is None:
        mps = getattr(torch.backends, "mps", None)
        name = "cuda" if torch.cuda.is_available() else "mps" if mps and mps.is_available() else "cpu"
    try:
        chosen = torch.device(name)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise OnebitError(
            f"device {name!r} is not usable here ({str(error).splitlines()[0]}); try --device cpu"
        ) from error
    return chosen


class Run:
    """One training run: what a checkpoint holds is in the attributes that `_content` lists."""

    def __init__(
        self, recipe: Recipe, out: Path, root: Path | None, device: torch.device, rank: distributed.Rank,
        start: Path | None, quiet: bool, resume: bool,
    ) -> None:  # fmt: skip
        self.recipe, self.out, self.device, self.rank = recipe, out, device, rank
        self.settings = recipe.training
        self.main = rank.rank == 0
        self.quiet = quiet or not self.main
        self.root = root
        self.precision = resolve(self.settings.precision, device)
        self.metrics = Metrics(out / "metrics.jsonl")
        self.seconds = 0.0
        if not resume and (out / "run.json").exists():
            raise OnebitError(f"{out}: already holds a run; `onebit resume {out}`, or choose another --out")
        if self.settings.select == "best" and not recipe.data.holdout:
            raise OnebitError(
                "select = 'best' needs held-out images to choose by: --set holdout=5000 (never the test set)"
            )
        data = load_data(recipe, root)
        self.data = data
        self.held: Arrays | Files | None = None
        if recipe.data.holdout:
            self.data, self.held = split_holdout(data, recipe.data.holdout, self.settings.seed)
        self.size = self.data.size
        checkpoint.seed_everything(self.settings.seed)
        net = build(recipe.network, classes=len(data.classes), channels=data.channels, size=self.size)
        self.net = net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = SGD(
            parameter_groups(self.net, self.settings.weight_decay), self.settings.lr, self.settings.momentum,
            form=self.settings.momentum_form,
        )  # fmt: skip
        d = recipe.data
        self.feed = make_feed(
            self.data.train, device=device, batch=self.settings.batch, seed=self.settings.seed, last=self.settings.last_batch,
            augment=Augment(flip=d.flip, pad=d.pad, pad_fill=d.pad_fill, cutout=d.cutout, cutout_fill=d.cutout_fill),
            size=self.size, channels=data.channels, workers=d.workers, rank=rank.rank, world=rank.world,
        )  # fmt: skip
        self.epoch, self.step_in_epoch = 0, 0
        self.sums = torch.zeros(3, dtype=torch.float32, device=device)  # loss, wrong, images of the epoch so far
        self.signs = self._signs()
        self.best: dict[str, Any] = {}
        if resume and (out / "checkpoint.pt").exists():
            self._restore(checkpoint.load(out / "checkpoint.pt"))
        elif start is not None:
            self._start_from(start)
        self.start = start
        self.net = distributed.convert_batchnorm(self.net) if rank.world > 1 else self.net
        trained = torch.compile(self.net) if self.settings.compile else self.net
        self.model: nn.Module = distributed.wrap(trained, rank)  # type: ignore[arg-type]
        self.stop = False

    # -- the run ---------------------------------------------------------------------------------

    def go(self) -> dict[str, Any]:
        """Train to the end, finish the moments, test, and write the results."""
        epochs, steps = self.settings.epochs, self.feed.steps
        if self.main:
            self.out.mkdir(parents=True, exist_ok=True)
            self._write_start()
            self.metrics.keep_until(self.step)
        self.progress = Progress(epochs * steps, quiet=self.quiet)
        restarts = set(restart_epochs(self.settings))
        self.saved_at = time.monotonic()
        earlier = [line["seconds"] for line in self.metrics.read() if "seconds" in line]
        self.seconds = earlier[-1] if earlier else 0.0
        with self._ctrl_c():
            while self.epoch < epochs:
                if self.step_in_epoch == 0 and self.epoch in restarts and self.settings.momentum_at_restart == "zero":
                    self.optimizer.zero_momentum()
                self._train_epoch(epochs, steps)
        return self._finish()

    @property
    def step(self) -> int:
        """Mini-batches done."""
        return self.epoch * self.feed.steps + self.step_in_epoch

    def _train_epoch(self, epochs: int, steps: int) -> None:
        self.model.train()
        begun, first = time.monotonic(), self.step_in_epoch
        for batch in self.feed.epoch(self.epoch, self.step_in_epoch):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.settings, self.step, steps)
            self._train_step(batch)
            self.step_in_epoch += 1
            look = self.step_in_epoch % CHECK_EVERY == 0 or self.step_in_epoch == steps
            save = self._save_is_due(look)
            if look or save:
                self._look(batch, begun, first, epochs)  # before saving: no checkpoint of a network that is lost
            if save:
                self._save()
                if self.stop:
                    raise Interrupted(f"stopped at epoch {self.epoch + 1}, saved; go on with: onebit resume {self.out}")
        self._end_epoch(epochs, steps, begun, first)

    def _save_is_due(self, look: bool) -> bool:
        """Ctrl-C, or enough minutes since the last checkpoint. Several processes decide together, at every look."""
        due = self.stop or time.monotonic() - self.saved_at > 60 * self.settings.checkpoint_minutes
        if self.rank.world == 1:
            return due
        if not look:
            return False
        votes = distributed.sum_over_ranks(torch.tensor([self.stop, due], dtype=torch.int32, device=self.device))
        self.stop = bool(votes[0])
        return bool(votes.any())

    def _train_step(self, batch: Batch) -> None:
        x = batch.images.contiguous(memory_format=torch.channels_last)
        with autocast(self.precision, self.device):
            logits = self.model(x)
        loss = F.cross_entropy(logits.float(), batch.labels, reduction="sum")
        self.optimizer.zero_grad(set_to_none=True)
        # DDP averages gradients over ranks: times world, over the global batch, makes that the gradient of the mean loss
        (loss * (self.rank.world / batch.total)).backward()
        self.optimizer.step()
        wrong = (logits.detach().argmax(1) != batch.labels).sum()
        self.sums += torch.stack([loss.detach(), wrong.float(), torch.full_like(loss, len(batch.labels)).detach()])

    def _look(self, batch: Batch, begun: float, first: int, epochs: int) -> None:
        loss, wrong, images = self.sums.tolist()
        if not loss < float("inf"):  # NaN too
            with autocast(self.precision, self.device):
                raise OnebitError(
                    non_finite(self.net, batch.images, self.epoch + 1, self.step, self.optimizer.param_groups[0]["lr"])
                )
        speed = (self.step_in_epoch - first) * self.settings.batch / (time.monotonic() - begun)
        self.progress.step(self.step, self.epoch + 1, epochs, loss / images, 100 * wrong / images, speed)

    def _end_epoch(self, epochs: int, steps: int, begun: float, first: int) -> None:
        lr = float(self.optimizer.param_groups[0]["lr"])
        loss, wrong, images = distributed.sum_over_ranks(self.sums.clone()).tolist()
        seconds = time.monotonic() - begun
        self.epoch, self.step_in_epoch = self.epoch + 1, 0
        signs = self._signs()
        flips = {name: float((signs[name] != before).float().mean()) for name, before in self.signs.items()}
        line = {
            "kind": "epoch", "epoch": self.epoch, "step": self.step, "loss": loss / images, "train_error": 100 * wrong / images,
            "test_error": self._error(self.data.test), "holdout_error": self._error(self.held) if self.held is not None else None,
            "lr": lr, "images_per_second": (steps - first) * self.settings.batch / seconds, "flip_rate": flips,
        }  # fmt: skip
        if self.settings.select == "best" and line["holdout_error"] <= self.best.get("holdout_error", 100.0):
            self.best = {
                "holdout_error": line["holdout_error"],
                "epoch": self.epoch,
                "model": checkpoint.to_cpu(self.net.state_dict()),
            }
        self.seconds += time.monotonic() - begun
        line["seconds"] = self.seconds
        self.signs = signs
        self.sums.zero_()
        self.progress.epoch(self.epoch, epochs, line, self.step)
        if self.main:
            self.metrics.append(line)
        self._save()

    def _error(self, split: Any) -> float:
        return score_split(self.net, split, self.data, self.recipe, self.device, precision=self.precision).error

    def _finish(self) -> dict[str, Any]:
        if self.best:
            self.net.load_state_dict(self.best["model"])
        if self.settings.moments == "reestimate":
            self.progress.say("re-estimating batch-norm moments on one augmented pass over the training set")

            def images() -> Iterator[Tensor]:
                for batch in self.feed.epoch(self.settings.epochs):
                    yield batch.images.contiguous(memory_format=torch.channels_last)

            with autocast(self.precision, self.device):
                reestimate(self.net, images())
        final = score_split(self.net, self.data.test, self.data, self.recipe, self.device, crops=self.recipe.data.crops)
        if not self.main:
            return {}
        checkpoint.save(self.out / "model.pt", self._model_content())
        costs = summarize(self.net, channels=self.data.channels, size=self.size)
        result = {
            "recipe": self.recipe.name, "title": self.recipe.title, "label": describe(self.recipe.network),
            "weights": self.recipe.network.weights, "data": self.data.name, "seed": self.settings.seed,
            "epochs": self.settings.epochs, "error": final.error, "top5_error": 100 * final.wrong_top5 / final.images,
            "test_images": final.images, "wrong": final.wrong, "params": costs.params, "packed_bytes": costs.packed_bytes,
            "float_bytes": costs.float_bytes, "macs": costs.macs, "seconds": self.seconds, "precision": self.precision,
            "device": str(self.device), "cpu": cpu_model(), "threads": torch.get_num_threads(), "torch": str(torch.__version__),
            "onebit": __version__, "selected_epoch": self.best.get("epoch"), "published": dict(self.recipe.published),
        }  # fmt: skip
        checkpoint.write_text(self.out / "result.json", json.dumps(result, indent=1) + "\n")
        self.progress.say(f"test error {final.error:.2f} % ({final.wrong} of {final.images}) -> {self.out}")
        return result

    # -- state -----------------------------------------------------------------------------------

    def _signs(self) -> dict[str, Tensor]:
        return {name: (latent_weight(layer).detach() >= 0).cpu() for name, layer in binary_layers(self.net).items()}

    def _model_content(self) -> dict[str, Any]:
        return {
            "name": self.recipe.name, "recipe": self.recipe.to_toml(), "classes": list(self.data.classes),
            "channels": self.data.channels, "size": self.size, "model": self.net.state_dict(),
        }  # fmt: skip

    def _save(self) -> None:
        random = distributed.gather_objects(checkpoint.random_state())
        sums = distributed.gather_objects(self.sums.cpu())
        self.saved_at = time.monotonic()
        if self.main:
            content = {
                **self._model_content(), "optimizer": self.optimizer.state_dict(), "epoch": self.epoch,
                "step_in_epoch": self.step_in_epoch, "sums": sums, "signs": self.signs, "best": self.best, "random": random,
                "machine": self._machine(),
            }  # fmt: skip
            checkpoint.save(self.out / "checkpoint.pt", content)

    def _machine(self) -> dict[str, Any]:
        return {
            "cpu": cpu_model(), "device": self.device.type, "threads": torch.get_num_threads(), "torch": str(torch.__version__),
            "precision": self.precision, "world": self.rank.world,
        }  # fmt: skip

    def _restore(self, content: dict[str, Any]) -> None:
        if recipes.parse(content["recipe"], self.recipe.name) != self.recipe:
            raise OnebitError(f"{self.out}: its checkpoint belongs to another recipe; choose another --out")
        self.precision = content["machine"]["precision"]
        self.net.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.epoch, self.step_in_epoch, self.best = content["epoch"], content["step_in_epoch"], content["best"]
        self.signs = content["signs"]
        changed = [k for k, v in self._machine().items() if content["machine"].get(k) != v]
        if changed and not self.quiet:
            old = ", ".join(f"{k} {content['machine'].get(k)}" for k in changed)
            print(f"note: begun with {old}; the run goes on, but bits may differ from an uninterrupted one")
        if content["machine"]["world"] == self.rank.world:
            self.sums = content["sums"][self.rank.rank].to(self.device)
            checkpoint.set_random_state(content["random"][self.rank.rank])
        elif self.main:
            self.sums = torch.stack(content["sums"]).sum(0).to(self.device)

    def _start_from(self, path: Path) -> None:
        path = path / "model.pt" if path.is_dir() else path
        weights = checkpoint.load(path).get("model", {})
        own = self.net.state_dict()
        fits = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
        if not any(v.dim() > 1 for v in fits.values()):  # no convolution at all
            raise OnebitError(
                f"{path}: no layer fits this network; start from a run of the same family, depth and width"
            )
        self.net.load_state_dict({**own, **fits})
        self.signs = self._signs()
        new = [k for k in own if k not in fits]
        if not self.quiet:
            print(f"started from {path}: {len(fits)} tensors taken" + (f", new: {', '.join(new)}" if new else ""))

    def _write_start(self) -> None:
        checkpoint.write_text(self.out / "recipe.toml", self.recipe.to_toml())
        about = {
            "recipe": self.recipe.name, "root": str(self.root.absolute()) if self.root else None, "device": str(self.device),
            "threads": torch.get_num_threads(), "start": str(self.start.absolute()) if self.start else None,
            "pid": os.getpid(), "onebit": __version__,
        }  # fmt: skip
        checkpoint.write_text(self.out / "run.json", json.dumps(about, indent=1) + "\n")
        if not self.quiet:
            self._introduce()

    def _introduce(self) -> None:
        costs = summarize(self.net, channels=self.data.channels, size=self.size)
        progress = Progress(1)
        progress.say(
            f"{self.recipe.name}: {describe(self.recipe.network)} on {self.data.name}, {self.precision} on {self.device}"
        )
        progress.say(
            f"{costs.params:,} weights = {costs.packed_bytes / 1000:,.1f} kB packed ({costs.float_bytes / 1000:,.1f} kB as float), "
            f"{costs.macs / 1e6:,.1f} M multiply-accumulates a picture"
        )
        images = self.settings.epochs * self.feed.steps * self.settings.batch
        progress.say(
            f"{self.settings.epochs} epochs, {images:,} pictures: about {clock(images * self._seconds_an_image())}"
        )

    def _seconds_an_image(self) -> float:
        """Time of one training step on random pictures, on a copy: state and random generators stay as they are."""
        import copy

        net = copy.deepcopy(self.net)
        state = checkpoint.random_state()
        n = min(self.settings.batch, 125)
        x = torch.zeros(n, self.data.channels, self.size, self.size, device=self.device).contiguous(
            memory_format=torch.channels_last
        )
        times = []
        for _ in range(3):
            begun = time.monotonic()
            with autocast(self.precision, self.device):
                net(x).sum().backward()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.monotonic() - begun)
        checkpoint.set_random_state(state)
        return min(times) / n

    @contextmanager
    def _ctrl_c(self) -> Iterator[None]:
        """First Ctrl-C (or SIGTERM): finish the mini-batch, save, stop. A second one stops at once."""

        def handler(number: int, _frame: Any) -> None:
            if self.stop:
                raise KeyboardInterrupt
            self.stop = True

        try:
            before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread
            before = {}
        try:
            yield
        finally:
            for s, old in before.items():
                signal.signal(s, old)


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on convolution and linear weights (latent ones), none on batch-norm."""
    latent = {id(latent_weight(m)) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    decayed = [p for p in net.parameters() if id(p) in latent]
    rest = [p for p in net.parameters() if id(p) not in latent]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
