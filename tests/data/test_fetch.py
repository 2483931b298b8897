"""Fetching from a local server that truncates, corrupts, and does or does not know ranges."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from onebit.data.fetch import Download, download, fetch
from onebit.errors import OnebitError

BODY = bytes(range(256)) * 2000
MD5 = hashlib.md5(BODY).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    body = BODY
    cut: int | None = None  # send only so many bytes, then close
    ranges = True

    def do_GET(self) -> None:
        start = 0
        asked = self.headers.get("Range")
        if asked and self.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(self.body):
                self.send_error(416)
                return
        self.send_response(206 if asked and self.ranges else 200)
        rest = self.body[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[type[Handler], str]]:
    handler = type("Own", (Handler,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as s:
        threading.Thread(target=s.serve_forever, args=(0.01,), daemon=True).start()
        yield handler, f"http://127.0.0.1:{s.server_address[1]}/"
        s.shutdown()


def test_truncated_download_resumes_to_the_same_bytes(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    handler, url = server
    handler.cut = 100_000
    with pytest.raises(OnebitError, match="broke off after 100,000"):
        download(url + "a.bin", tmp_path / "a.bin", MD5)
    assert not (tmp_path / "a.bin").exists()
    handler.cut = None
    seen: list[tuple[int, int | None]] = []
    download(url + "a.bin", tmp_path / "a.bin", MD5, lambda _f, done, total: seen.append((done, total)))
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert seen[0][0] > 100_000 and seen[-1] == (len(BODY), len(BODY))


def test_server_without_ranges_starts_over(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    handler, url = server
    handler.ranges = False
    (tmp_path / "a.bin.part").write_bytes(b"other bytes")
    download(url + "a.bin", tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_corrupt_download_is_deleted_and_never_taken(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    handler, url = server
    handler.body = BODY[:-1] + b"?"
    with pytest.raises(OnebitError, match="damaged"):
        download(url + "a.bin", tmp_path / "a.bin", MD5)
    assert list(tmp_path.iterdir()) == []


def test_server_error_is_one_line(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    _, url = server
    with pytest.raises(OnebitError) as caught:
        download(url.replace("http://127.0.0.1:", "http://127.0.0.1:1"), tmp_path / "a", MD5)
    assert "\n" not in str(caught.value)


def archive(names: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, body in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return out.getvalue()


def test_archive_is_unpacked_and_not_fetched_twice(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    handler, url = server
    handler.body = archive({"cifar-10-batches-bin/x.bin": b"abc"})
    sources = {"cifar10": (Download(url + "c.tar.gz", hashlib.md5(handler.body).hexdigest()),)}
    fetch("cifar10", tmp_path, sources=sources)
    assert (tmp_path / "cifar-10-batches-bin" / "x.bin").read_bytes() == b"abc"
    handler.body = b""
    fetch("cifar10", tmp_path, sources=sources)


def test_archive_that_leads_outside_is_refused(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    handler, url = server
    handler.body = archive({"../evil": b"abc"})
    sources = {"cifar10": (Download(url + "c.tar.gz", hashlib.md5(handler.body).hexdigest()),)}
    with pytest.raises(OnebitError, match="cannot be unpacked"):
        fetch("cifar10", tmp_path / "root", sources=sources)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("imagenet", "imagenet/train"), ("imagenet32", "val_data"), ("mnits", "'mnist'")]
)
def test_sets_behind_a_login_say_what_to_put_where(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(OnebitError, match=words):
        fetch(name, tmp_path)
