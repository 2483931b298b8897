"""Training speed: 1-bit steps beside float ones and beside plain eager torch loops, interleaved in one run.

    python benchmarks/training_step.py [--widths 1 2 4] [--rounds 9] [--compile] [-o FILE.json]
    python benchmarks/training_step.py --device cuda --widths 4 10 --compile -o FILE.json

Contenders take turns, so that a busy neighbour slows all of them; medians are compared. On a GPU a turn is --steps
mini-batches, and the device is waited for only before and after. All get their pictures from memory: onebit's steps include
drawing and augmenting a mini-batch on the device, the plain loops have a DataLoader with worker processes (whose work a
CPU with more cores than training needs does meanwhile). The yardstick is one large matrix product in the same precision, timed in
turn with the steps: a training step is three convolutions' worth of multiply-accumulates (forward, and two gradients); all
else that it does is overhead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain_torch import Loop

import onebit
from onebit import networks, recipe
from onebit.data.augment import Augment
from onebit.data.dataset import Arrays
from onebit.data.feed import Batch, make_feed
from onebit.machine import cpu_model
from onebit.networks.summary import summarize
from onebit.train.device import pick_device
from onebit.train.optimizer import SGD, parameter_groups
from onebit.train.precision import resolve
from onebit.train.step import compiled, train_step

BATCH = 125


def pictures(count: int) -> Arrays:
    """Random pictures with random labels: speed does not depend on what they show."""
    random = np.random.default_rng(0)
    return Arrays(random.integers(0, 256, (count, 3, 32, 32), np.uint8), random.integers(0, 10, count))


def recipe_of(width: float, *settings: str) -> recipe.Recipe:
    return recipe.load("cifar10-20-4-1bit").replace([f"width={width}", *settings])


def contender(
    width: float, precision: str, split: Arrays, device: torch.device, *settings: str
) -> Callable[[], None]:  # fmt: skip
    """A function that makes the next training step of the recipe cifar10-20-4 at this width, with `settings`."""
    torch.manual_seed(0)
    chosen = recipe_of(width, *settings)
    training = chosen.training
    net = networks.build(chosen.network, classes=10, channels=3, size=32).to(device)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = SGD(
        parameter_groups(net, training.weight_decay), training.lr, training.momentum, fused=training.compile
    )
    feed = make_feed(
        split, device=device, batch=BATCH, augment=Augment(flip=True, pad=4, cutout=18), seed=0, size=32, channels=3
    )  # fmt: skip
    model = compiled(net, training)

    def endless() -> Iterator[Batch]:
        for epoch in range(1_000_000):
            yield from feed.epoch(epoch)

    batches = endless()

    def step() -> None:
        train_step(model, optimizer, next(batches), precision)

    return step


def matrix_product(precision: str, device: torch.device) -> tuple[Callable[[], None], float]:
    """A large matrix product and its multiply-accumulates."""
    n = 8192 if device.type == "cuda" else 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    out = torch.empty(n, n, dtype=dtype, device=device)

    def multiply() -> None:
        torch.mm(a, b, out=out)

    return multiply, float(n) ** 3


def seconds_of(step: Callable[[], None], count: int, device: torch.device) -> float:
    """Seconds a step, of `count` in a row; the device is waited for before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    for _ in range(count):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - begun) / count


def paired(a: list[float], b: list[float]) -> float:
    """The median of the ratios of neighbouring turns: what a slow second does to one it does to the other."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def measure(width: int, options: argparse.Namespace, precision: str, device: torch.device) -> dict[str, Any]:
    split = pictures(50_000 if device.type == "cuda" else 20 * BATCH)
    arrays = (split.images, split.labels)
    where = {"device": str(device), "workers": options.workers}
    steps: dict[str, Callable[[], None]] = {
        "1-bit": contender(width, precision, split, device),
        "float": contender(width, precision, split, device, "weights=float"),
    }
    if options.compile:
        steps["1-bit compiled"] = contender(width, precision, split, device, "compile=true")
        steps["float compiled"] = contender(width, precision, split, device, "weights=float", "compile=true")
        if device.type == "cuda":
            graphs = ("compile=true", "cuda_graphs=true")
            steps["1-bit graphs"] = contender(width, precision, split, device, *graphs)
            steps["float graphs"] = contender(width, precision, split, device, "weights=float", *graphs)
    steps["plain float32"] = Loop(width, *arrays, **where).step
    if precision == "bf16":
        steps["plain bf16"] = Loop(width, *arrays, bf16=True, **where).step
    multiply, macs_of_product = matrix_product(precision, device)
    steps["product"] = multiply
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():  # libraries load, kernels are chosen, graphs are recorded
        seconds_of(step, 2 if device.type == "cpu" else 12, device)
    for _ in range(options.rounds):
        for name, step in steps.items():
            times[name].append(seconds_of(step, options.steps, device))
    medians = {name: statistics.median(t) for name, t in times.items()}
    network = recipe_of(width).network
    with torch.device("meta"):
        macs = summarize(networks.build(network, classes=10, channels=3, size=32), channels=3, size=32).macs
    product = macs_of_product / medians.pop("product")
    baseline = "plain bf16" if precision == "bf16" else "plain float32"
    ours = {name: m for name, m in medians.items() if name.startswith("1-bit")}
    fastest = min(ours, key=ours.__getitem__)
    return {
        "network": f"20-{width}", "images_per_second": {name: BATCH / m for name, m in medians.items()},
        "1-bit over float": {
            name: paired(times[name], times[name.replace("1-bit", "float")]) for name in ours
        },
        "fastest": fastest, "baseline": baseline, "speed over baseline": paired(times[baseline], times[fastest]),
        "speed over float32": paired(times["plain float32"], times[fastest]),
        "product_gmacs": product / 1e9, "1-bit_gmacs": 3 * macs * BATCH / medians[fastest] / 1e9, "times": times,
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0]["images_per_second"])
    head = [
        "network", *(f"{name}, images/s" for name in names), "time 1-bit / float", f"fastest / {rows[0]['baseline']}",
        "GMAC/s", "of a matrix product",
    ]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for r in rows:
        cells = [
            r["network"], *(f"{r['images_per_second'][name]:.0f}" for name in names), f"{r['1-bit over float'][r['fastest']]:.3f}",
            f"{r['speed over baseline']:.2f}", f"{r['1-bit_gmacs']:.0f}", f"{100 * r['1-bit_gmacs'] / r['product_gmacs']:.0f} %",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=9, help="timed turns of each contender")
    parser.add_argument("--steps", type=int, help="mini-batches a turn; default: 1 on a CPU, 100 on a GPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--workers", type=int, help="worker processes of the DataLoader; default: 0 on a CPU, 8 on a GPU"
    )
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action="store_true", help="torch.compile too (and CUDA graphs on a GPU)")
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    on_gpu = device.type == "cuda"
    options.steps = options.steps or (100 if on_gpu else 1)
    options.workers = (8 if on_gpu else 0) if options.workers is None else options.workers
    precision = resolve(options.precision, device)
    about = {
        "cpu": cpu_model(), **({"gpu": torch.cuda.get_device_name(device)} if on_gpu else {}), "threads": options.threads,
        "workers": options.workers, "precision": precision, "rounds": options.rounds, "steps": options.steps, "batch": BATCH,
        "torch": str(torch.__version__), "onebit": onebit.__version__,
    }  # fmt: skip
    print(
        f"{about.get('gpu', about['cpu'])}, {options.threads} threads, {precision}; medians of {options.rounds} turns\n"
    )
    rows = []
    for width in options.widths:
        rows.append(measure(width, options, precision, device))
        if options.out:  # after each network: what was measured is there when the time is up
            options.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
