"""The machine that this runs on."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path


def cpuinfo() -> str:
    """The text of Linux' ``/proc/cpuinfo``; empty on other systems."""
    if platform.system() != "Linux":
        return ""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def cpu_model(info: str | None = None) -> str:
    """The CPU's name for people; never empty. ``info`` replaces the text of /proc/cpuinfo.

    Where a hypervisor hides the model from the name, its family and model numbers are added.

    >>> cpu_model("cpu family\\t: 6\\nmodel\\t\\t: 143\\nmodel name\\t: Intel(R) Xeon(R) Processor")
    'Intel(R) Xeon(R) Processor (family 6, model 143)'
    """
    fields: dict[str, str] = {}
    for line in (cpuinfo() if info is None else info).splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or fields.get("Model") or ""
    if not name and platform.system() == "Darwin":
        name = _sysctl("machdep.cpu.brand_string")
    if not name:
        return platform.processor() or platform.machine() or "unknown CPU"
    if not re.search(r"\d", name) and {"cpu family", "model"} <= fields.keys():
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    return name


def _sysctl(key: str) -> str:
    try:
        done = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
