"""The ONNX networks that onnxruntime-web runs beside a packed model: float32 and int8 (QDQ). Needs onnx and onnxruntime.

python benchmarks/web/models.py OUT NAME=MODEL.onebit ...

OUT/NAME then holds model.onebit, float.onnx and int8.onnx, made as for benchmarks/engine.py: by peers/prepare.py.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))

import prepare


def main(out: Path, models: list[str]) -> None:
    x = prepare.as_input(prepare.pictures())
    for name, path in (model.split("=", 1) for model in models):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / "model.onebit")
        prepare.float_onnx(Path(path), folder / "float.onnx")
        prepare.int8_onnx(folder / "float.onnx", folder / "int8.onnx", x)
        print(name, {file.name: file.stat().st_size for file in sorted(folder.iterdir())})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
