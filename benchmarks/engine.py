"""Speed of the engine beside its peers: the same networks, one process each, in turn.

    python benchmarks/engine.py --peers PEERS/bin/python --models 20-1 20-4 20-10=MODEL.onebit --out results/engine/CPU.json

All contenders of a table are alive at once and compute in turn, a slice of --seconds each, for --rounds rounds. A slice
counts as the median of its calls; a contender as the median of its slices; a ratio is the median over rounds of one slice's
time over that of the other contender in the same round, so that a busy neighbour slows both. Nothing is left out; how many
slices had a busy neighbour is told. `summary.py` says what the columns are, `tables_engine.py` writes docs/engine.md,
`plot_engine.py` draws it.

A model is a path, or one that make_models.py makes (random weights) but for 20-1, the trained one of tests/golden. What the
peers load is made by peers/prepare.py in --work, once a model.

Tiers: "avx2" limits both sides (peers by ONEDNN_MAX_CPU_ISA; ONNX Runtime, which cannot be limited, is not in it), as
"avx512vnni" does on CPUs with AMX. The CPU's own tier has no limits.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from summary import batch_times, show

from onebit.machine import cpu_model, cpuinfo

ROOT = Path(__file__).resolve().parent.parent
WORKER, PREPARE = (ROOT / "benchmarks" / "peers" / name for name in ("worker.py", "prepare.py"))
FLAGS = {"sse2", "ssse3", "avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8"}
TIERS = {"amx": "amx_int8", "avx512vnni": "avx512_vnni", "avx2": "avx2"}  # best first, and the flag that each needs
OURS = {"amx": "amx", "avx512vnni": "avx512", "avx2": "avx2"}  # the engine's name of each
PEERS = ("openvino-int8", "ort-int8", "torch-int8", "openvino", "ort", "torch-bf16")
BATCHES = (1, 8, 16, 64)


@dataclass(frozen=True)
class Contender:
    engine: str
    model: str
    isa: str | None = None
    threads: int = 1
    batch: int = 1


class Worker:
    """A contender's process; `ready` is its first line. Raises RuntimeError with its last words if it ends."""

    def __init__(self, contender: Contender, o: argparse.Namespace, loads: int = 1) -> None:
        c = contender
        ours = c.engine in ("onebit", "reference")
        self.times: list[dict[str, Any]] = []
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the worker)
        command: list[Any] = [
            sys.executable if ours else o.peers,
            WORKER,
            c.engine,
            o.paths[c.model],
            c.batch,
            c.threads,
        ]
        command += ["--cpus", ",".join(o.cpus[: c.threads]), "--loads", loads, "--folder", o.work / c.model]
        command += ["--isa", c.isa] if c.isa else []
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )  # fmt: skip
        self.ready = self._read()

    def slice(self, seconds: float) -> None:
        assert self.process.stdin
        print(seconds, file=self.process.stdin, flush=True)
        self.times.append(self._read())

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(" ".join(self.errors.read().split())[-300:].replace(str(ROOT), "."))
        return json.loads(line)

    def close(self) -> None:
        self.process.communicate()
        self.errors.close()


def measure(contenders: list[Contender], o: argparse.Namespace, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Times of all contenders, taken in turn; one that cannot run has its reason instead."""
    rows: list[dict[str, Any]] = [asdict(c) for c in contenders]
    workers: list[tuple[dict[str, Any], Worker]] = []
    try:
        for row, contender in zip(rows, contenders, strict=True):
            try:
                workers.append((row, Worker(contender, o)))
            except RuntimeError as error:
                row["failed"] = str(error)
        for round_ in range(rounds + 1):  # the first is not counted
            for _, worker in workers:
                worker.slice(seconds if round_ else min(seconds, 0.1))
                time.sleep(0.02)  # threads of the last one may still spin
    finally:
        for _, worker in workers:
            worker.close()
    for row, worker in workers:
        row["kernels"] = worker.ready["kernels"]
        row |= batch_times(worker.times[1:], row["batch"])
    return rows


def cost(model: str, o: argparse.Namespace) -> list[dict[str, Any]]:
    """Load time and memory of every engine, one after the other."""
    rows = []
    for engine in (o.ours, *PEERS):
        row: dict[str, Any] = {"engine": engine, "model": model}
        try:
            worker = Worker(Contender(engine, model), o, loads=1 if engine == "torch-int8" else o.loads + 1)
            worker.close()
            names = ("import_and_load_s", "load_s", "loads", "ten_pictures_s", "memory_mb")
            row |= {name: worker.ready[name] and round(worker.ready[name], 6) for name in names}
        except RuntimeError as error:
            row["failed"] = str(error)
        rows.append(row)
    return rows


def best_batch(contender: Contender, o: argparse.Namespace) -> Contender:
    """The contender with the batch at which it needs the least time a picture."""
    rows = measure([replace(contender, batch=b) for b in BATCHES], o, rounds=3, seconds=min(0.3, o.seconds))
    timed = [row for row in rows if "failed" not in row]
    return replace(contender, batch=min(timed, key=lambda row: row["median_ms"])["batch"] if timed else 1)


def tables(o: argparse.Namespace, flags: list[str]) -> dict[str, tuple[str, list[Contender]]]:
    """Name -> what it shows and its contenders, ours first. Throughput tables have the batch still to be found (0)."""
    found: dict[str, tuple[str, list[Contender]]] = {}
    here = [tier for tier, flag in TIERS.items() if flag in flags]

    def ours(model: str, tier: str) -> Contender:
        return Contender(o.ours, model, None if tier == here[0] else OURS[tier])

    eight = [m for m in o.models if not m.endswith("-4bit")]
    for model in eight:
        for tier in here:
            us = ours(model, tier)
            peers = [replace(us, engine=e, isa=us.isa and tier) for e in PEERS]
            if us.isa:
                peers = [c for c in peers if not c.engine.startswith(("ort", "torch-bf16"))]
            found[f"{model} {tier}"] = ("batch 1", [us, *peers])
            fast = [c for c in peers if c.engine in ("openvino-int8", "ort-int8")]
            found[f"{model} {tier} throughput"] = (
                "each at its best batch",
                [replace(c, batch=0) for c in (us, *fast)],
            )
        if 2 in o.threads:
            us = Contender(o.ours, model)
            two = [replace(us, threads=2, engine=e) for e in (o.ours, "openvino-int8", "ort-int8")]
            found[f"{model} threads"] = ("2 threads beside 1", [us, *two])
    if "20-4" in eight:
        us = Contender(o.ours, "20-4")
        lower = [replace(us, isa=isa) for isa in ("sse2", "words")]
        found["20-4 lower"] = (
            "lower tiers of ours, OpenVINO limited to AVX2",
            [*lower, replace(us, engine="openvino-int8", isa="avx2")],
        )
    for model in [m for m in o.models if m not in eight]:
        for tier in here:
            us = ours(model, tier)
            found[f"{model} {tier}"] = ("4-bit beside 8-bit", [us, replace(us, model=model.removesuffix("-4bit"))])
    return found


def cpu(name: str | None) -> dict[str, Any]:
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo(), re.MULTILINE)
    known = sorted(FLAGS & set(flags[1].split())) if flags else []
    return {"name": name or cpu_model(), "told": cpu_model(), "cpus": os.cpu_count(), "flags": known}


def commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "core", "src")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def prepared(o: argparse.Namespace) -> dict[str, Any]:
    """Models made and ready for the peers; what is known of each."""
    facts: dict[str, Any] = {}
    o.paths = {}
    for i, name in enumerate(o.models):
        o.models[i], _, path = name.partition("=")
        name = o.models[i]
        golden = ROOT / "tests" / "golden" / "cifar10-20-1.onebit"
        o.paths[name] = Path(path) if path else golden if name == "20-1" else o.work / f"{name}.onebit"
        made = not path and name != "20-1"
        if made:
            subprocess.run([sys.executable, ROOT / "benchmarks" / "make_models.py", o.work, name], check=True)
        facts[name] = {"weights": "random" if made else "trained"}
        done = o.work / name / "prepared.json"
        if not name.endswith("-4bit"):
            if not done.exists() or done.stat().st_mtime < o.paths[name].stat().st_mtime:
                subprocess.run([o.peers, PREPARE, o.paths[name], o.work / name], check=True)
            facts[name] |= json.loads(done.read_text(encoding="utf-8"))
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True, help="Python with the packages of peers/requirements.txt")
    parser.add_argument("--models", nargs="+", default=["20-1", "20-4", "20-4-4bit"], metavar="NAME[=PATH]")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--loads", type=int, default=50)
    parser.add_argument("--cpus", default="1,0", help="pin to the first of these, or to the first two")
    parser.add_argument("--only", default="", help="tables whose names have this regular expression; 'cost' is one")
    parser.add_argument("--ours", default="onebit", choices=("onebit", "reference"))
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "benchmarks")
    parser.add_argument("--name", help="of the CPU for people, where the system does not say enough")
    parser.add_argument("-o", "--out", type=Path, help="JSON; tables already in it stay unless measured anew")
    o = parser.parse_args()
    o.cpus = o.cpus.split(",")
    machine, models = cpu(o.name), prepared(o)
    before = json.loads(o.out.read_text(encoding="utf-8")) if o.out and o.out.exists() else {}
    command = re.sub(r"/\S*/", "", " ".join(sys.argv[1:]).replace(o.peers, "PEERS_PYTHON"))
    out = {
        "cpu": machine, "models": before.get("models", {}) | models, "tables": before.get("tables", {}),
        "cost": before.get("cost", {}),
    }  # fmt: skip

    def stamp() -> dict[str, Any]:
        return {
            "date": datetime.date.today().isoformat(), "commit": commit(), "command": command,
            "load_average": round(os.getloadavg()[0], 2),
        }  # fmt: skip

    def save() -> None:
        if o.out:
            o.out.parent.mkdir(parents=True, exist_ok=True)
            o.out.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")

    begun = time.monotonic()
    for name, (shows, contenders) in tables(o, machine["flags"]).items():
        if re.search(o.only, name):
            contenders = [best_batch(c, o) if c.batch == 0 else c for c in contenders]
            facts = {"shows": shows, **stamp(), "rounds": o.rounds, "seconds": o.seconds}
            out["tables"][name] = facts | {"contenders": measure(contenders, o, o.rounds, o.seconds)}
            print(show(name, out["tables"][name]), flush=True)
            save()
    for model in o.models:
        if re.search(o.only, "cost") and not model.endswith("-4bit"):
            out["cost"][model] = {**stamp(), "contenders": cost(model, o)}
            save()
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
