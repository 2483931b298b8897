"""Seeds for the fuzz targets: python core/fuzz/make_seeds.py FOLDER. Small random programs, and files from the tests."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from hypothesis import given, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from onebit.packed import file
from support import hostile
from support.programs import programs

LARGEST = 6000  # bytes: small files are changed and run faster


def main(folder: Path) -> None:
    contents: set[bytes] = set()

    def see(content: bytes, decode: hostile.Decode) -> file.Packed:
        contents.add(content)
        return decode(content)

    @settings(max_examples=400, database=None, derandomize=True, deadline=None)
    @given(programs(macs=5000))
    def collect(program: file.Program) -> None:
        contents.add(file.encode(program, [str(k) for k in range(program.classes)]))

    collect()
    hostile.visit(see)
    folder.mkdir(parents=True, exist_ok=True)
    for content in contents:
        if len(content) <= LARGEST:
            (folder / hashlib.sha1(content).hexdigest()).write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
