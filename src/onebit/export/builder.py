"""What the ONNX and the QONNX exporter share: a graph in the making, and a packed model's numbers in the forms ONNX wants."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onebit._version import __version__
from onebit.errors import OnebitError, reason
from onebit.files import atomic_write
from onebit.packed.file import MAX_FILE, Packed
from onebit.packed.program import Average, Conv, Logits, Max, Program, signs
from onebit.patches import Padding

BATCH = "N"
OPSET, IR_VERSION = 13, 8
QONNX = "qonnx.custom_op.general"  # the domain of its operations


def need(module: str, package: str) -> Any:
    """Import `module`; OnebitError that says what to install where it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise OnebitError(f"this needs the Python package {error.name}; pip install {package}") from None


class Graph:
    """An ONNX graph in the making. Names of tensors and nodes end with the number of their operation in the program.

    Attributes: `place` is the number of the operation that is being written.
    """

    def __init__(self) -> None:
        self.onnx = need("onnx", "'onebit[export]'")
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.place = 0
        self._names: set[str] = set()
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """A constant tensor; of equal ones there is only the first."""
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self._name(name)
            self.constants[self._known[key]] = self.onnx.numpy_helper.from_array(array, self._known[key])
        return self._known[key]

    def number(self, name: str, value: float | NDArray[Any]) -> str:
        """A float32 constant."""
        return self.constant(name, np.asarray(value, np.float32))

    def whole(self, name: str, values: Sequence[int]) -> str:
        """An int64 constant [n], as shapes and the like are."""
        return self.constant(name, np.array(values, np.int64))

    def per_channel(self, name: str, values: NDArray[Any]) -> str:
        """A float32 constant [1, channels, 1, 1]; a scalar where all channels have the same number."""
        same = bool((values == values[0]).all())
        return self.number(name, values[0] if same else values[:, None, None][None])

    def node(self, kind: str, *inputs: str, out: str = "", domain: str = "", **attributes: Any) -> str:
        """Append a node; returns the name of its output: `out`, or one made of its kind."""
        out = out or self._name(kind)
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [out], out, domain=domain, **attributes))
        return out

    def window(self, op: Conv | Average | Max | Logits, padding: Padding) -> dict[str, Any]:
        """The attributes of a node with a window, all of them, since some readers have no defaults."""
        stride = 1 if isinstance(op, Logits) else op.stride
        return {"kernel_shape": list(op.kernel), "strides": [stride] * 2, "pads": list(padding)}

    def model(self, packed: Packed, inputs: list[Any], outputs: list[Any], opsets: dict[str, int]) -> Any:
        """The ModelProto, with the class names (JSON) and all texts of the packed model in its metadata."""
        helper = self.onnx.helper
        graph = helper.make_graph(self.nodes, "onebit", inputs, outputs, list(self.constants.values()))
        made = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
            ir_version=IR_VERSION,
            producer_name="onebit",
            producer_version=__version__,
        )
        classes = json.dumps(list(packed.classes), ensure_ascii=False)
        helper.set_model_props(made, {"classes": classes, **packed.about})
        return made

    def _name(self, kind: str) -> str:
        name, count = f"{kind}_{self.place}", 1
        while name in self._names:
            count += 1
            name = f"{kind}_{self.place}_{count}"
        self._names.add(name)
        return name


class Export(NamedTuple):
    """What an exported file says of itself: `shape` is [channels, height, width] of a picture."""

    kind: str  # "onnx" or "qonnx"
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    about: dict[str, str]


def describe(path: Path) -> Export:
    """Read what `onebit export onnx` or `qonnx` wrote; OnebitError where it is something else, or `onnx` is missing."""
    onnx = need("onnx", "'onebit[export]'")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own kinds
        raise OnebitError(f"{path}: cannot be read as ONNX ({reason(error)})") from None
    if model.producer_name != "onebit":
        raise OnebitError(
            f"{path}: is not of onebit but of {model.producer_name[:40] or 'nobody known'!r}; give an export"
        )
    about = {entry.key: entry.value for entry in model.metadata_props}
    classes = tuple(json.loads(about.pop("classes")))
    a, b, c = (dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim[1:])
    quantised = any(opset.domain == QONNX for opset in model.opset_import)
    return Export("qonnx", (a, b, c), classes, about) if quantised else Export("onnx", (c, a, b), classes, about)


def save(model: Any, output: Path) -> None:
    """Write a ModelProto, whole or not at all."""
    size = model.ByteSize()
    if size > MAX_FILE:
        raise OnebitError(f"{output}: an ONNX file has at most {MAX_FILE} bytes, this one would have {size}")
    content = model.SerializeToString()
    atomic_write(output, lambda file: file.write(content))


def weights(program: Program, op: Conv | Logits) -> NDArray[np.float32]:
    """The weights as ONNX orders them: +1 and -1, float32 [O, I, kernel height, kernel width]."""
    channels = program.values[op.source].shape[0]
    return signs(op, program.fan_in(op)).reshape(len(op.bits), *op.kernel, channels).transpose(0, 3, 1, 2)


def reached(program: Program, op: Average | Max, i: int) -> Padding:
    """The padding of operation `i` without rows and columns that no window reaches: some engines refuse those.

    What is left is less than the window on each side, since every window covers a position of the map.
    """
    size, made = program.values[op.source].shape[1:], program.values[i].shape[1:]
    top, left, _, _ = op.padding
    bottom, right = (max(0, (made[a] - 1) * op.stride + op.kernel[a] - size[a] - op.padding[a]) for a in (0, 1))
    return top, left, bottom, right


def pixel_line(table: NDArray[np.int16]) -> tuple[NDArray[np.float32], NDArray[np.float32], float | None] | None:
    """Slopes [C], offsets [C] and a lower end with which ``round(max(low, slope * pixel + offset))`` is the table.

    The table of a batch-norm, with or without ReLU, is a rounded line; float32 must give each entry whatever the order
    of rounding, so that every entry needs some distance from a half. None: no such line exists; low is None without ReLU.

    >>> pixel_line(np.arange(-128, 128, dtype=np.int16)[None])
    (array([1.], dtype=float32), array([-128.], dtype=float32), None)
    """
    pixels, low = np.arange(256), int(table.min())
    cut = any((row == low).sum() > 1 for row in table)
    points = [np.flatnonzero(row > low) if cut else pixels for row in table]
    lines = [_line(x, row[x].astype(np.int64)) if len(x) else (0.0, low) for x, row in zip(points, table, strict=True)]
    slope, offset = np.array(lines, np.float32).T
    real = slope[:, None].astype(np.float64) * pixels + offset[:, None]
    safe = 0.5 - np.abs(real).max() * 2.0**-22
    fits = np.abs((np.maximum(real, low) if cut else real) - table) < safe
    return (slope, offset, float(low) if cut else None) if fits.all() else None


def _line(x: NDArray[np.int64], y: NDArray[np.int64]) -> tuple[float, float]:
    """Slope and offset of the line with the least largest distance from the points (its slope is that of two of them)."""
    if len(x) < 2:
        return 0.0, float(y[0])
    if np.abs(np.polyval(np.polyfit(x, y, 1), x) - y).max() > 1:  # no line at all: do not look for the best one
        return 0.0, 0.0
    slopes = np.unique(np.concatenate([(y[k:] - y[:-k]) / (x[k:] - x[:-k]) for k in range(1, len(x))]))
    rest = y - slopes[:, None] * x
    best = int(np.argmin(rest.max(1) - rest.min(1)))
    return float(slopes[best]), float((rest[best].max() + rest[best].min()) / 2)
