"""pack, verify, evaluate and import as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onebit import recipe
from onebit.packed import file

torch = pytest.importorskip("torch")

from onebit.train.trainer import train  # noqa: E402
from support.command import call  # noqa: E402
from support.published import network, published, written  # noqa: E402


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "small"
    train(recipe.load("digits").replace(["width=0.5", "depth=8", "epochs=3"]), out, quiet=True, threads=1)
    return out


def test_pack_verify_evaluate(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "digits.onebit"
    code, said, _ = call(capsys, "pack", run, "-o", out)
    assert code == 0 and f"{out}: {out.stat().st_size:,} bytes" in said and "temperature" in said
    assert out.read_bytes() == (run / "model.onebit").read_bytes()

    code, said, _ = call(capsys, "verify", run, out)
    assert code == 0 and said.count("test error") == 2 and said.endswith("verified\n")
    code, said, _ = call(capsys, "verify", run, out, "--data", "digits", "--images", 50, "--json")
    facts = json.loads(said)
    assert code == 0 and facts["good"] and facts["images"] == 50 and facts["agreement"] >= 96

    code, said, _ = call(capsys, "evaluate", out, "--data", "digits", "--json", "-o", tmp_path / "c.png")
    tested = json.loads(said)
    assert code == 0 and tested["images"] == 360 and (tmp_path / "c.png").stat().st_size > 1000
    assert tested["error"] == json.loads(call(capsys, "verify", run, out, "--json")[1])["packed_error"]
    assert tested["calibration"] < tested["calibration_plain"]
    code, said, _ = call(capsys, "evaluate", out)
    assert code == 0 and f"test error {tested['error']:.2f} %" in said and "calibration error" in said


def test_pack_says_what_it_wrote_as_json_and_without_pictures(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "plain.onebit"
    code, said, _ = call(capsys, "pack", run / "model.pt", "-o", out, "--no-temperature", "--bits", 4, "--json")
    facts = json.loads(said)
    assert code == 0 and facts["bytes"] == out.stat().st_size and facts["calibration"] is None
    assert facts["one_bit_weights"] == json.loads((run / "result.json").read_text())["params"]
    limits = {getattr(op, "limit", 15) for op in file.load(out).program.operations}
    assert limits == {15}


def test_verify_fails_where_the_answers_differ(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    settings = ["width=0.5", "depth=8", "epochs=1", "seed=1"]
    train(recipe.load("digits").replace(settings), other, quiet=True, threads=1)
    code, said, _ = call(capsys, "verify", other, run / "model.onebit")
    assert code == 1 and "NOT verified" in said


def test_an_author_s_file_is_imported_and_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONEBIT_DATA", raising=False)
    for layout in ("keras", "matlab", "plain"):
        mat = written(tmp_path, published(network(layout, 100), layout))
        out = tmp_path / f"{layout}.onebit"
        code, said, _ = call(capsys, "import", mat, "-o", out)
        assert code == 0 and f"{out.stat().st_size:,} bytes" in said and "note: data set cifar100: say where" in said
        packed = file.load(out)
        assert len(packed.classes) == 100 and packed.program.input.shape == (3, 32, 32)
        assert packed.about["data"] == "cifar100" and layout in packed.about["source"].lower()
    code, said, _ = call(capsys, "import", mat, "-o", out, "--json")
    assert code == 0 and json.loads(said)["one_bit_weights"] > 1000
