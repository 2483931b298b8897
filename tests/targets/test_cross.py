"""The C core built for systems that are not at hand, by its own CMake files and one cross compiler: built, not run."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from support.exports import exports, machine, needed

pytestmark = pytest.mark.target("cross compile")

ROOT = Path(__file__).resolve().parents[2]


class Target(NamedTuple):
    zig: str
    system: str  # as CMake calls it
    processor: str
    file: str


TARGETS = {
    "Linux on ARM": Target("aarch64-linux-gnu.2.28", "Linux", "aarch64", "libonebit.so"),
    "macOS on ARM": Target("aarch64-macos", "Darwin", "arm64", "libonebit.dylib"),
    "Windows": Target("x86_64-windows-gnu", "Windows", "AMD64", "libonebit.dll"),
}


def tool(path: Path, *command: str) -> Path:
    """A program that is `command` with more arguments."""
    path.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-m", "ziglang", *command])} "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", TARGETS)
def test_it_builds_and_exports_the_interface(name: str, tmp_path: Path) -> None:
    if not importlib.util.find_spec("ziglang"):
        pytest.skip("needs the cross compiler of pip install ziglang")
    if not (shutil.which("cmake") and shutil.which("ninja")):
        pytest.skip("needs cmake and ninja")
    target = TARGETS[name]
    settings = {
        "CMAKE_SYSTEM_NAME": target.system,
        "CMAKE_SYSTEM_PROCESSOR": target.processor,
        "CMAKE_C_COMPILER": tool(tmp_path / "cc", "cc", "-target", target.zig),
        "CMAKE_AR": tool(tmp_path / "ar", "ar"),
        "CMAKE_RANLIB": tool(tmp_path / "ranlib", "ranlib"),
        "CMAKE_INSTALL_NAME_TOOL": "true",
        "CMAKE_OSX_SYSROOT": "",
        "BUILD_SHARED_LIBS": "ON",
        "CMAKE_C_FLAGS": "-Werror=implicit-function-declaration",
        "CMAKE_C_FLAGS_RELEASE": "-O1 -DNDEBUG",  # not run: quick to compile is all it has to be
        "CMAKE_TRY_COMPILE_TARGET_TYPE": "STATIC_LIBRARY",  # no linking, for which a C library would have to be built
    }
    build = tmp_path / "build"
    options = [f"-D{key}={value}" for key, value in settings.items()]
    for command in (
        ["cmake", "-G", "Ninja", "-S", ROOT / "core", "-B", build, *options],
        ["cmake", "--build", build, "--parallel", "2"],
    ):
        done = subprocess.run(list(map(str, command)), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout[-8000:]
    library = (build / target.file).resolve()
    header = (ROOT / "core" / "include" / "onebit.h").read_text(encoding="utf-8")
    interface = set(re.findall(r"^OB_API [\w *]*?\b(ob_\w+)\(", header, re.M))
    # what the linker of macOS adds begins with a line
    assert {found for found in exports(library) if not found.startswith("_")} == interface
    assert machine(library) == target.zig.partition("-")[0]
    kernels = {"aarch64": ["neon"], "x86_64": ["sse2", "avx2", "avx512"]}[machine(library)]
    assert all(kernel.encode() + b"\0" in library.read_bytes() for kernel in kernels)
    if target.system == "Windows":  # nothing that a user would have to install
        assert not {
            dll for dll in needed(library) if not dll.startswith(("kernel32", "ntdll", "api-ms-win-", "ucrtbase"))
        }
