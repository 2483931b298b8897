"""core/tests/test_pool.c, as it is and watched: by ThreadSanitizer, and by AddressSanitizer for leaks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "core" / "tests" / "test_pool.c"
FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-O1"]
BUILDS = {
    "plain": ["-pthread"],
    "without threads": ["-DOB_NO_THREADS", "-Wno-unused-function"],
    "threads": ["-pthread", "-fsanitize=thread"],
    "addresses": ["-pthread", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}


@pytest.mark.parametrize("build", BUILDS)
def test_pool(build: str, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    flags = BUILDS[build]
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n")
    works = [compiler, *flags, str(tmp_path / "empty.c"), "-o", str(tmp_path / "empty")]
    if subprocess.run(works, capture_output=True).returncode or subprocess.run([tmp_path / "empty"]).returncode:
        pytest.skip(f"the compiler's {build} sanitizer does not work here")
    program = tmp_path / "test_pool"
    subprocess.run([compiler, *FLAGS, *flags, str(SOURCE), "-o", str(program)], check=True)
    done = subprocess.run([program, "2000"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr
