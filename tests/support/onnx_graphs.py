"""What becomes of an ONNX file: the nodes that ONNX Runtime executes, and QONNX without the qonnx package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from onebit.packed.file import Packed
from onebit.packed.program import Average, Max, Norm, Operation, Program, Table
from onebit.patches import Padding
from support.forms import with_head

LEVELS = onnxruntime.GraphOptimizationLevel


def packed(program: Program, **about: str) -> Packed:
    return Packed(program, tuple(f"class {k}" for k in range(program.classes)), about)


# kernel, stride, padding: asymmetric, of rows that no window reaches, and windows of one position
POOLS: list[tuple[tuple[int, int], int, Padding]] = [
    ((3, 3), 2, (1, 1, 1, 1)),
    ((3, 3), 2, (0, 0, 1, 1)),
    ((2, 3), 3, (1, 0, 2, 2)),
    ((1, 2), 4, (0, 1, 1, 3)),
    ((1, 1), 1, (0, 0, 0, 0)),
    ((1, 1), 2, (0, 0, 0, 0)),
]


def pooled(kind: str, kernel: tuple[int, int], stride: int, padding: Padding, zero: int) -> Program:
    """Activations of a given zero, or the stream (-1), through a pool; means times about 0.7, and two channels appended."""
    rng = np.random.default_rng(0)
    operations: list[Operation] = [Table(7, 9, rng.integers(-900, 900, (5, 256)).astype(np.int16))]
    if zero >= 0:
        mean, multiplier = rng.integers(-99, 99, 5).astype(np.int16), rng.integers(2000, 9000, 5).astype(np.int16)
        operations.append(Norm(0, mean, multiplier, np.zeros(5, np.int16), zero, 200))
    source, count = len(operations) - 1, np.arange(1, kernel[0] * kernel[1] + 1)
    if kind == "max":
        operations.append(Max(source, kernel, stride, padding))
    else:
        shift = np.log2(count).astype(np.int16)
        multiplier = (0.7 * 2.0**15 * 2.0**shift / count).astype(np.int16)
        operations.append(Average(source, 7, kernel, stride, padding, shift, multiplier))
    return with_head(operations, len(operations) - 1, rng)


def executed(path: Path, folder: Path, level: Any = LEVELS.ORT_ENABLE_ALL) -> list[Any]:
    """The nodes that are left when ONNX Runtime has optimised a file, as it dumps them."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return list(onnx.load(options.optimized_model_filepath).graph.node)


def attribute(node: Any, name: str, default: Any = None) -> Any:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


class Quant(OpRun):
    """As QONNX defines it: scale, shift, clamp, round, and back."""

    op_domain = "qonnx.custom_op.general"

    def _run(
        self, x: Any, scale: Any, zero: Any, bits: Any, signed: int, narrow: int, rounding_mode: str
    ) -> tuple[Any]:  # type: ignore[override]
        assert not narrow
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        y = np.clip(x / scale + zero, low, high)
        return ((({"FLOOR": np.floor, "ROUND": np.round}[rounding_mode](y)) - zero) * scale,)


class BipolarQuant(OpRun):
    op_domain = "qonnx.custom_op.general"

    def _run(self, x: Any, scale: Any) -> tuple[Any]:  # type: ignore[override]
        return (np.where(x >= 0, scale, -scale),)


class MaxPool(OpRun):
    """The evaluator's own takes the second and the third padding for each other (onnx 1.23)."""

    def _run(self, x: Any, kernel_shape: Any = None, pads: Any = None, strides: Any = None, **rest: Any) -> tuple[Any]:  # type: ignore[override]
        top, left, bottom, right = pads
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=-np.inf)
        view = np.lib.stride_tricks.sliding_window_view(x, tuple(kernel_shape), (2, 3))
        return (view[:, :, :: strides[0], :: strides[1]].max((4, 5)),)


def execute_qonnx(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Logits of a QONNX file in float64, so that all whole numbers are exact; pictures uint8 [N, H, W, C]."""
    model = onnx.load(path)
    for constant in model.graph.initializer:
        array = onnx.numpy_helper.to_array(constant)
        if array.dtype == np.float32:
            constant.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float64), constant.name))
    run = ReferenceEvaluator(model, new_ops=[Quant, BipolarQuant, MaxPool])
    pixels = images.transpose(0, 3, 1, 2).astype(np.float64)
    return np.concatenate([run.run(None, {"pixels": one[None]})[0] for one in pixels])
