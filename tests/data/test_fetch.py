"""Fetching from a local server that truncates, corrupts, and does or does not know ranges."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import io
import re
import signal
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from onebit.data import catalog
from onebit.data.fetch import SOURCES, Download, download, fetch
from onebit.errors import OnebitError

BODY = bytes(range(256)) * 2000
MD5 = hashlib.md5(BODY).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    body = BODY
    cut: int | None = None  # send only so many bytes, then close
    ranges = True
    offset = 0  # a wrong server: what it sends begins so many bytes beside what was asked for
    says = "right"  # Content-Range: right, wrong, none
    length = True  # announce Content-Length
    chunked = False
    status = 0  # answer this error
    asked: list[str]

    def do_GET(self) -> None:
        range_ = self.headers.get("Range")
        self.asked.append(range_ or "all")
        if self.status:
            self.send_error(self.status)
            return
        start = 0
        partial = bool(range_ and self.ranges)
        if range_ and self.ranges:
            start = int(range_.removeprefix("bytes=").rstrip("-"))
            if start >= len(self.body):
                self.send_error(416)
                return
            start += self.offset
        self.send_response(206 if partial else 200)
        rest = self.body[start:]
        if partial and self.says != "none":
            shown = start if self.says == "right" else start - self.offset
            self.send_header("Content-Range", f"bytes {shown}-{len(self.body) - 1}/{len(self.body)}")
        if self.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            rest = b"%x\r\n" % len(rest) + rest + b"\r\n0\r\n\r\n"
        elif self.length:
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[type[Handler], str]]:
    handler = type("Own", (Handler,), {"asked": []})
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


def one_line(url: str, path: Path, md5: str = MD5) -> str:
    with pytest.raises(OnebitError) as caught:
        download(url, path, md5)
    assert "\n" not in str(caught.value) and not path.exists()
    return str(caught.value)


@pytest.mark.parametrize(
    "part", [BODY[:1000], BODY, BODY + b"too long", b"of another file", bytes(len(BODY)), b""], ids=range(6)
)
@pytest.mark.parametrize(
    "server_is",
    [
        {},
        {"ranges": False},
        {"says": "none"},
        {"length": False},
        {"chunked": True},
        {"offset": -7},  # says truly that it begins elsewhere
        {"offset": 7, "says": "wrong"},
        {"offset": 7, "says": "none"},
    ],
    ids=str,
)
def test_any_part_and_any_server_end_in_the_same_bytes(
    server: tuple[type[Handler], str], tmp_path: Path, part: bytes, server_is: dict[str, object]
) -> None:
    handler, url = server
    for name, value in server_is.items():
        setattr(handler, name, value)
    (tmp_path / "a.bin.part").write_bytes(part)
    download(url + "a.bin", tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == BODY and [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    assert len(handler.asked) <= 2
    if server_is == {"ranges": False}:
        assert len(handler.asked) == 1
    if part in (BODY[:1000], BODY) and not server_is:
        assert handler.asked == [f"bytes={len(part)}-"]  # gone on, not begun again


@pytest.mark.parametrize("server_is", [{"length": False}, {"chunked": True}], ids=str)
def test_an_end_without_announced_length_is_noticed(
    server: tuple[type[Handler], str], tmp_path: Path, server_is: dict[str, object]
) -> None:
    handler, url = server
    handler.cut = 200_000
    for name, value in server_is.items():
        setattr(handler, name, value)
    said = one_line(url + "a.bin", tmp_path / "a.bin")
    assert "damaged" in said or "broke off" in said


@pytest.mark.parametrize(("status", "words"), [(404, "404"), (500, "500"), (403, "403")])
def test_refusals_are_one_line_and_keep_the_part(
    server: tuple[type[Handler], str], tmp_path: Path, status: int, words: str
) -> None:
    handler, url = server
    handler.status = status
    (tmp_path / "a.bin.part").write_bytes(BODY[:5])
    assert words in one_line(url + "a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin.part").read_bytes() == BODY[:5]


def test_full_disk_is_named_and_what_came_is_kept(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs a limit on file sizes: POSIX only")
    _, url = server
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limits[1]))
        said = one_line(url + "a.bin", tmp_path / "a.bin")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "a.bin.part: cannot be written (File too large); make room" in said
    kept = (tmp_path / "a.bin.part").stat().st_size
    assert 0 < kept <= 150_000
    download(url + "a.bin", tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_root_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(OnebitError, match=r"root.*choose another --root"):
        fetch("mnist", tmp_path / "root")


def small_cifar(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """An archive of a CIFAR-10 with one picture a file."""
    entry = catalog.ENTRIES["cifar10"]
    monkeypatch.setitem(catalog.ENTRIES, "cifar10", dataclasses.replace(entry, counts=(5, 1)))
    files = {f"{n}.bin": bytes([3]) * 3073 for n in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")}
    files["batches.meta.txt"] = b"\n".join(b"abcdefghij"[i : i + 1] for i in range(10))
    return archive({f"cifar-10-batches-bin/{n}": b for n, b in files.items()})


def test_what_is_unpacked_is_left_alone_and_what_is_damaged_is_repaired(
    server: tuple[type[Handler], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, url = server
    handler.body = small_cifar(monkeypatch)
    sources = {"cifar10": (Download(url + "c.tar.gz", hashlib.md5(handler.body).hexdigest()),)}
    fetch("cifar10", tmp_path, sources=sources)
    at = tmp_path / "cifar-10-batches-bin"
    assert len(catalog.load("cifar10", tmp_path).train) == 5
    inode = (at / "data_batch_1.bin").stat().st_ino
    (tmp_path / "c.tar.gz").unlink()  # to save space
    fetch("cifar10", tmp_path, sources=sources)
    assert len(handler.asked) == 1 and (at / "data_batch_1.bin").stat().st_ino == inode
    (at / "notes.txt").write_text("mine")
    (at / "data_batch_2.bin").write_bytes(b"cut")
    fetch("cifar10", tmp_path, sources=sources)
    assert len(catalog.load("cifar10", tmp_path).train) == 5 and (at / "notes.txt").read_text() == "mine"
    assert len(handler.asked) == 2 and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE],
    ids=["link", "hard", "device", "fifo"],
)
def test_archive_with_anything_but_files_is_refused(
    server: tuple[type[Handler], str], tmp_path: Path, kind: bytes
) -> None:
    handler, url = server
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        odd = tarfile.TarInfo("x")
        odd.type, odd.linkname = kind, str(tmp_path)
        tar.addfile(odd)
        info = tarfile.TarInfo("x/evil")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    handler.body = out.getvalue()
    sources = {"cifar10": (Download(url + "c.tar.gz", hashlib.md5(handler.body).hexdigest()),)}
    with pytest.raises(OnebitError, match="no plain file"):
        fetch("cifar10", tmp_path / "root", sources=sources)
    assert not (tmp_path / "evil").exists() and [p.name for p in (tmp_path / "root").iterdir()] == ["c.tar.gz"]


@pytest.mark.parametrize("name", ["/evil", "a/../../evil", "..\\evil", "C:evil"])
def test_names_that_lead_outside_are_refused(server: tuple[type[Handler], str], tmp_path: Path, name: str) -> None:
    handler, url = server
    handler.body = archive({"good": b"1", name: b"abc"})
    sources = {"cifar10": (Download(url + "c.tar.gz", hashlib.md5(handler.body).hexdigest()),)}
    with pytest.raises(OnebitError, match="no plain file"):
        fetch("cifar10", tmp_path / "root", sources=sources)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["c.tar.gz"]


def test_a_damaged_archive_with_the_right_checksum_is_one_line(
    server: tuple[type[Handler], str], tmp_path: Path
) -> None:
    handler, url = server
    good = archive({"a": bytes(range(256)) * 400})
    for body in (good[: len(good) // 2], good[:-100], b"", b"no archive"):
        handler.body = body
        sources = {"cifar10": (Download(url + "c.tar.gz", hashlib.md5(body).hexdigest()),)}
        with pytest.raises(OnebitError, match="cannot be unpacked") as caught:
            fetch("cifar10", tmp_path, sources=sources)
        assert "\n" not in str(caught.value) and not (tmp_path / "a").exists()


def test_every_source_is_complete() -> None:
    for name, items in SOURCES.items():
        assert name in catalog.ENTRIES and len({i.file for i in items}) == len(items)
        for item in items:
            assert re.fullmatch(r"[0-9a-f]{32}", item.md5) and item.url.startswith("http")
            assert item.is_archive or item.folder
