"""``onebit bench`` as printed, and what it measures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from onebit.engine import library
from onebit.examine.bench import Row
from onebit.packed import file
from support.command import call

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
MODEL = GOLDEN / "cifar10-20-1.onebit"
needs_engine = pytest.mark.skipif(not library.available(), reason=library.missing())


@needs_engine
def test_a_row_is_a_layer_and_the_table_fits_100_columns(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "bench", MODEL, "--seconds", "0.1", "--threads", "1", "--isa", "words")
    lines = out.splitlines()
    assert (code, err) == (0, "") and max(map(len, lines[1:])) <= 110
    assert sum("conv 3x3" in line for line in lines) == 19
    assert ", words (also here: " in lines[1] and lines[1].endswith("1 thread")
    for words in (
        "GMAC/s",
        "of peak",
        "share",
        "pictures a second",
        "Loading",
        "MB of weights",
        "32x32x16",
        "conv 3x3 /2",
    ):
        assert words in out, words


@needs_engine
def test_json_is_all_of_it_and_a_run_folder_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copyfile(MODEL, tmp_path / "model.onebit")
    code, out, _ = call(capsys, "bench", tmp_path, "--seconds", "0", "--batch", "3", "--threads", "2", "--json")
    found = json.loads(out)
    assert code == 0 and found["file"] == str(tmp_path / "model.onebit")
    assert (found["threads"], found["batch"], found["runs"]) == (2, 3, 3)
    assert found["isa"] == found["isas"][0]
    program = file.load(MODEL).program
    assert sum(len(row["operations"]) for row in found["rows"]) == len(program.operations)
    assert [row["first"] for row in found["rows"][1:]] == [row["last"] + 1 for row in found["rows"][:-1]]
    assert (
        sum(row["macs"] for row in found["rows"])
        == found["macs"]
        == sum(map(program.macs, range(len(program.operations))))
    )
    assert 0 < found["best"] <= found["median"] and found["pictures_a_second"] == pytest.approx(1e6 / found["median"])
    assert all((row["of_peak"] or 0) > 0 for row in found["rows"] if row["kernel"].startswith("tables"))
    assert found["load_milliseconds"] > 0 and found["model_bytes"] > 0 and found["arena_bytes"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--isa", "sse9"], "isa=sse9: there is no instruction set of this name; here are "),
        (["--isa", "reference"], "isa reference: only the engine is timed; name one of "),
        (["--threads", "0"], "threads=0: 1 to 256"),
    ],
)
@needs_engine
def test_mistakes_get_one_clear_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "bench", MODEL, *options)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_without_the_engine_there_is_nothing_to_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ONEBIT_LIBRARY", "nowhere.so")
    library._open.cache_clear()
    code, out, err = call(capsys, "bench", MODEL)
    library._open.cache_clear()
    assert (code, out) == (2, "") and err.startswith("onebit: ONEBIT_LIBRARY=nowhere.so: no such file; install")


def test_speed_of_a_row_without_time_or_work() -> None:
    row = Row(0, 0, ("table",), (8, 8), 0, (1, 8, 8), "loops", 0.0, 0)
    assert (row.gmacs, row.text) == (0.0, "table")
    assert Row(1, 1, ("conv",), (1, 1), 1, (1, 8, 8), "loops", 2.0, 4000).gmacs == 2.0
