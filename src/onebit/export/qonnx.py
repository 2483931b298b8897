"""QONNX for FPGA tools: the packed program to the last bit, as quantisers between ordinary layers.

Weights are BipolarQuant with scale 1, activations Quant of as many bits as they need, and so is the stream (16 bits,
signed) where it is rounded or may saturate. Every tensor holds the whole numbers of docs/format.md, less the zero of its
value. Rounding is that of the format: add a half, then the mode FLOOR. In float32 whole numbers are exact below 2^24: in
practice all of them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError, reason
from onebit.export import builder
from onebit.export.builder import OPSET, QONNX, Graph, need
from onebit.packed.file import MAX_FILE, Packed
from onebit.packed.program import INT16, Average, Conv, Logits, Max, Norm, Operation, Program, Table, sources
from onebit.packed.reference import q15mulr
from onebit.patches import covered


def export(packed: Packed, output: Path) -> None:
    """Write a QONNX file: "pixels" float32 [1, C, H, W] (raw, 0..255) in, "logits" float32 [1, classes] out.

    Raises OnebitError where `onnx` is missing, the file cannot be written, or the weights, four bytes each in this
    format, would pass what a file may have.
    """
    count = sum(packed.program.weights(op) for _, op in packed.program.convolutions())
    if 4 * count > MAX_FILE:
        raise OnebitError(
            f"{output}: {count} weights are too many for QONNX, which stores four bytes each; export onnx instead"
        )
    builder.save(_Writer(packed.program).write(packed), output)


def logits(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What qonnx computes from an export: logits float64 [N, classes] of pictures uint8 [N, H, W, C], one after the other.

    Takes some tenths of a second a picture. Raises OnebitError where `qonnx` is missing, where the file is no such
    export, and where the pictures do not fit.
    """
    execute = need("qonnx.core.onnx_exec", "qonnx onnxruntime").execute_onnx
    try:
        status = path.stat()
        model = _model(str(path), status.st_mtime_ns, status.st_size)
        inputs = (image.transpose(2, 0, 1)[None].astype(np.float32) for image in images)
        return np.concatenate([execute(model, {"pixels": x})["logits"] for x in inputs]).astype(np.float64)
    except Exception as error:  # its own kinds, and those of protobuf
        raise OnebitError(
            f"{path}: qonnx cannot run it ({reason(error)}); give what `onebit export qonnx` wrote"
        ) from None


@lru_cache(maxsize=1)
def _model(path: str, *version: int) -> Any:
    """The model of a file, made once for each of its versions."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes

    return ModelWrapper(path).transform(InferShapes())


class _Writer:
    """`values[i]` is the tensor [1, C, H, W] that operation i makes, less its zero."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.graph = Graph()
        self.values: list[str] = []

    def write(self, packed: Packed) -> Any:
        graph, program = self.graph, self.program
        for graph.place, op in enumerate(program.operations):
            self.values.append(self.operation(op))
        info, real = graph.onnx.helper.make_tensor_value_info, graph.onnx.TensorProto.FLOAT
        return graph.model(
            packed,
            [info("pixels", real, [1, *program.input.shape])],
            [info("logits", real, [1, program.classes])],
            {"": OPSET, QONNX: 1},
        )

    def operation(self, op: Operation) -> str:
        if isinstance(op, Table):
            return self.pixels(op)
        if isinstance(op, Conv):
            return self.conv(op)
        if isinstance(op, Norm):
            return self.norm(op)
        if isinstance(op, Average):
            return self.average(op)
        return self.max(op) if isinstance(op, Max) else self.logits(op)

    def quant(self, x: str, bits: int, signed: bool = True, mode: str = "FLOOR") -> str:
        """Whole numbers of so many bits."""
        graph = self.graph
        settings = graph.number("one", 1), graph.number("zero", 0), graph.number("bits", bits)
        return graph.node("Quant", x, *settings, domain=QONNX, signed=int(signed), narrow=0, rounding_mode=mode)

    def add(self, x: str, number: float | NDArray[Any]) -> str:
        return self.graph.node("Add", x, self.graph.number("number", number)) if np.any(number) else x

    def times(self, x: str, number: float | NDArray[Any]) -> str:
        return self.graph.node("Mul", x, self.graph.number("factor", number)) if np.any(np.not_equal(number, 1)) else x

    def pixels(self, op: Table) -> str:
        graph = self.graph
        x = self.quant("pixels", 8, signed=False)
        line = builder.pixel_line(op.values)
        if line is None:
            return self.lookup(op, x)
        slope, offset, low = line
        x = self.add(self.times(x, _channels(slope)), _channels(offset))
        if low is not None:
            x = graph.node("Relu", x) if low == 0 else graph.node("Max", x, graph.number("low", low))
        value = self.program.values[0]
        bits = max(value.high, -value.low - 1, 1).bit_length()
        return self.quant(x, bits + (value.low < 0), value.low < 0, mode="ROUND")

    def lookup(self, op: Table, x: str) -> str:
        """A table that is no line: entry 256 * channel + pixel."""
        graph = self.graph
        x = self.add(x, _channels(256 * np.arange(len(op.values))))
        x = graph.node("Cast", x, to=graph.onnx.TensorProto.INT64)
        return graph.node("Gather", graph.number("table", op.values.reshape(-1)), x)

    def signs(self, values: NDArray[np.float32]) -> str:
        """A constant of +1 and -1 that counts one bit a weight."""
        return self.graph.node(
            "BipolarQuant", self.graph.number("weights", values), self.graph.number("one", 1), domain=QONNX
        )

    def conv(self, op: Conv) -> str:
        graph, w = self.graph, self.signs(builder.weights(self.program, op))
        x = graph.node("Conv", self.values[op.source], w, **graph.window(op, op.padding), dilations=[1, 1], group=1)
        x = self.times(x, 2.0**-op.shift)
        if op.shift:
            x = self.add(x, 0.5)
        bound = self.program.fan_in(op) * self.program.values[op.source].reach
        saturates = (bound >> op.shift) + 1 >= INT16
        if op.shift or (saturates and (op.base >= 0 or not self.cut(graph.place))):
            x = self.quant(x, 16)
        if op.base >= 0:
            x = self.quant(graph.node("Add", self.values[op.base], x), 16)
        return x

    def cut(self, i: int) -> bool:
        """Do all that read value i treat what is beyond 16 bits as they treat the ends of 16 bits?"""
        readers = [op for op in self.program.operations if i in sources(op)]
        return all(isinstance(op, Norm) and _ends(op) for op in readers)

    def norm(self, op: Norm) -> str:
        graph = self.graph
        x = graph.node("Sub", self.values[op.source], graph.number("mean", _channels(op.mean)))
        if not _ends(op):
            x = self.quant(x, 16)
        x = self.times(x, _channels(op.multiplier / 2.0**15))
        x = self.add(x, _channels(op.offset + (op.zero + 0.5)))
        return self.activation(x, op.limit, op.zero)

    def activation(self, x: str, limit: int, zero: int) -> str:
        """The whole number below x, within 0 and `limit`, less its zero: few tools take the zero point of a Quant."""
        bits = limit.bit_length()
        if limit != 2**bits - 1:
            x = self.graph.node("Min", x, self.graph.number("high", limit))
        x = self.quant(x, bits, signed=False)
        return self.graph.node("Sub", x, self.graph.number("zero", zero)) if zero else x

    def average(self, op: Average) -> str:
        graph, x, value = self.graph, self.values[op.source], self.program.values[op.source]
        d = covered((value.shape[1], value.shape[2]), op.kernel, op.stride, op.padding)
        if op.kernel != (1, 1) or op.stride != 1:
            padding = builder.reached(self.program, op, graph.place)
            x = graph.node("AveragePool", x, **graph.window(op, padding), count_include_pad=1)
            x = self.whole(x, int(np.prod(op.kernel)), value.reach, value.low < value.zero)
        x = self.add(x, _map(d * value.zero))
        shift = op.shift[d - 1]
        x = self.add(self.times(x, _map(2.0**-shift)), 0.5)
        x = self.quant(x, 16)
        x = self.add(self.times(x, _map(op.multiplier[d - 1] / 2.0**15)), 0.5)
        x = self.activation(x, value.high, value.zero) if value.kind == "u8" else self.quant(x, 16)
        if op.channels > value.shape[0]:
            x = graph.node("Pad", x, graph.whole("more", [0, 0, 0, 0, 0, op.channels - value.shape[0], 0, 0]))
        return x

    def whole(self, x: str, count: int, reach: int, signed: bool) -> str:
        """The exact sum out of a mean of `count` numbers."""
        return self.quant(self.times(x, count), (count * reach).bit_length() + signed, signed, mode="ROUND")

    def max(self, op: Max) -> str:
        padding = builder.reached(self.program, op, self.graph.place)
        return self.graph.node("MaxPool", self.values[op.source], **self.graph.window(op, padding))

    def logits(self, op: Logits) -> str:
        graph, x, value = self.graph, self.values[op.source], self.program.values[op.source]
        count = value.shape[1] * value.shape[2]
        if op.kernel == (1, 1) and count > 1:
            x = self.whole(graph.node("GlobalAveragePool", x), count, value.reach, value.low < value.zero)
        w = builder.weights(self.program, op)
        x = graph.node("MatMul", graph.node("Flatten", x), self.signs(w.reshape(len(w), -1).T))
        if op.shift:
            x = self.quant(self.add(self.times(x, 2.0**-op.shift), 0.5), 32)
        scale = 2.0**-op.fraction
        x = self.times(x, _same(op.gain * scale, op.gain[None] * scale))
        return graph.node("Add", x, graph.number("number", op.offset[None] * scale), out="logits")


def _channels(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers of channels, to multiply or add; a scalar where all are the same."""
    return _same(values, values[None, :, None, None])


def _map(values: NDArray[Any]) -> NDArray[Any]:
    """The same of the positions of a map [H, W]."""
    return _same(values, values[None, None])


def _same(values: NDArray[Any], shaped: NDArray[Any]) -> NDArray[Any]:
    return values.flat[0] if (values == values.flat[0]).all() else shaped


def _ends(op: Norm) -> bool:
    """Do all channels give 0 or the limit where x, or x - mean, reaches an end of 16 bits?"""
    ends = np.array([[-INT16], [INT16 - 1]], np.int32)
    reached = np.clip(np.stack([ends - op.mean, np.broadcast_to(ends, (2, len(op.mean)))]), -INT16, INT16 - 1)
    y = q15mulr(reached, op.multiplier) + op.offset.astype(np.int32) + op.zero
    return bool(((y <= 0) | (y >= op.limit)).all())
