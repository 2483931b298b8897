"""Write the tables of docs/engine.md and README.md anew from results/engine/.

    python benchmarks/tables_engine.py

A table stands between `<!-- engine: NAME WHAT -->` and `<!-- end -->`: NAME.json of results/engine/, and WHAT is one of
`reach` (ours beside the fastest peer, tier by tier), `short` (the README's), `peers` (every engine, batch 1), `cost` (load
time, memory, file) and `machine` (one line on CPU, versions and method). `<!-- engine: instructions -->` has the counts of
instructions.json. A test checks that every table is what the JSON gives.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from summary import Row, find, ratio

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "engine"
PAGES = [ROOT / "docs" / "engine.md", ROOT / "README.md"]
BLOCK = re.compile(r"(<!-- engine: (\S+)(?: (\S+))? -->\n)(.*?)(<!-- end -->)", re.DOTALL)
NAMES = {
    "onebit": "onebit", "reference": "onebit (NumPy reference)", "openvino-int8": "OpenVINO int8", "ort-int8": "ONNX Runtime int8",
    "torch-int8": "torch int8", "openvino": "OpenVINO, its default", "ort": "ONNX Runtime float32", "torch-bf16": "torch bfloat16",
}  # fmt: skip
OURS = ("onebit", "reference")
TIERS = {"amx": "AMX", "avx512vnni": "AVX-512 VNNI", "avx2": "AVX2"}
MISSING = "| {} | not measured here | | | | | | |"


def load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def ms(x: float) -> str:
    return f"{x:.2f}" if x >= 1 else f"{x:.3f}"


def networks(data: dict[str, Any]) -> list[str]:
    """Those of 8 bits, by size."""
    return sorted((m for m in data["models"] if not m.endswith("-4bit")), key=lambda m: float(m.partition("-")[2]))


def line(what: str, one: Row | None, other: Row | None, detail: str = "") -> str:
    """A row of the reach table: how many times as long `other` takes as `one`."""
    if not one or not other:
        return MISSING.format(what)
    best = other["best_ms"] / one["best_ms"]
    disturbed = f"{one['disturbed'] + other['disturbed']} of {len(one['wall_ms']) + len(other['wall_ms'])}"
    name = NAMES[other["engine"]] + (f", batch {other['batch']}" if other["batch"] > 1 else "") + detail
    return (
        f"| {what} | {ms(one['median_ms'])} | {name} | {ms(other['median_ms'])} | **{ratio(other, one):.2f}** "
        f"| {ratio(other, one, 'cpu_ms'):.2f} | {best:.2f} | {disturbed} |"
    )


def fastest(table: Row | None) -> Row | None:
    ran = [r for r in table["contenders"] if "failed" not in r and r["engine"] not in OURS] if table else []
    return min(ran, key=lambda r: r["median_ms"]) if ran else None


def ours(table: Row | None, **wanted: Any) -> Row | None:
    return find(table, engine="onebit", **wanted) or find(table, engine="reference", **wanted)


def reach(data: dict[str, Any]) -> list[str]:
    tables = data["tables"]
    lines = [
        "| tier, network | onebit, ms | beside | its ms | times as fast | by CPU time | by best call | disturbed slices |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for tier, title in reversed(TIERS.items()):
        some = [m for m in networks(data) if f"{m} {tier}" in tables]
        for kind in ("", " throughput") if some else ():
            for m in some:
                table = tables.get(f"{m} {tier}{kind}")
                lines.append(line(f"{title}, {m}{',' * bool(kind)}{kind}", ours(table), fastest(table)))
        if not some:
            lines.append(MISSING.format(title))
    for tier, title in reversed(TIERS.items()):
        for name in (n for n in tables if n.endswith(f"-4bit {tier}")):
            model = name.partition(" ")[0]
            eight = model.removesuffix("-4bit")
            one, other = ours(tables[name], model=model), ours(tables[name], model=eight)
            lines.append(line(f"{title}, {eight} with 4-bit activations", one, other, " with 8-bit activations"))
    lower = tables.get("20-4 lower")
    peer = fastest(lower)
    for isa, title in (("sse2", "SSE2"), ("words", "plain C")):
        lines.append(line(f"{title}, 20-4", ours(lower, isa=isa), peer, " with AVX2"))
    for m in networks(data):
        if table := tables.get(f"{m} threads"):
            two = ours(table, threads=2)
            lines.append(line(f"2 threads, {m}", two, fastest(table), " with 2 threads"))
            lines.append(line(f"2 threads, {m}", two, ours(table, threads=1), " with 1 thread"))
    return lines


def peers(data: dict[str, Any]) -> list[str]:
    """Milliseconds a picture of every engine, batch 1, one thread."""
    columns = [(m, t) for t in reversed(TIERS) for m in networks(data) if f"{m} {t}" in data["tables"]]
    lines = ["| engine | " + " | ".join(f"{m}, {TIERS[t]}" for m, t in columns) + " |", "|---|" + "---|" * len(columns)]
    for engine, name in NAMES.items():
        found = [find(data["tables"][f"{m} {t}"], engine=engine) for m, t in columns]
        if any(found):
            lines.append(f"| {name} | " + " | ".join(ms(r["median_ms"]) if r else "-" for r in found) + " |")
    return lines


def short(data: dict[str, Any]) -> list[str]:
    """For the README: ours beside OpenVINO int8, batch 1, one thread."""
    lines = ["| network | instruction set | onebit, ms | OpenVINO int8, ms | times as fast |", "|---|---|---|---|---|"]
    for tier in TIERS:
        for m in networks(data):
            table = data["tables"].get(f"{m} {tier}")
            one, other = ours(table), find(table, engine="openvino-int8")
            if one and other:
                title = (
                    f"both {TIERS[tier]} only"
                    if tier == "avx2"
                    else f"the CPU's best: OpenVINO {TIERS[tier]}, onebit AVX2"
                )
                lines.append(
                    f"| {m} | {title} | {ms(one['median_ms'])} | {ms(other['median_ms'])} | **{ratio(other, one):.2f}** |"
                )
    return lines


def cost(data: dict[str, Any]) -> list[str]:
    files = {
        "onebit": "onebit",
        "openvino-int8": "openvino",
        "ort-int8": "int8.onnx",
        "openvino": "float.onnx",
        "ort": "float.onnx",
    }
    lines = ["| network | engine | bytes of the file | load, ms | memory, MB |", "|---|---|---|---|---|"]
    for m in networks(data):
        for r in data["cost"].get(m, {"contenders": []})["contenders"]:
            if "failed" in r:
                continue
            size = data["models"][m]["bytes"].get(files.get(r["engine"], ""))
            loading = (
                f"{1000 * r['load_s']:.1f}"
                if r["load_s"]
                else f"{1000 * r['import_and_load_s']:,.0f} (once, with import)"
            )
            cells = (m, NAMES[r["engine"]], f"{size:,}" if size else "-", loading, f"{r['memory_mb']:.1f}")
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def machine(data: dict[str, Any]) -> list[str]:
    tables = data["tables"].values()
    dates, commits = (sorted({t[k] for t in tables}) for k in ("date", "commit"))
    versions = next(m["versions"] for m in data["models"].values() if "versions" in m)
    made = [m for m in data["models"] if data["models"][m]["weights"] == "random"]
    rounds, seconds = (max(t[k] for t in tables) for k in ("rounds", "seconds"))
    text = (
        f"{data['cpu']['name']}, {data['cpu']['cpus']} CPUs, {dates[-1]}, commit {', '.join(commits)}; "
        + ", ".join(f"{k} {v}" for k, v in versions.items() if k != "numpy")
        + f". Medians of {rounds} rounds of {seconds} s each in turn."
    )
    if made:
        text += f" {', '.join(made)}: random weights, as speed does not depend on them."
    return [text]


def counts() -> list[str]:
    stored = json.loads((RESULTS / "instructions.json").read_text(encoding="utf-8"))
    isas = list(next(iter(stored.values()))["instructions"])
    lines = ["| compiler | " + " | ".join(isas) + " |", "|---|" + "---|" * len(isas)]
    for compiler, facts in stored.items():
        numbers = (f"{facts['instructions'][isa]:,}" for isa in isas)
        lines.append(f"| {compiler}, {facts['flags']} | {' | '.join(numbers)} |")
    return lines


WHAT = {"reach": reach, "short": short, "peers": peers, "cost": cost, "machine": machine}


def rewritten(text: str) -> str:
    """The page with every table as the JSON gives it."""

    def table(m: re.Match[str]) -> str:
        lines = counts() if m[2] == "instructions" else WHAT[m[3]](load(m[2]))
        return m[1] + "\n".join(lines) + "\n" + m[5]

    return BLOCK.sub(table, text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(rewritten(page.read_text(encoding="utf-8")), encoding="utf-8")
