"""Build what the peers load from a packed model. Run by the interpreter that has them (requirements.txt).

    python benchmarks/peers/prepare.py MODEL.onebit FOLDER

FOLDER then holds float.onnx, int8.onnx (ONNX Runtime, static QDQ, weights per channel), openvino.xml and .bin (NNCF
post-training quantisation, target CPU) and prepared.json: versions, bytes, and how often each has onebit's first class.
Quantisation is calibrated on the 64 pictures of CIFAR-10 in tests/golden, and agreement is counted on the same: it shows
that the network is the same one, not how good quantisation can be.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "src"))

PACKAGES = ("openvino", "nncf", "onnx", "onnxruntime", "torch", "torchao", "numpy")


def pictures() -> NDArray[np.uint8]:
    """64 test pictures of CIFAR-10, [64, 32, 32, 3]."""
    return np.load(ROOT / "tests" / "golden" / "cifar10-test-64.npy")


def as_input(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What peers take: float32 [N, C, H, W]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)


def float_onnx(model: Path, target: Path) -> None:
    import onnx
    from network import layers
    from to_onnx import to_onnx

    from onebit.packed import file

    program = file.load(model).program
    onnx.save(to_onnx(layers(program), program.input.shape), str(target))


def int8_onnx(source: Path, target: Path, x: NDArray[np.float32]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = [{"x": picture[None]} for picture in x]

        def get_next(self) -> dict[str, Any] | None:
            return self.left.pop() if self.left else None

    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / "clean.onnx"
        quant_pre_process(str(source), str(clean))
        quantize_static(
            str(clean), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip


def int8_openvino(source: Path, target: Path, x: NDArray[np.float32]) -> None:
    import nncf
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    data = nncf.Dataset([picture[None] for picture in x])
    model = nncf.quantize(
        ov.Core().read_model(source), data, subset_size=len(x), target_device=nncf.TargetDevice.CPU
    )  # fmt: skip
    ov.save_model(model, target)


def agreement(model: Path, folder: Path, images: NDArray[np.uint8]) -> dict[str, float]:
    """Share of pictures of which a peer has the first class of onebit's reference."""
    import onnxruntime
    import openvino as ov

    from onebit.packed import file, reference

    want = reference.run(file.load(model).program, images).argmax(1)
    x, core, got = as_input(images), ov.Core(), {}
    for name in ("float.onnx", "int8.onnx"):
        session = onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
        got[name] = session.run(None, {"x": x})[0]
    for name in ("float.onnx", "openvino.xml"):
        got[f"openvino {name}"] = core.compile_model(folder / name, "CPU")([x])[0]
    return {name: round(float((y.argmax(1) == want).mean()), 4) for name, y in got.items()}


def main(model: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = pictures()
    x = as_input(images)
    float_onnx(model, folder / "float.onnx")
    int8_onnx(folder / "float.onnx", folder / "int8.onnx", x)
    int8_openvino(folder / "float.onnx", folder / "openvino.xml", x)
    sizes = {
        "onebit": model.stat().st_size,
        "float.onnx": (folder / "float.onnx").stat().st_size,
        "int8.onnx": (folder / "int8.onnx").stat().st_size,
        "openvino": sum((folder / f"openvino.{end}").stat().st_size for end in ("xml", "bin")),
    }
    facts = {
        "versions": {name: version(name) for name in PACKAGES},
        "bytes": sizes,
        "agreement": agreement(model, folder, images[:32]),
    }
    (folder / "prepared.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
