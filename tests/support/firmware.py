"""Generated firmware compiled for this machine: the network's C beside objects of the runtime that are compiled once."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onebit.export import firmware
from onebit.export.firmware.generate import Source
from onebit.export.firmware.plan import Plan, plan
from onebit.export.firmware.proof import prove
from onebit.packed import file
from support import ccore

BUILD = ccore.CORE.parent / "build" / "tests" / "firmware"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")


@cache
def _objects(compiler: str, flags: tuple[str, ...]) -> list[Path]:
    """The runtime, all kernels and the self-test's parts, compiled."""
    sources = [path for path in sorted(firmware.C.glob("*.c")) if path.name not in ("host.c", "selftest.c")]
    content = b"".join(path.read_bytes() for path in [*sources, *sorted(firmware.C.glob("*.h"))])
    key = hashlib.sha256(content + repr((compiler, flags)).encode()).hexdigest()[:16]
    place = BUILD / key
    place.mkdir(parents=True, exist_ok=True)
    made = []
    for source in sources:
        target = place / f"{source.stem}.o"
        if not target.exists():
            part = target.with_suffix(".tmp.o")
            subprocess.run([compiler, *flags, *STRICT, "-c", source, "-o", part], check=True)
            part.replace(target)
        made.append(target)
    return made


def laid_out(
    packed: file.Packed, *, families: Sequence[str] = ("few", "nibble", "any"), low_memory: bool = False
) -> tuple[Plan, Source]:
    """A plan that was proved, and the C that it gives."""
    found = plan(packed.program, families, low_memory)  # type: ignore[arg-type]
    prove(found)
    return found, Source(packed, found, "network")


def logits(
    packed: file.Packed, pictures: NDArray[np.uint8], folder: Path, *, families: Sequence[str] = ("few", "nibble", "any"),
    low_memory: bool = False, compiler: str = "cc", flags: tuple[str, ...] = ("-O1",),
) -> NDArray[np.int32]:  # fmt: skip
    """What the firmware of a packed model answers, compiled here; int32 [N, classes]."""
    _, source = laid_out(packed, families=families, low_memory=low_memory)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network.h").write_text(source.header(""), encoding="utf-8")
    (folder / "network.c").write_text(source.source(), encoding="utf-8")
    blank = np.zeros((1, *pictures.shape[1:]), np.uint8), np.zeros((1, packed.program.classes), np.int32)
    (folder / "selftest_data.h").write_text(source.selftest(*blank), encoding="utf-8")
    objects = _objects(compiler, flags)
    program = folder / "host"
    parts = [folder / "network.c", firmware.C / "selftest.c", firmware.C / "host.c", *objects]
    subprocess.run([compiler, *flags, "-std=c99", f"-I{folder}", f"-I{firmware.C}", "-o", program, *parts], check=True)
    answer = subprocess.run([program, "-"], input=np.ascontiguousarray(pictures).tobytes(), stdout=-1, check=True)
    return np.frombuffer(answer.stdout, np.int32).reshape(len(pictures), -1)
