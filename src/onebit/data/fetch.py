"""``onebit data fetch``: download a set from its publisher, resuming and checking, and unpack it where readers look.

A download goes to ``NAME.part`` and is renamed only when its checksum is right; an interrupted one goes on where it
stopped. ImageNet and ImageNet32 demand a login: the error says what to put where.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from onebit.data.catalog import ENTRIES
from onebit.errors import OnebitError, nearest

Progress = Callable[[str, int, int | None], None]  # file, bytes so far, bytes in all (None: not announced)
CHUNK = 1 << 16


@dataclass(frozen=True)
class Download:
    """One file of a publisher, its MD5 as published, and the folder it belongs in (an archive brings its own)."""

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

    Raises OnebitError: unknown set; a login is needed; the server fails, sends too little or wrong bytes.
    """
    if name not in ENTRIES:
        raise OnebitError(f"data set {name!r} is unknown: {nearest(name, ENTRIES)}")
    if name not in sources:
        raise OnebitError(f"data set {name} cannot be fetched: it needs {ENTRIES[name].get} (ROOT is {root})")
    for item in sources[name]:
        folder = root / item.folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / item.file
        if not (path.exists() and _md5(path) == item.md5):
            download(item.url, path, item.md5, progress)
        if item.is_archive:
            _unpack(path, root)


def download(url: str, path: Path, md5: str, progress: Progress | None = None) -> None:
    """One file, by way of ``path.part``; goes on where an earlier attempt stopped, if the server can."""
    part = path.with_name(path.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    expected: int | None = None
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            resumed = answer.status == 206
            have = have if resumed else 0  # a server without ranges sends the whole file again
            length = answer.headers.get("Content-Length")
            expected = have + int(length) if length else None
            with open(part, "ab" if resumed else "wb") as file:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    have += len(chunk)
                    if progress:
                        progress(path.name, have, expected)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: nothing is left to send, the checksum decides
            raise OnebitError(f"{url}: the server answers {error.code} {error.reason}; try again later") from error
    except (OSError, ValueError) as error:
        raise OnebitError(f"{url}: broke off after {have:,} bytes ({error}); run the command again to go on") from error
    if expected is not None and have < expected:
        raise OnebitError(f"{url}: broke off after {have:,} of {expected:,} bytes; run the command again to go on")
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise OnebitError(
            f"{url}: arrived damaged (MD5 {found}, published {md5}) and was deleted; run the command again"
        )
    os.replace(part, path)


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _unpack(path: Path, root: Path) -> None:
    """Unpack a tar.gz below `root`: into a temporary folder, then renamed; members that lead outside are refused."""
    temporary = root / f".{path.name}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with tarfile.open(path) as archive:
            archive.extractall(temporary, filter="data")
        for item in temporary.iterdir():
            target = root / item.name
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(item, target)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise OnebitError(f"{path}: cannot be unpacked ({error}); delete it and fetch again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
