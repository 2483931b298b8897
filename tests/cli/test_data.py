"""``onebit data`` as a person types it."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onebit.cli import main
from onebit.data import catalog, fetch
from onebit.data.sheet import COLUMNS, NAME


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        main(["data", *map(str, arguments)])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return int(done.value.code or 0), printed.out, printed.err


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A folder of two classes: red pictures and blue ones, 30 x 20 pixels."""
    for name, colour, count in (("cats", (200, 0, 0), 4), ("dogs", (0, 0, 200), 6)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (30, 20), colour).save(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


def test_list_says_how_to_get_every_set(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "list")
    assert code == 0 and all(line[:12].strip() in {*catalog.ENTRIES, ""} for line in out.splitlines())
    for name, entry in catalog.ENTRIES.items():
        assert entry.title in out and entry.get in out
        assert (f"`onebit data fetch {name}`" in out) == (name in fetch.SOURCES)


def test_show_counts_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "show", "digits", "--json")
    about = json.loads(out)
    assert code == 0 and (about["train"], about["test"], about["size"], about["channels"]) == (1437, 360, 8, 1)
    assert sum(about["train_per_class"]) == 1437 and about["classes"] == list("0123456789")
    code, out, _ = call(capsys, "show", "digits")
    assert code == 0 and "1,437 training and 360 test images of 8x8x1" in out and "139 to 146" in out


def test_show_takes_a_folder_of_pictures(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "show", pets, "--json")
    named = json.loads(out)
    assert code == 0 and (named["train"], named["test"], named["size"]) == (8, 2, 64)
    assert named["classes"] == ["cats", "dogs"] and named["train_per_class"] == [3, 5]
    code, out, _ = call(capsys, "show", "folder", "--root", pets, "--size", 32, "--grey", "--json")
    assert code == 0 and json.loads(out) == {**named, "size": 32, "channels": 1}
    code, _, err = call(capsys, "show", pets / "cats")
    assert code == 2 and "at least two" in err
    code, _, err = call(capsys, "show", "pest", "--root", pets)
    assert code == 2 and "unknown" in err


def test_sheet_has_a_row_a_class(pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "new" / "sheet.png"
    code, _, _ = call(capsys, "show", pets, "--size", 32, "-o", sheet)
    pixels = np.asarray(Image.open(sheet).convert("RGB"))
    assert code == 0 and pixels.shape == (2 * 66, NAME + COLUMNS * 66, 3)
    for row, colour, count in ((0, (200, 0, 0), 3), (1, (0, 0, 200), 5)):
        line = pixels[row * 66 + 32, NAME + 32 :: 66]  # the middle of each picture
        assert (line[:count] == colour).all() and (line[count:] == 255).all()
        assert (pixels[row * 66 : row * 66 + 20, :NAME] < 100).any()  # the name
    code, _, err = call(capsys, "show", pets, "-o", tmp_path)
    assert code == 2 and "cannot be written" in err


def test_sheet_shows_the_pictures_of_a_set_and_what_a_recipe_makes_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, augmented = tmp_path / "a.png", tmp_path / "b.png"
    assert call(capsys, "show", "digits", "-o", plain)[0] == 0
    train = catalog.load("digits").train
    first = train.take(np.flatnonzero(train.labels == 7)[:1])
    tile = np.asarray(Image.open(plain).convert("L"))[7 * 66 : 7 * 66 + 64, NAME : NAME + 64]
    assert np.array_equal(tile[::8, ::8], first.images[0, 0])  # type: ignore[union-attr]
    recipe = tmp_path / "r.toml"
    recipe.write_text('base = "digits"\n[data]\ncutout = 15\ncutout_fill = "zero"\nflip = false\npad = 0\n')
    assert call(capsys, "show", "digits", "-o", augmented, "--recipe", recipe)[0] == 0
    a, b = (np.asarray(Image.open(p).convert("L"))[:, NAME:].astype(int) for p in (plain, augmented))
    assert ((b == a) | (b == 0)).all() and 0.3 < (b != a).sum() / (a > 0).sum() < 0.9


def test_sheet_of_photos_is_flipped_and_cropped_by_a_recipe(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "show", pets, "-o", tmp_path / "s.png", "--recipe", "photos")[0] == 0
    assert Image.open(tmp_path / "s.png").size == (NAME + COLUMNS * 66, 2 * 66)
    (pets / "cats" / "0.png").write_bytes(b"damaged")
    (pets / "onebit-split.json").write_text('{"test": ["cats/1.png", "dogs/1.png"]}')
    code, _, err = call(capsys, "show", pets, "-o", tmp_path / "t.png")
    assert code == 2 and "cats/0.png: not a readable picture" in err and not (tmp_path / "t.png").exists()


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A publisher of a set "mnist" of two files."""
    files = {"/a.bin": b"a" * 100_000, "/b.bin": b"b" * 10}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        downloads = [fetch.Download(url + name, hashlib.md5(body).hexdigest(), "mnist") for name, body in files.items()]
        monkeypatch.setitem(fetch.SOURCES, "mnist", tuple(downloads))
        yield files
        server.shutdown()


def test_fetch_brings_a_set_and_shows_progress(
    published: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEBIT_DATA", str(tmp_path / "root"))
    code, out, err = call(capsys, "fetch", "mnist")
    assert code == 0 and out == f"mnist: complete in {tmp_path / 'root'}\n" and "a.bin" in err and "b.bin" in err
    assert (tmp_path / "root" / "mnist" / "a.bin").read_bytes() == b"a" * 100_000
    published.clear()  # what is there is not asked for again
    assert call(capsys, "fetch", "mnist")[0] == 0


def test_fetch_says_what_is_wrong(
    published: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONEBIT_DATA", raising=False)
    code, _, err = call(capsys, "fetch", "mnist")
    assert code == 2 and "--root DIR" in err
    published["/b.bin"] = b"c" * 10
    code, _, err = call(capsys, "fetch", "mnist", "--root", tmp_path)
    assert code == 2 and "arrived damaged" in err and not (tmp_path / "mnist" / "b.bin").exists()
    for name, words in (("imagenet", "login"), ("mnits", "'mnist'"), ("folder", "a class")):
        code, _, err = call(capsys, "fetch", name)
        assert code == 2 and words in err
    code, out, _ = call(capsys, "fetch", "digits")
    assert code == 0 and "in the package" in out
