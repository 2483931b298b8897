"""A web page: a packed model, the C core as WebAssembly and a few pages of JavaScript in one file without outside requests.

`page/` has its sources, which are put together as they are; `onebit.wasm` is built by `make -C web ship`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError, reason
from onebit.export.folders import whole
from onebit.packed import file
from onebit.packed.file import Packed

HERE = Path(__file__).parent
WASM = HERE / "onebit.wasm"
PAGE, SCRIPT, MODEL = "index.html", "onebit.js", "model.onebit"
NODE = 18  # the oldest node with all that the page uses


def export(packed: Packed, output: Path) -> None:
    """Write the folder `output`: index.html, which is all of the page and opens from a disk too; onebit.js, for pages of one's
    own; model.onebit.

    Raises OnebitError where `output` is there and no earlier export, and where it cannot be written.
    """
    content = file.encode(*packed)
    script = _text("onebit.js").replace("{{wasm}}", _base64(WASM.read_bytes()))
    page = page_of(content, title(packed), script)
    with whole(output, (PAGE, SCRIPT)) as folder:
        (folder / PAGE).write_text(page, encoding="utf-8", newline="\n")
        (folder / SCRIPT).write_text(script, encoding="utf-8", newline="\n")
        (folder / MODEL).write_bytes(content)


def title(packed: Packed) -> str:
    """The heading of a page, as plain text."""
    data = packed.about.get("data", "")
    return f"{data}: {len(packed.classes)} classes" if data else f"{len(packed.classes)} classes"


def page_of(content: bytes, heading: str, script: str) -> str:
    """The page for the bytes of a packed file. Its policy lets only these scripts and this style in, and nothing out."""
    style, own = _text("style.css"), _text("page.js")
    policy = (
        f"default-src 'none'; script-src {_hash(script)} {_hash(own)} 'wasm-unsafe-eval'; style-src {_hash(style)}; "
        "img-src data: blob:; media-src blob: mediastream:; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "title": html.escape(heading),
        "style": style,
        "model": _base64(content),
        "onebit": script,
        "page": own,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _text("index.html"))


def model(folder: Path) -> Packed:
    """The packed model in an exported page. Raises OnebitError where there is none."""
    path = folder / PAGE
    try:
        page = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OnebitError(f"{path}: cannot be read ({reason(error)}); make it with `onebit export web`") from None
    found = re.search(r'<script type="application/octet-stream" id="model">([A-Za-z0-9+/=\s]*)</script>', page)
    if not found:
        raise OnebitError(f"{path}: holds no model; make it with `onebit export web`")
    return file.decode(base64.b64decode(found[1]))


def logits(folder: Path, images: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Logits int32 [N, classes] of pictures uint8 [N, H, W, C], by the page's own model and WebAssembly in node.

    Raises OnebitError where node is missing, or says no.
    """
    node = shutil.which("node")
    if node is None:
        raise OnebitError(f"{folder}: running a page without a browser needs node {NODE} or later; install Node.js")
    command = [node, str(HERE / "page" / "run.js"), str(folder / PAGE)]
    try:
        answer = subprocess.run(command, input=np.ascontiguousarray(images).tobytes(), capture_output=True)
    except OSError as error:
        raise OnebitError(f"{folder}: node does not start ({reason(error)})") from None
    if answer.returncode:
        said = answer.stderr.decode(errors="replace").strip().splitlines()
        raise OnebitError(f"{folder / PAGE}: {said[-1] if said else f'node failed with status {answer.returncode}'}")
    return np.frombuffer(answer.stdout, "<i4").reshape(len(images), -1).astype(np.int32)


def _text(name: str) -> str:
    return (HERE / "page" / name).read_text(encoding="utf-8")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _hash(script: str) -> str:
    """What a policy calls an inline script or style."""
    return f"'sha256-{_base64(hashlib.sha256(script.encode()).digest())}'"
