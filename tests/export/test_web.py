"""Exported pages: what lies in the folder, that nothing goes out, and the page's logits by node."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from onebit.data.pictures import fitted
from onebit.errors import OnebitError
from onebit.export import web
from onebit.packed import file
from packed.test_golden import GOLDEN, NAMES, pictures

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
FIT = """const fs = require("fs"), { fit } = require(process.argv[1]), all = fs.readFileSync(0), end = all.indexOf(10);
let at = end + 1;
for (const [width, height, channels, w, h, how] of JSON.parse(all.subarray(0, end))) {
  const data = new Uint8Array(all.subarray(at, (at += width * height * channels)));
  fs.writeSync(1, fit({ width, height, channels, data }, { width: w, height: h }, how));
}"""


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(name: str, tmp_path: Path) -> Path:
    web.export(file.load(GOLDEN / f"{name}.onebit"), tmp_path / "page")
    return tmp_path / "page"


def test_the_folder(name: str, folder: Path) -> None:
    """The page, the script and the model, each whole; the model in the page is the model."""
    assert {path.name for path in folder.iterdir()} == {"index.html", "onebit.js", "model.onebit"}
    content = (GOLDEN / f"{name}.onebit").read_bytes()
    assert (folder / "model.onebit").read_bytes() == content
    assert file.encode(*web.model(folder)) == content
    page = (folder / "index.html").read_text()
    assert base64.b64encode(content).decode() in page and "{{" not in page.replace("${{", "")
    assert base64.b64encode(web.WASM.read_bytes()).decode() in (folder / "onebit.js").read_text()


def test_nothing_is_asked_of_anybody(folder: Path) -> None:
    """No address in the page, and a policy that allows only the scripts and the style that are in it."""
    page = (folder / "index.html").read_text()
    assert not re.search(r"https?://|src=[\"']|@import|url\(", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy and policy[1].startswith("default-src 'none'; ") and "unsafe-inline" not in policy[1]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL) + re.findall(
        r"<style>(.*?)</style>", page, re.DOTALL
    )
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert len(hashes) == 3 and re.findall(r"'sha256-([^']*)'", policy[1]) == hashes


def test_names_cannot_leave_their_place(tmp_path: Path) -> None:
    """A data set's name with tags in it is text; class names are in the model alone."""
    program = file.load(GOLDEN / "digits.onebit").program
    classes = [f"</script><b>{k}" for k in range(10)]
    web.export(file.Packed(program, tuple(classes), {"data": '"><script>alert(1)</script>'}), tmp_path / "page")
    page = (tmp_path / "page" / "index.html").read_text()
    assert "alert(1)</script>" not in page and "<b>" not in page and page.count("<script") == 3


def test_the_core_is_small() -> None:
    assert web.WASM.stat().st_size <= 52_000


def test_only_an_earlier_export_is_replaced(folder: Path, tmp_path: Path) -> None:
    packed = web.model(folder)
    (folder / "more.txt").write_text("x")
    made = (folder / "index.html").read_bytes()
    (folder / "index.html").write_text("edited")
    web.export(packed, folder)
    assert (folder / "more.txt").read_text() == "x" and (folder / "index.html").read_bytes() == made
    with pytest.raises(OnebitError, match="is the folder you are in"):
        web.export(packed, Path())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    with pytest.raises(OnebitError, match="no earlier export"):
        web.export(packed, tmp_path / "mine")


def test_no_page(tmp_path: Path) -> None:
    with pytest.raises(OnebitError, match="cannot be read"):
        web.model(tmp_path)
    (tmp_path / "index.html").write_text("<html></html>")
    with pytest.raises(OnebitError, match="holds no model"):
        web.model(tmp_path)


@needs_node
def test_logits(name: str, folder: Path) -> None:
    """Those that are recorded for the golden pictures, which the reference made."""
    images, want = pictures(name), np.load(GOLDEN / f"{name}-logits.npy")
    got = web.logits(folder, images)
    assert got.dtype == np.int32 and np.array_equal(got, want)


@needs_node
def test_a_damaged_page(folder: Path) -> None:
    content = bytearray((folder / "model.onebit").read_bytes())
    content[-100] ^= 1
    page = (folder / "index.html").read_text()
    whole = base64.b64encode((folder / "model.onebit").read_bytes()).decode()
    (folder / "index.html").write_text(page.replace(whole, base64.b64encode(content).decode()))
    channels, height, width = file.load(folder / "model.onebit").program.input.shape
    with pytest.raises(OnebitError, match="the packed model is damaged or cut short"):
        web.logits(folder, np.zeros((1, height, width, channels), np.uint8))


def test_no_node(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OnebitError, match="needs node"):
        web.logits(folder, np.zeros((1, 1, 1, 1), np.uint8))


@needs_node
@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow fits tall pictures otherwise before 13")
@pytest.mark.parametrize("how", ["square", "crop"])
def test_pictures_are_fitted_as_pillow_does(how: str) -> None:
    """Pixel for pixel: noise of 250 sizes, from tall to wide and from one pixel on, made smaller and larger."""
    rng = np.random.default_rng(2)
    asked, sent, want = [], [], []
    for i in range(250):
        width, height = (int(x) for x in np.exp(rng.uniform(0, np.log(400), 2)))
        w, h = (int(x) for x in rng.integers(1, 65, 2))
        h = h if i % 3 == 0 else w
        pixels = rng.integers(0, 256, (height, width, 1 + i % 2 * 2), np.uint8)
        picture = io.BytesIO()
        Image.fromarray(pixels.squeeze(2) if i % 2 == 0 else pixels).save(picture, "PNG")
        asked.append((width, height, pixels.shape[2], w, h, how))
        sent.append(pixels.tobytes())
        want.append(fitted(picture, (pixels.shape[2], h, w), how))
    script = web.HERE / "page" / "onebit.js"
    given = json.dumps(asked).encode() + b"\n" + b"".join(sent)
    done = subprocess.run(["node", "-e", FIT, script], input=given, capture_output=True, check=True)
    got = np.split(np.frombuffer(done.stdout, np.uint8), np.cumsum([one.size for one in want]))
    assert [a for a, g, w in zip(asked, got, want, strict=False) if not np.array_equal(g, w.ravel())] == []
    assert len(got[-1]) == 0
