"""Training speed: 1-bit steps beside float ones and beside a plain eager torch loop, interleaved in one run.

    python benchmarks/training_step.py [--widths 1 2 4] [--steps 9] [--threads 2] [--precision auto] [-o FILE.json]

Every contender makes one step after the other in turn, so that a busy neighbour slows all of them; medians are compared.
onebit's steps include drawing and augmenting their mini-batch; the plain loop gets its pictures ready made. The yardstick
is one large matrix product in the same precision, timed in turn with the steps: a training step is three convolutions'
worth of multiply-accumulates (forward, and two gradients); all else that it does is overhead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from plain_torch import Loop

import onebit
from onebit import networks, recipe
from onebit.data.augment import Augment
from onebit.data.dataset import Arrays
from onebit.data.feed import make_feed
from onebit.machine import cpu_model
from onebit.networks.summary import summarize
from onebit.train.optimizer import SGD, parameter_groups
from onebit.train.precision import resolve
from onebit.train.step import train_step

BATCH = 125


def contender(width: int, weights: str, precision: str, split: Arrays) -> Callable[[], None]:
    """A function that makes the next training step of the recipe cifar10-20-4 at this width."""
    torch.manual_seed(0)
    chosen = recipe.load("cifar10-20-4-1bit").replace([f"width={width}", f"weights={weights}"])
    net = networks.build(chosen.network, classes=10, channels=3, size=32).to(memory_format=torch.channels_last)
    optimizer = SGD(parameter_groups(net, chosen.training.weight_decay), chosen.training.lr, chosen.training.momentum)
    feed = make_feed(
        split, device="cpu", batch=BATCH, augment=Augment(flip=True, pad=4), seed=0, size=32, channels=3
    )  # fmt: skip
    batches = (batch for epoch in range(1_000_000) for batch in feed.epoch(epoch))

    def step() -> None:
        train_step(net, optimizer, next(batches), precision)

    return step


def matrix_product(precision: str) -> tuple[Callable[[], None], float]:
    """A large matrix product and its multiply-accumulates."""
    n = 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.ones(n, n, dtype=dtype), torch.ones(n, n, dtype=dtype)
    out = torch.empty(n, n, dtype=dtype)

    def multiply() -> None:
        torch.mm(a, b, out=out)

    return multiply, float(n) ** 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=9, help="timed steps of each contender, after two that are not")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", default="auto")
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    precision = resolve(options.precision, torch.device("cpu"))
    random = np.random.default_rng(0)
    split = Arrays(random.integers(0, 256, (20 * BATCH, 3, 32, 32), np.uint8), random.integers(0, 10, 20 * BATCH))
    images, labels = torch.from_numpy(split.images[:BATCH]), torch.from_numpy(split.labels[:BATCH])
    multiply, macs_of_product = matrix_product(precision)
    rows = []
    for width in options.widths:
        plain = Loop(width)
        steps: dict[str, Callable[[], None]] = {
            "1-bit": contender(width, "1bit", precision, split),
            "float": contender(width, "float", precision, split),
            "plain": lambda plain=plain: plain.step(images, labels),  # type: ignore[misc]
            "product": multiply,
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for round_ in range(options.steps + 2):
            for name, step in steps.items():
                begun = time.perf_counter()
                step()
                if round_ >= 2:
                    times[name].append(time.perf_counter() - begun)
        medians = {name: statistics.median(t) for name, t in times.items()}
        # pairwise ratios of neighbouring steps: what a slow second does to one it does to the other
        paired = statistics.median(a / b for a, b in zip(times["1-bit"], times["float"], strict=True))
        network = recipe.load("cifar10-20-4-1bit").replace([f"width={width}"]).network
        with torch.device("meta"):
            macs = summarize(networks.build(network, classes=10, channels=3, size=32), channels=3, size=32).macs
        product = macs_of_product / medians["product"]
        rows.append({
            "network": f"20-{width}", **{f"{name}_images_per_second": BATCH / m for name, m in medians.items()},
            "1-bit_over_float": paired, "1-bit_over_plain": medians["plain"] / medians["1-bit"],
            "product_gmacs": product / 1e9, "1-bit_gmacs": 3 * macs * BATCH / medians["1-bit"] / 1e9, "times": times,
        })  # fmt: skip
    about = {
        "cpu": cpu_model(), "threads": options.threads, "precision": precision, "steps": options.steps, "batch": BATCH,
        "torch": str(torch.__version__), "onebit": onebit.__version__,
    }  # fmt: skip
    print(
        f"{about['cpu']}, {options.threads} threads, onebit in {precision}, plain loop in float32; median of {options.steps} steps\n"
    )
    print(
        "| network | 1-bit images/s | float images/s | plain torch images/s | time 1-bit / float | speed 1-bit / plain "
        "| 1-bit GMAC/s | of a matrix product |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for r in rows:
        print(
            f"| {r['network']} | {r['1-bit_images_per_second']:.0f} | {r['float_images_per_second']:.0f} "
            f"| {r['plain_images_per_second']:.0f} | {r['1-bit_over_float']:.3f} | {r['1-bit_over_plain']:.2f} "
            f"| {r['1-bit_gmacs']:.0f} | {100 * r['1-bit_gmacs'] / r['product_gmacs']:.0f} % |"
        )
    if options.out:
        options.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
