"""Exported pages: what lies in the folder, that nothing goes out, and the page's logits by node."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from onebit.errors import OnebitError
from onebit.export import web
from onebit.packed import file
from packed.test_golden import GOLDEN, NAMES, pictures

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


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
    assert web.WASM.stat().st_size <= 60_000


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
