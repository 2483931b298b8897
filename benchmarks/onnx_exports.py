"""Exported ONNX files beside the same networks with plain float32 weights: bytes, load time, time a picture, answers.

    python benchmarks/onnx_exports.py speed 20-1 20-10=MODEL.onebit -o results/onnx/CPU.json
    python benchmarks/onnx_exports.py answers 20-1 20-10=MODEL.onebit --data DATA --images 2000 -o results/onnx/CPU.json
    python benchmarks/onnx_exports.py tables results/onnx/CPU.json

It needs onnx, onnxruntime and openvino, and onebit with its engine. A model is a path, or 20-1, the trained one of
tests/golden. All contenders of a network are alive at once, with one thread each, and compute in turn, a slice of --seconds,
for --rounds rounds; a ratio is the median over rounds of the quotient of two slices of one round, so that a busy neighbour
slows both. "plain" is the exported graph but for its weights, which are float32 tensors of +1 and -1. `tables` prints what
docs/export-onnx.md shows.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import statistics
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import onebit
from onebit.data import catalog
from onebit.export import builder
from onebit.export import onnx as exporter
from onebit.machine import cpu_model
from onebit.packed import file

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
BATCHES = (1, 16)
Run = Callable[[np.ndarray], np.ndarray]


class Plain(exporter._Float):
    """The float exporter with the weights of a usual file."""

    def unpacked(self, op: Any, flipped: Any = None) -> str:
        return self.graph.number("weights", builder.weights(self.program, op))


def onnx_runtime(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"pixels": images})[0]


def openvino(path: Path, batch: int, precision: str) -> Run:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    _, *rest = model.input(0).partial_shape
    model.reshape([batch, *rest])  # dynamic shapes are slower
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda images: request.infer([images])["logits"]


def exported(name: str, folder: Path) -> tuple[file.Packed, dict[str, Path]]:
    """A model by its name, and its files: float, int8, plain."""
    model = file.load(path_of(name))
    paths = {kind: folder / f"{label(name)}-{kind}.onnx" for kind in ("float", "int8", "plain")}
    exporter.export(model, paths["float"])
    exporter.export(model, paths["int8"], int8=True)
    builder.save(Plain(model.program).write(model), paths["plain"])
    return model, paths


def label(name: str) -> str:
    return name.partition("=")[0]


def path_of(name: str) -> Path:
    path = name.partition("=")[2]
    return Path(path) if path else GOLDEN / "cifar10-20-1.onebit"


def contenders(name: str, paths: dict[str, Path], batch: int) -> dict[str, Run]:
    runs: dict[str, Run] = {"onebit": onebit.load(path_of(name), threads=1).integers}
    runs |= {f"ONNX Runtime, {kind}": onnx_runtime(path) for kind, path in paths.items()}
    runs |= {f"OpenVINO f32, {kind}": openvino(path, batch, "f32") for kind, path in paths.items()}
    return runs | {"OpenVINO bf16, float": openvino(paths["float"], batch, "bf16")}


def speed(name: str, folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    model, paths = exported(name, folder)
    packed = len(file.encode(*model))
    plain = paths["plain"].read_bytes()
    sizes = {kind: path.stat().st_size for kind, path in paths.items()} | {"packed": packed}
    found: dict[str, Any] = {
        "bytes": sizes | {"plain, deflated": len(zlib.compress(plain, 9))},
        "load_ms": {},
        "time_ms": {},
    }
    for kind, path in paths.items():
        times = []
        for _ in range(7):
            begun = time.perf_counter()
            onnx_runtime(path)
            times.append(1000 * (time.perf_counter() - begun))
        found["load_ms"][f"ONNX Runtime, {kind}"] = round(statistics.median(times), 2)
    pictures = np.load(GOLDEN / "cifar10-test-64.npy")
    for batch in BATCHES:
        runs = contenders(name, paths, batch)
        times = {key: [] for key in runs}
        for round_ in range(rounds + 1):  # the first is not counted
            for key, run in runs.items():
                calls, end = [], time.perf_counter() + (seconds if round_ else 0.05)
                while not calls or time.perf_counter() < end:
                    begun = time.perf_counter()
                    run(pictures[:batch])
                    calls.append(1000 * (time.perf_counter() - begun) / batch)
                if round_:
                    times[key].append(float(f"{statistics.median(calls):.5g}"))
        found["time_ms"][str(batch)] = times
        for key, all_ in times.items():
            print(f"{label(name)}, batch {batch}: {key:24} {statistics.median(all_):8.3f} ms")
    return found


def answers(name: str, folder: Path, root: Path, count: int) -> dict[str, Any]:
    """Errors on CIFAR-10's first test pictures, and how many of them get the packed model's class."""
    _, paths = exported(name, folder)
    test = catalog.load("cifar10", root).test
    images = np.ascontiguousarray(test.images[:count].transpose(0, 2, 3, 1))
    found: dict[str, Any] = {"images": len(images)}
    want = onebit.load(path_of(name)).logits(images)
    runs: dict[str, Run] = {"packed model": lambda x: want}
    runs |= {f"ONNX Runtime, {kind}": onnx_runtime(paths[kind]) for kind in ("float", "int8")}
    for kind, hint in (("float", "f32"), ("float", "bf16"), ("int8", "f32"), ("int8", "bf16")):
        runs[f"OpenVINO {hint}, {kind}"] = openvino(paths[kind], 50, hint)
    for key, run in runs.items():
        parts = [run(images)] if key == "packed model" else [run(x).copy() for x in np.split(images, len(images) // 50)]
        got = np.concatenate(parts)
        wrong, same = got.argmax(1) != test.labels[:count], got.argmax(1) == want.argmax(1)
        rms = float(np.sqrt(((got - want) ** 2).mean()) / want.std())
        found[key] = {
            "error": round(100 * float(wrong.mean()), 4),
            "same": round(100 * float(same.mean()), 4),
            "rms": round(100 * rms, 3),
        }
        print(label(name), key, found[key])
    return found


def ratio(times: dict[str, list[float]], a: str, b: str) -> float:
    return statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))


def size_rows(found: dict[str, Any]) -> list[str]:
    """Bytes of each network in each form, and how much more than the packed file the two exports take."""
    rows = [
        "| network | packed | float | int8 | plain float weights | the same, deflated |",
        "|---|---|---|---|---|---|",
    ]
    for name, network in found["networks"].items():
        b = network["bytes"]
        more = {kind: f"{b[kind]:,} (+{100 * (b[kind] / b['packed'] - 1):.1f} %)" for kind in ("float", "int8")}
        rows.append(
            f"| {name} | {b['packed']:,} | {more['float']} | {more['int8']} | {b['plain']:,} | {b['plain, deflated']:,} |"
        )
    return rows


def load_rows(found: dict[str, Any]) -> list[str]:
    """Milliseconds that ONNX Runtime takes from the file to a session, the unpacking in it."""
    rows = ["| network | plain, ms | float, ms | int8, ms |", "|---|---|---|---|"]
    for name, network in found["networks"].items():
        times = (f"{network['load_ms'][f'ONNX Runtime, {kind}']:.3g}" for kind in ("plain", "float", "int8"))
        rows.append(f"| {name} | {' | '.join(times)} |")
    return rows


def time_rows(found: dict[str, Any]) -> list[str]:
    """Milliseconds a picture, and the ratio of the packed weights' time to that of plain ones."""
    rows = [
        "| network, batch | engine | plain, ms | float, ms | float / plain | int8, ms | onebit, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, network in found["networks"].items():
        for batch, times in network["time_ms"].items():
            for engine in ("ONNX Runtime", "OpenVINO f32"):
                plain, real, int8 = (f"{engine}, {kind}" for kind in ("plain", "float", "int8"))
                a, b, c, d = (f"{statistics.median(times[key]):.3g}" for key in (plain, real, int8, "onebit"))
                rows.append(f"| {name}, {batch} | {engine} | {a} | {b} | {ratio(times, real, plain):.3f} | {c} | {d} |")
    return rows


def answer_rows(found: dict[str, Any]) -> list[str]:
    rows = ["| network | engine, form | error % | same class as packed % | rms % |", "|---|---|---|---|---|"]
    for name, network in found["networks"].items():
        if given := network.get("answers"):
            rows += [
                f"| {name} | {key} | {row['error']:.2f} | {row['same']:.2f} | {row['rms']:.2f} |"
                for key, row in given.items() if key != "images"
            ]  # fmt: skip
    return rows


def tables(found: dict[str, Any]) -> list[str]:
    parts = (size_rows, load_rows, time_rows, answer_rows)
    return "\n\n".join("\n".join(rows(found)) for rows in parts).splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "answers", "tables"))
    parser.add_argument("models", nargs="+", metavar="MODEL", help="20-1 or NAME=PATH; for tables the JSON")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("onnx.json"), help="kept where it is there, and added to"
    )
    parser.add_argument("--work", type=Path, default=Path("build/onnx"), help="where the exports go")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=0.15)
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--images", type=int, default=10_000, help="a multiple of 50")
    o = parser.parse_args()
    if o.what == "tables":
        print("\n".join(tables(json.loads(Path(o.models[0]).read_text(encoding="utf-8")))))
        return
    found = json.loads(o.out.read_text(encoding="utf-8")) if o.out.exists() else {"networks": {}}
    found["cpu"] = {"name": cpu_model(), "cpus": os.cpu_count()}
    found["versions"] = {
        name: importlib.metadata.version(name) for name in ("onnx", "onnxruntime", "openvino", "numpy")
    }
    for name in o.models:
        network = found["networks"].setdefault(label(name), {})
        if o.what == "answers":
            network["answers"] = answers(name, o.work, o.data, o.images)
        else:
            network |= speed(name, o.work, o.rounds, o.seconds)
            network |= {"date": datetime.date.today().isoformat(), "rounds": o.rounds, "seconds": o.seconds}
            network["load_average"] = round(os.getloadavg()[0], 1)
        o.out.parent.mkdir(parents=True, exist_ok=True)
        o.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
