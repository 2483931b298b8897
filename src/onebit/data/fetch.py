"""``onebit data fetch``: download a set from its publisher, resuming and checking, and unpack it where readers look.

A download goes to ``FILE.part`` and is renamed only when its checksum is right; an interrupted one goes on where it
stopped. ImageNet and ImageNet32 demand a login: the error says what to put where.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from onebit._version import __version__
from onebit.data.catalog import ENTRIES, load
from onebit.errors import OnebitError, nearest, reason

Progress = Callable[[str, int, int | None], None]  # file, bytes so far, bytes in all (None: not announced)
CHUNK = 1 << 16


@dataclass(frozen=True)
class Download:
    """One file of a publisher, its MD5 as published, and the folder it belongs in (an archive brings its own).

    >>> Download("https://example.org/a/b.tar.gz", "").file
    'b.tar.gz'
    """

    url: str
    md5: str
    folder: str = ""

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @property
    def is_archive(self) -> bool:
        return self.file.endswith(".tar.gz")


_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_SVHN = "http://ufldl.stanford.edu/housenumbers/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
SOURCES: dict[str, tuple[Download, ...]] = {
    "mnist": (
        Download(_MNIST + "train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", "mnist"),
        Download(_MNIST + "train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", "mnist"),
        Download(_MNIST + "t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", "mnist"),
        Download(_MNIST + "t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", "mnist"),
    ),
    "cifar10": (Download(_CIFAR + "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),),
    "cifar100": (Download(_CIFAR + "cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),),
    "svhn": (
        Download(_SVHN + "train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", "svhn"),
        Download(_SVHN + "extra_32x32.mat", "a93ce644f1a588dc4d68dda5feec44a7", "svhn"),
        Download(_SVHN + "test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", "svhn"),
    ),
}


def fetch(
    name: str,
    root: Path,
    progress: Progress | None = None,
    sources: Mapping[str, tuple[Download, ...]] = SOURCES,
) -> None:
    """Download set `name` below `root` and unpack it there; what is complete already is not fetched again.

    Raises OnebitError: unknown set; a login is needed; the server fails, sends too little or wrong bytes; the disk is
    full or may not be written to.

    >>> fetch("digits", Path("unused"))
    """
    if name not in ENTRIES:
        raise OnebitError(f"data set {name!r} is unknown: {nearest(name, ENTRIES)}")
    if name == "digits":  # in the package
        return
    if name not in sources:
        raise OnebitError(
            f"data set {name} cannot be fetched: it needs {ENTRIES[name].get}; ROOT is what --data or ONEBIT_DATA names"
        )
    for item in sources[name]:
        if item.is_archive and _is_complete(name, root):
            continue
        path = root / item.folder / item.file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            there = path.exists() and _md5(path) == item.md5
        except OSError as error:
            raise OnebitError(
                f"{error.filename or path}: cannot be used ({reason(error)}); choose another --root"
            ) from error
        if not there:
            download(item.url, path, item.md5, progress)
        if item.is_archive:
            _unpack(path, root)


def download(url: str, path: Path, md5: str, progress: Progress | None = None) -> None:
    """One file, by way of ``path.part``; goes on where an earlier attempt stopped, if the server can.

    Raises OnebitError: the server fails or breaks off (what has come stays for the next attempt), the bytes are not
    those of `md5` (they are deleted), the disk is full.
    """
    part = path.with_name(path.name + ".part")
    try:
        resumed = part.exists() and part.stat().st_size > 0
        # An earlier part may be of another file, or the server may go on elsewhere: then once more from the start.
        found = _transfer(url, part, progress, resume=True) if resumed else None
        if found != md5:
            found = _transfer(url, part, progress, resume=False)
        if found != md5:
            part.unlink()
            raise OnebitError(
                f"{url}: arrived damaged (MD5 {found}, published {md5}) and was deleted; run the command again"
            )
        os.replace(part, path)
    except OSError as error:
        raise OnebitError(
            f"{part}: cannot be written ({reason(error)}); make room or choose another --root, then run the command again"
        ) from error


def _transfer(url: str, part: Path, progress: Progress | None, *, resume: bool) -> str:
    """Bring `part` to its end, or fetch all of it, and return its MD5."""
    have = part.stat().st_size if resume else 0
    headers = {"User-Agent": f"onebit/{__version__}"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to send: the checksum says whether all is there
            return _md5(part)
        raise OnebitError(f"{url}: the server answers {error.code} {error.reason}; try again later") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)  # urllib wraps what went wrong
        raise OnebitError(
            f"{url}: no answer ({reason(cause)}); check the connection and run the command again"
        ) from error
    with answer:
        length = answer.headers.get("Content-Length") or ""
        if answer.status != 206:
            have = 0  # a server without ranges sends the whole file again
        expected = have + int(length) if length.isdecimal() else None
        with open(part, "ab" if have else "wb") as file:
            for chunk in _chunks(answer, url, have, expected):
                file.write(chunk)
                have += len(chunk)
                if progress:
                    progress(part.name.removesuffix(".part"), have, expected)
    return _md5(part)


def _chunks(answer: Any, url: str, have: int, expected: int | None) -> Iterator[bytes]:
    """What the server sends, in pieces; raises OnebitError where it breaks off. `have` bytes were there before."""
    wanted = f"{expected:,}" if expected is not None else "an unknown number of"
    try:
        while chunk := answer.read(CHUNK):
            have += len(chunk)
            yield chunk
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise OnebitError(
            f"{url}: broke off after {have:,} of {wanted} bytes ({reason(error)}); run the command again to go on"
        ) from error
    if expected is not None and have < expected:
        raise OnebitError(f"{url}: broke off after {have:,} of {wanted} bytes; run the command again to go on")


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _is_complete(name: str, root: Path) -> bool:
    """Whether the set reads already: then its archive need not be there, and is not unpacked once more."""
    try:
        load(name, root)
    except OnebitError:
        return False
    return True


def _unpack(path: Path, root: Path) -> None:
    """Unpack a tar.gz below `root`: first into a temporary folder, so that a reader never finds half a file."""
    temporary = root / f".{path.name}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    names = []
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                # Plain files only. Not `extractall`: its filters came with Python 3.11.4.
                name = PurePosixPath(member.name)
                leads_out = name.is_absolute() or ".." in name.parts or "\\" in member.name or ":" in member.name
                if leads_out or not (member.isfile() or member.isdir()):
                    raise tarfile.TarError(f"it holds {member.name!r}, which is no plain file below the folder")
                content = archive.extractfile(member)
                if content is not None:
                    (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                    with open(temporary / name, "wb") as file:
                        shutil.copyfileobj(content, file)
                    names.append(name)
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary / name, root / name)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise OnebitError(f"{path}: cannot be unpacked ({reason(error)}); delete it and fetch again") from error
    except OSError as error:
        raise OnebitError(
            f"{error.filename or root}: cannot be unpacked to ({reason(error)}); make room or choose another --root"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
