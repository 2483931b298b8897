"""The tables in the docs are what the committed runs give, and the committed runs are whole."""

from __future__ import annotations

import json
import re
import runpy
import statistics
from pathlib import Path
from typing import Any

import pytest

from onebit import recipe
from onebit.report.tables import result, run_recipe
from onebit.train.progress import Metrics

ROOT = Path(__file__).resolve().parents[1]
RUNS = sorted(p.parent for p in (ROOT / "results").glob("*/result.json"))

pytestmark = pytest.mark.skipif(not RUNS, reason="the logs of the results are in the repository, not in the sdist")


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tools" / "update_results.py"))


@pytest.mark.parametrize("page", ["docs/results.md", "docs/models.md", "README.md"])
def test_every_table_is_what_its_runs_give(page: str, tool: dict[str, Any]) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "<!-- results: " in text or "<!-- models: " in text
    assert tool["rewritten"](ROOT / page) == text, "run tools/update_results.py"


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_committed_run_is_whole_and_of_a_shipped_recipe(run: Path) -> None:
    found, own = result(run), run_recipe(run)
    lines = [line for line in Metrics(run / "metrics.jsonl").read() if line["kind"] == "epoch"]
    assert [line["epoch"] for line in lines] == list(range(1, own.training.epochs + 1))
    assert found["error"] == pytest.approx(100 * found["wrong"] / found["test_images"])
    assert found["cpu"] and found["torch"] and found["seed"] == own.training.seed
    # what differs from the shipped recipe is the seed, or stands with --set on the page, in the command of this run
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").replace("\\\n", " ")
    command = next((line for line in page.splitlines() if f"runs/{run.name.rpartition('-s')[0]}-s" in line), "")
    settings = re.findall(r"--set (\S+)", command) + [f"size={n}" for n in re.findall(r"--size (\d+)", command)]
    assert own == recipe.load(found["recipe"]).replace([f"seed={found['seed']}", *settings])
    assert "/" not in json.dumps(found).replace("images/s", ""), "a path of one machine"


@pytest.mark.parametrize("file", sorted((ROOT / "results" / "packed").glob("*.json")), ids=lambda file: file.stem)
def test_a_packed_model_keeps_its_promises(file: Path) -> None:
    facts = json.loads(file.read_text(encoding="utf-8"))
    assert facts["name"] == file.stem and facts["cpu"] and facts["images"] in (360, 10_000)
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    said = re.findall(r"[Nn]ot verified: `(.+?)`", page)
    assert facts["good"] == (file.stem not in said)
    if facts["good"]:
        assert (
            abs(facts["packed_error"] - facts["float_error"]) <= facts["bound"] and facts["rms"] <= facts["rms_bound"]
        )
    if (run := ROOT / "results" / file.stem).exists():
        assert facts["float_error"] == pytest.approx(result(run)["error"], abs=0.021)  # two pictures of 10,000
    if facts["one_bit_weights"] == 26_737_120:  # 20-10
        assert facts["bytes"] <= 3_400_000 and facts["agreement"] >= 99.5
    elif "20-1" in file.stem:
        assert facts["bytes"] <= 42_000
    assert "/" not in json.dumps(facts), "a path of one machine"


def test_the_speeds_on_the_page_are_those_of_the_log() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    folder = ROOT / "results" / "training-speed"
    log = json.loads((folder / "zen4-bf16.json").read_text(encoding="utf-8"))
    names = ("1-bit", "float", "1-bit compiled", "float compiled", "plain float32", "plain bf16")
    for row in log["rows"]:
        medians = {name: statistics.median(times) for name, times in row["times"].items()}
        fastest = min((name for name in medians if name.startswith("1-bit")), key=medians.__getitem__)

        def paired(one: str, other: str, times: dict[str, list[float]] = row["times"]) -> float:
            return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))

        shown = [f"{log['batch'] / medians[name]:.0f}" if name in medians else "-" for name in names]
        shown += [f"{paired(fastest, fastest.replace('1-bit', 'float')):.3f}", f"{paired('plain bf16', fastest):.2f}"]
        assert f"| {row['network']} | {' | '.join(shown)} | {row['1-bit_gmacs']:.0f} |" in page
        assert paired("1-bit", "float") <= 1.05  # what the project promises of a 1-bit step, measured then and there
    before = json.loads((folder / "zen4-float32.json").read_text(encoding="utf-8"))["rows"]
    speeds = [f"{125 / statistics.median(row['times']['1-bit']):.0f}" for row in before]
    assert f"{speeds[0]}, {speeds[1]} and {speeds[2]}\nimages/s at the three widths" in page
