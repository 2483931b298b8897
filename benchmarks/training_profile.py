"""Where the time of a training step goes: convolutions, batch-norm, ReLU, signs, the update, augmentation, all else.

    python benchmarks/training_profile.py [--width 1] [--device cuda] [--set compile=true] [--top 12]

On a GPU the time is that of its kernels, beside the time that passed: what is missing between them is a device that waits
for Python. Compiled kernels are named by torch's compiler after the operations that they fuse.
"""

from __future__ import annotations

import argparse
import re
import time

import torch
from torch.profiler import ProfilerActivity, profile
from training_step import BATCH, contender, pictures

from onebit.machine import cpu_model
from onebit.train.device import pick_device
from onebit.train.precision import resolve

# The first pattern that is found in a name of an operation or kernel says what it is.
KINDS = {
    "convolution": r"conv|gemm|wgrad|dgrad|nchwToNhwc|sm\d\d_xmma|cutlass|mkldnn",
    "batch-norm": r"batch_norm|bn_|native_norm|welford",
    "ReLU": r"clamp_min|threshold|relu",
    "signs": r"ScaledSign|aten::(where|ge|new_full|neg)\b",
    "update": r"_foreach|optimizer|fused_update|aten::(add_|mul_)$",
    "skips and pools": r"avg_pool|constant_pad|aten::(add|pad)$",
    "augmentation": r"random|gather|clamp$|randint|index|bitwise|arange",
    "loss": r"nll|softmax|argmax|cross_entropy",
}


def kind_of(name: str) -> str:
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), "all else")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--top", type=int, default=12)
    options = parser.parse_args()
    device = pick_device(options.device)
    gpu = device.type == "cuda"
    precision = resolve(options.precision, device)
    step = contender(options.width, precision, pictures(20 * BATCH), device, *options.settings)
    for _ in range(12 if gpu else 3):
        step()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * gpu
    if gpu:
        torch.cuda.synchronize(device)
    with profile(activities=activities) as profiler:
        begun = time.perf_counter()
        for _ in range(options.steps):
            step()
        if gpu:
            torch.cuda.synchronize(device)
        passed = (time.perf_counter() - begun) / options.steps
    attribute = "self_device_time_total" if gpu else "self_cpu_time_total"
    events = [(e.key, e.count, getattr(e, attribute) / options.steps / 1000) for e in profiler.key_averages()]
    events = sorted((e for e in events if e[2] > 0), key=lambda e: -e[2])
    total = sum(ms for _, _, ms in events)
    name = torch.cuda.get_device_name(device) if gpu else cpu_model()
    print(f"20-{options.width} {' '.join(options.settings)} in {precision} on {name}:")
    print(f"{1000 * passed:.2f} ms a step under the profiler, {total:.2f} ms of it in operations\n")
    print("| kind | ms a step | share |\n|---|---|---|")
    sums: dict[str, float] = {}
    for key, _, ms in events:
        sums[kind_of(key)] = sums.get(kind_of(key), 0.0) + ms
    for kind, ms in sorted(sums.items(), key=lambda item: -item[1]):
        print(f"| {kind} | {ms:.2f} | {100 * ms / total:.1f} % |")
    print(f"\n| the {options.top} largest | kind | calls a step | ms a step |\n|---|---|---|---|")
    for key, count, ms in events[: options.top]:
        print(f"| `{key[:60]}` | {kind_of(key)} | {count / options.steps:g} | {ms:.2f} |")


if __name__ == "__main__":
    main()
