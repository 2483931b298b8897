"""ONNX: the packed program in real numbers, its weights as the bits they are, unpacked by the graph itself.

The graph computes the equations of docs/format.md without rounding and without saturation at 16 bits, which real
arithmetic does not need; the clamp of an activation stays, for it is part of the network. Values are those of the
program in its own units, less their zero: so padding is 0, and every constant is one of the file. The pixels' table alone
gives whole numbers, for its entries are constants of the file.

The weights of a layer are uint8, eight a byte. Cast, Gather from a table [256, 8] of +-1 that all layers share, and
Reshape make the tensor that Conv reads. All of that is constant, so that ONNX Runtime and OpenVINO compute it once, when
they load the file.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError, reason
from onebit.export import builder
from onebit.export.builder import BATCH, OPSET, Graph, need
from onebit.packed.file import Packed
from onebit.packed.program import INT32, Average, Conv, Logits, Max, Norm, Operation, Program, Table, sources
from onebit.patches import covered

EIGHT = (np.arange(256)[:, None] >> np.arange(8) & 1) * 2 - 1  # the weights in each byte


def export(packed: Packed, output: Path, *, int8: bool = False) -> None:
    """Write an ONNX file (opset 13): "pixels" uint8 [N, H, W, C] in, "logits" and "probabilities" float32 [N, classes] out.

    Args:
        int8: activations rounded to 8 bits and weights of 8 bits between QuantizeLinear and DequantizeLinear (QDQ), for
            engines with integer convolutions; else everything is float32.

    Raises OnebitError where `onnx` is missing or the file cannot be written.
    """
    builder.save((_Int8 if int8 else _Float)(packed.program).write(packed), output)


def logits(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What ONNX Runtime computes from an export: logits float64 [N, classes] of pictures uint8 [N, H, W, C], in float32.

    Raises OnebitError where `onnxruntime` is missing, where the file is no such export, and where the pictures do not fit.
    """
    need("onnxruntime", "onnxruntime")
    try:
        status = path.stat()
        session = _session(str(path), status.st_mtime_ns, status.st_size)
        parts = [session.run(["logits"], {"pixels": images[i : i + 64]})[0] for i in range(0, len(images), 64)]
    except Exception as error:  # its own kinds, which have no common base
        raise OnebitError(
            f"{path}: ONNX Runtime cannot run it ({reason(error)}); give what `onebit export onnx` wrote"
        ) from None
    return np.concatenate(parts).astype(np.float64)


@lru_cache(maxsize=2)
def _session(path: str, *version: int) -> Any:
    """The session of a file, made once for each of its versions."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class _Float:
    """Writes a program in float32. `values[i]` is the tensor [N, C, H, W] that operation i makes, less its zero."""

    unpacked_type: type = np.float32

    def __init__(self, program: Program) -> None:
        self.program = program
        self.graph = Graph()
        self.values: list[str] = []

    def write(self, packed: Packed) -> Any:
        """The ModelProto."""
        graph, program = self.graph, self.program
        for graph.place, op in enumerate(program.operations):
            self.values.append(self.operation(op))
        tensor, info = graph.onnx.TensorProto, graph.onnx.helper.make_tensor_value_info
        channels, height, width = program.input.shape
        return graph.model(
            packed,
            [info("pixels", tensor.UINT8, [BATCH, height, width, channels], "raw pixels, 0 to 255; colours: R, G, B")],
            [info(name, tensor.FLOAT, [BATCH, program.classes]) for name in ("logits", "probabilities")],
            {"": OPSET},
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

    def pixels(self, op: Table) -> str:
        graph = self.graph
        line = builder.pixel_line(op.values)
        if line is None:
            return self.lookup(op)
        slope, offset, low = line
        x = graph.node("Cast", "pixels", to=graph.onnx.TensorProto.FLOAT)
        x = graph.node("Transpose", x, perm=[0, 3, 1, 2])
        x = graph.node("Mul", x, graph.per_channel("slope", slope))
        x = graph.node("Add", x, graph.per_channel("offset", offset))
        if low is not None:
            x = graph.node("Max", x, graph.number("low", low))
        return graph.node("Round", x)

    def lookup(self, op: Table) -> str:
        """A table that is no line: entry 256 * channel + pixel."""
        graph = self.graph
        at = graph.node("Cast", "pixels", to=graph.onnx.TensorProto.INT32)
        if len(op.values) > 1:
            at = graph.node("Add", at, graph.constant("rows", 256 * np.arange(len(op.values), dtype=np.int32)))
        x = graph.node("Gather", graph.number("table", op.values.reshape(-1)), at)
        return graph.node("Transpose", x, perm=[0, 3, 1, 2])

    def unpacked(self, op: Conv | Logits, flipped: NDArray[np.bool_] | None = None) -> str:
        """The weights [O, I, height, width] out of their bits; output channels that are `flipped` get the other sign."""
        graph = self.graph
        positive = builder.weights(self.program, op) > 0
        if flipped is not None:
            positive ^= flipped[:, None, None, None]
        bits = graph.constant("bits", np.packbits(positive.reshape(-1), bitorder="little"))
        at = graph.node("Cast", bits, to=graph.onnx.TensorProto.INT32)
        x = graph.node("Gather", graph.constant("eight", EIGHT.astype(self.unpacked_type)), at)
        if positive.size % 8:
            x = graph.node("Reshape", x, graph.whole("flat", [-1]))
            x = graph.node("Slice", x, graph.whole("first", [0]), graph.whole("count", [positive.size]))
        return graph.node("Reshape", x, graph.whole("shape", positive.shape))

    def weights(self, op: Conv | Logits) -> str:
        """The weights as float32."""
        return self.unpacked(op)

    def conv(self, op: Conv) -> str:
        graph = self.graph
        x = graph.node("Conv", self.values[op.source], self.weights(op), **graph.window(op, op.padding))
        if op.shift:
            x = graph.node("Mul", x, graph.number("scale", 2.0**-op.shift))
        return self.added(op, x)

    def added(self, op: Conv, x: str) -> str:
        return x if op.base < 0 else self.graph.node("Add", self.values[op.base], x)

    def norm(self, op: Norm) -> str:
        """A batch-norm of the file's numbers, whose variance is 1."""
        graph, ones = self.graph, np.ones(len(op.mean))
        numbers: dict[str, Any] = {
            "gain": op.multiplier / 2.0**15,
            "offset": op.offset,
            "mean": op.mean,
            "variance": ones,
        }
        constants = (graph.number(name, values) for name, values in numbers.items())
        return self.clamped(graph.node("BatchNormalization", self.values[op.source], *constants, epsilon=0.0), op)

    def clamped(self, x: str, op: Norm) -> str:
        return self.graph.node(
            "Clip", x, self.graph.number("low", -op.zero), self.graph.number("high", op.limit - op.zero)
        )

    def average(self, op: Average) -> str:
        """Means over d positions times d * multiplier / 2^(15 + shift), which is 1 but for rounding and a change of step."""
        graph, x, value = self.graph, self.values[op.source], self.program.values[op.source]
        if op.kernel != (1, 1) or op.stride != 1:
            padding = builder.reached(self.program, op, graph.place)
            x = graph.node("AveragePool", x, **graph.window(op, padding))
        d = covered((value.shape[1], value.shape[2]), op.kernel, op.stride, op.padding)
        factor: Any = d * op.multiplier[d - 1] * 2.0 ** -(15.0 + op.shift[d - 1])
        factor = factor[0, 0] if (factor == factor[0, 0]).all() else factor[None, None]
        x = graph.node("Mul", x, graph.number("factor", factor))
        if value.zero:  # the program adds numbers with their zero
            x = graph.node("Add", x, graph.number("rest", (factor - 1) * value.zero))
        if op.channels > value.shape[0]:
            x = graph.node("Pad", x, graph.whole("more", [0, 0, 0, 0, 0, op.channels - value.shape[0], 0, 0]))
        return x

    def max(self, op: Max) -> str:
        padding = builder.reached(self.program, op, self.graph.place)
        return self.graph.node("MaxPool", self.values[op.source], **self.graph.window(op, padding))

    def logits(self, op: Logits) -> str:
        graph, x = self.graph, self.values[op.source]
        _, height, width = self.program.values[op.source].shape
        gain = op.gain * 2.0 ** -(op.shift + op.fraction)
        if op.kernel == (1, 1):
            x = graph.node("GlobalAveragePool", x)
            gain = gain * (height * width)
        x = graph.node("Conv", x, self.weights(op), **graph.window(op, (0, 0, 0, 0)))
        x = graph.node("Mul", x, graph.per_channel("gain", gain))
        x = graph.node("Add", x, graph.per_channel("bias", op.offset * 2.0**-op.fraction))
        x = graph.node("Flatten", x, out="logits")
        sharp = graph.node("Mul", x, graph.number("sharpness", op.sharpness / 2.0**16))
        graph.node("Softmax", sharp, out="probabilities", axis=1)
        return x


class _Int8(_Float):
    """Activations are rounded to uint8 and weights are int8, with what makes them real behind it; the stream is float32.

    Step 1 serves all activations, as their values are the program's. Where nothing else reads a convolution that a
    batch-norm follows, its gain becomes the scale of the weights and the rest of it the bias, as integer engines want it.
    Convolutions of pixels or of the stream, and the classifier, stay float32.
    """

    unpacked_type = np.int8

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        readers = Counter(s for op in program.operations for s in sources(op))
        self.folded: dict[int, tuple[NDArray[Any], NDArray[Any]]] = {}  # conv -> gains and biases of its channels
        for op in program.operations:
            if isinstance(op, Norm) and readers[op.source] == 1 and (found := self.fold(op)):
                self.folded[op.source] = found

    def fold(self, op: Norm) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Gains, and biases in units of the sums, of a batch-norm; None where it cannot be part of a convolution."""
        conv = self.program.operations[op.source]
        if not isinstance(conv, Conv) or conv.base >= 0 or self.program.values[conv.source].kind != "u8":
            return None
        gain = op.multiplier / 2.0**15
        if not gain.all():
            return None
        bias = np.round((op.offset / gain - op.mean) * np.sign(gain) * 2.0**conv.shift)
        bound = self.program.fan_in(conv) * self.program.values[conv.source].reach
        return (gain, bias.astype(np.int64)) if np.abs(bias).max() + bound < INT32 else None

    def operation(self, op: Operation) -> str:
        x, value = super().operation(op), self.program.values[self.graph.place]
        return self.rounded(x, value.zero) if value.kind == "u8" else x

    def rounded(self, x: str, zero: int) -> str:
        graph = self.graph
        step = graph.number("step", 1), graph.constant("zero", np.array(zero, np.uint8))
        return graph.node("DequantizeLinear", graph.node("QuantizeLinear", x, *step), *step)

    def weights(self, op: Conv | Logits) -> str:
        return self.graph.node("Cast", self.unpacked(op), to=self.graph.onnx.TensorProto.FLOAT)

    def conv(self, op: Conv) -> str:
        graph = self.graph
        if graph.place in self.folded:
            return ""  # norm writes it
        if self.program.values[op.source].kind != "u8":
            return super().conv(op)
        # OpenVINO takes Mul for integer weights, too, and ONNX Runtime computes it once, not for each picture. But with a
        # batch-norm behind the sums it would fold that, and round the float weights to 8 bits with one scale for all channels.
        scale = graph.number("scale", 2.0**-op.shift)
        kind, weights = ("Mul", self.weights(op)) if op.base >= 0 else ("DequantizeLinear", self.unpacked(op))
        w = graph.node(kind, weights, scale)
        return self.added(op, graph.node("Conv", self.values[op.source], w, **graph.window(op, op.padding)))

    def norm(self, op: Norm) -> str:
        conv = self.program.operations[op.source]
        if op.source not in self.folded or not isinstance(conv, Conv):
            return super().norm(op)
        graph, (gain, bias) = self.graph, self.folded[op.source]
        scale = graph.number("scale", np.abs(gain) * 2.0**-conv.shift)
        w = graph.node("DequantizeLinear", self.unpacked(conv, gain < 0), scale, axis=0)
        b = graph.node("DequantizeLinear", graph.constant("bias", bias.astype(np.int32)), scale, axis=0)
        x = graph.node("Conv", self.values[conv.source], w, b, **graph.window(conv, conv.padding))
        return x if op.limit == 255 else self.clamped(x, op)  # rounding to uint8 clamps at 255
