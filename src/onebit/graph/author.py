"""The trained networks that the paper's author published, as graphs. No torch, no scipy.

Three layouts of MATLAB 5 files (github.com/McDonnell-Lab/1-bit-per-weight), known by their variables:

    Keras            conv2d_<n>, batch_normalization_v1_<n>
    MATLAB           BinaryWeights, LayerWeights, Moments, BNG, BNB, Stride, Padding
    MATLAB, plain    BooleanSingleBitWeights, LayerScales, BN_Moments, BN_Scales, BN_Offsets, Stride, Padding

Weights are 0 and 1 for -1 and +1, kernel rows x columns x inputs x outputs. Batch-norm i precedes convolution i; one
more follows the last. The Keras files hold variances and no scales, pad after the map at stride 2, and have no ReLU
between the first batch-norm and convolution; the MATLAB ones hold deviations with the epsilon inside, and pad both
sides. Layers get the names that they have in `onebit.networks.wide_resnet`. Nothing in a file is taken on trust.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.data import matfile
from onebit.data.matfile import Cell, Value
from onebit.errors import OnebitError, reason
from onebit.graph.nodes import Activation, Add, Average, BatchNorm, Conv, Graph, Input, Mean, Vector
from onebit.patches import Padding

SIZE = 32  # side of the pictures, which no file tells: all are CIFAR networks
EPSILON = 1e-5
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LARGEST_KERNEL = 31
REMEDY = "fetch the file again from github.com/McDonnell-Lab/1-bit-per-weight"

# Keras numbers the layers of a process, so that a file may start anywhere; its first layer of a kind has no number.
CONV = re.compile(r"conv2d(?:_(\d+))?")
NORM = re.compile(r"batch_normalization(?:_v\d+)?(?:_(\d+))?")
# Weights, scales, moments, gains, offsets
RESIDUAL = ("BinaryWeights", "LayerWeights", "Moments", "BNG", "BNB")
PLAIN = ("BooleanSingleBitWeights", "LayerScales", "BN_Moments", "BN_Scales", "BN_Offsets")
OTHERS = ("Stride", "Padding", "PercentCorrectTest")


@dataclass(frozen=True, eq=False)
class Imported:
    """A published network. `accuracy`: percent of the test set after the last epoch, None if the file does not say."""

    graph: Graph
    layout: str  # in words
    classes: tuple[str, ...]  # CIFAR-10's names; else "0", "1", ...
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class _Network:
    """What the layouts have in common. One more norm than convolutions: mean, deviation, gain, offset."""

    layout: str
    residual: bool
    input_relu: bool
    bits: list[NDArray[np.bool_]]
    scales: list[float]
    strides: list[int]
    paddings: list[Padding]
    pool_padding: Padding
    norms: list[tuple[Vector, Vector, Vector, Vector]]


def read(path: Path) -> Imported:
    """The network in one of the author's .mat files, for raw pixels uint8 [N, 3, 32, 32].

    Raises OnebitError with the file's name: it is missing, damaged, of another layout, or its arrays make no network.

    >>> read(Path("nets/CIFAR10_allparams.mat"))
    Traceback (most recent call last):
    ...
    onebit.errors.OnebitError: nets/CIFAR10_allparams.mat: cannot be read (No such file or directory); check its name \
and permissions
    """
    try:
        values = matfile.load(path, _wanted)
    except OSError as error:
        raise OnebitError(f"{path}: cannot be read ({reason(error)}); check its name and permissions") from error
    except (ValueError, EOFError, struct.error, zlib.error) as error:
        raise OnebitError(f"{path}: is no MATLAB 5 file, or damaged ({reason(error)}); {REMEDY}") from error
    except MemoryError:
        raise OnebitError(f"{path}: does not fit into the memory of this machine; free some") from None
    try:
        network = _network(values)
        graph = _graph(network)
        accuracy = _accuracy(values)
    except OnebitError as error:
        raise OnebitError(f"{path}: {error}; {REMEDY}") from None
    classes = len(network.bits[-1])
    names = CIFAR10 if classes == len(CIFAR10) else tuple(map(str, range(classes)))
    return Imported(graph, network.layout, names, accuracy)


def _wanted(name: str) -> bool:
    return name in (*RESIDUAL, *PLAIN, *OTHERS) or bool(CONV.fullmatch(name) or NORM.fullmatch(name))


def _network(values: dict[str, Value]) -> _Network:
    if RESIDUAL[0] in values:
        return _matlab(values, RESIDUAL, residual=True)
    if PLAIN[0] in values:
        return _matlab(values, PLAIN, residual=False)
    if any(map(CONV.fullmatch, values)):
        return _keras(values)
    raise OnebitError(f"holds no network: none of the variables {RESIDUAL[0]}, {PLAIN[0]} and conv2d is there")


# ---- layouts


def _keras(values: dict[str, Value]) -> _Network:
    bits = [_bits(name, values[name]) for name in _numbered(values, CONV)]
    names = _numbered(values, NORM)
    if not names:
        raise OnebitError("holds weights but no batch-norms; the file with both is named ..._allparams.mat")
    if len(names) != len(bits) + 1:
        raise OnebitError(f"holds {len(names)} batch-norms for {len(bits)} convolutions, expected {len(bits) + 1}")
    _check_depth(bits)
    strides = _strides_by_width(bits)
    norms = []
    for name, channels in zip(names, _channels(bits), strict=True):
        rows = _numbers(name, values[name], (2, channels), (4, channels))
        mean, variance = rows[-2:]
        gain, offset = rows[:2] if len(rows) == 4 else (np.ones(channels), np.zeros(channels))
        if (variance < 0).any():
            raise OnebitError(f"{name}: variance {variance.min():g} of channel {variance.argmin()} is negative")
        norms.append((mean, np.sqrt(variance + EPSILON), gain, offset))
    return _Network(
        layout="Keras, wide residual network",
        residual=True,
        input_relu=False,
        bits=bits,
        scales=[math.sqrt(2 / b[0].size) for b in bits],
        strides=strides,
        paddings=[_same(b.shape[1], stride) for b, stride in zip(bits, strides, strict=True)],
        pool_padding=_same(3, 2),
        norms=norms,
    )


def _matlab(values: dict[str, Value], names: tuple[str, ...], residual: bool) -> _Network:
    weights, scales, moments, gains, offsets = names
    bits = [_bits(f"{weights}{{{i}}}", item) for i, item in enumerate(_items(values, weights), 1)]
    if residual:
        _check_depth(bits)
    elif len(bits) < 2:
        raise OnebitError(f"{weights} has {len(bits)} cells, fewer than two convolutions")
    count = len(bits)
    norms = []
    parts = zip(*(_items(values, name, count + 1) for name in (moments, gains, offsets)), strict=True)
    for i, ((moment, gain, offset), channels) in enumerate(zip(parts, _channels(bits), strict=True), 1):
        mean, deviation = _numbers(f"{moments}{{{i}}}", moment, (channels, 2)).T
        if not (deviation > 0).all():
            raise OnebitError(
                f"{moments}{{{i}}}: deviation {deviation.min():g} of channel {deviation.argmin()} is not positive"
            )
        pair = _vector(f"{gains}{{{i}}}", gain, channels), _vector(f"{offsets}{{{i}}}", offset, channels)
        norms.append((mean, deviation, *pair))
    pads = [b.shape[1] // 2 for b in bits]
    if "Padding" in values:
        pads = _integers("Padding", values["Padding"], 0, [b.shape[1] - 1 for b in bits])
    return _Network(
        layout=f"MATLAB, {'wide residual network' if residual else 'plain network without skip connections'}",
        residual=residual,
        input_relu=True,
        bits=bits,
        scales=_vector(scales, _value(values, scales), count).tolist(),
        strides=_integers("Stride", values["Stride"], 1, [2] * count)
        if "Stride" in values
        else _strides_by_width(bits),
        paddings=[(pad, pad, pad, pad) for pad in pads],
        pool_padding=(1, 1, 1, 1),
        norms=norms,
    )


def _same(kernel: int, stride: int) -> Padding:
    """TensorFlow's "same" padding of a map that the stride divides: the odd row and column go behind.

    >>> _same(3, 1), _same(3, 2)
    ((1, 1, 1, 1), (0, 0, 1, 1))
    """
    rows = max(kernel - stride, 0)
    return rows // 2, rows // 2, rows - rows // 2, rows - rows // 2


def _strides_by_width(bits: list[NDArray[np.bool_]]) -> list[int]:
    """Stride 2 where the channels double; the first and the last convolution have stride 1."""
    strides = [1] * len(bits)
    for i, b in enumerate(bits[1:-1], 1):
        outputs, inputs = len(b), b.shape[3]
        if outputs not in (inputs, 2 * inputs):
            raise OnebitError(
                f"convolution {i} (from 0) makes {outputs} channels of {inputs}, neither as many nor twice"
            )
        strides[i] = outputs // inputs
    return strides


def _accuracy(values: dict[str, Value]) -> float | None:
    name = "PercentCorrectTest"  # epoch by epoch
    if name not in values:
        return None
    value = values[name]
    count = value.size if isinstance(value, np.ndarray) else 0
    last = float(_vector(name, value, count)[-1]) if count else math.nan
    if not 0 <= last <= 100:
        raise OnebitError(f"{name} does not end with a percentage")
    return last


# ---- what may stand in a file


def _numbered(values: dict[str, Value], pattern: re.Pattern[str]) -> list[str]:
    """The variables of one kind in the order of their numbers; OnebitError where one is missing in between."""
    found = sorted((int(match[1] or 0), match[0]) for match in map(pattern.fullmatch, values) if match)
    for (before, name), (number, following) in pairwise(found):
        if number != before + 1:
            raise OnebitError(f"{following} follows {name}: a layer is missing, or there twice")
    return [name for _, name in found]


def _value(values: dict[str, Value], name: str) -> Value:
    if name not in values:
        raise OnebitError(f"variable {name} is missing")
    return values[name]


def _items(values: dict[str, Value], name: str, count: int | None = None) -> tuple[Value, ...]:
    """The cells of `name`, `count` of them."""
    value = _value(values, name)
    if not isinstance(value, Cell) or len(value.shape) != 2 or 1 not in value.shape:
        raise OnebitError(f"{name} is no cell array of one row or column")
    if count is not None and len(value.items) != count:
        raise OnebitError(f"{name} has {len(value.items)} cells for {count - 1} convolutions, expected {count}")
    return value.items


def _array(what: str, value: Value) -> NDArray[Any]:
    if not isinstance(value, np.ndarray):
        raise OnebitError(f"{what} is no array of real numbers")
    return value


def _numbers(what: str, value: Value, *shapes: tuple[int, ...]) -> Vector:
    """Finite float64 numbers of one of `shapes`. The shape is checked before anything of its size is made."""
    array = _array(what, value)
    if array.shape not in shapes:
        expected = " or ".join("x".join(map(str, shape)) for shape in shapes)
        raise OnebitError(f"{what} is {'x'.join(map(str, array.shape))}, expected {expected}")
    with np.errstate(invalid="ignore"):  # a signalling NaN: reported below
        numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise OnebitError(f"{what} holds {numbers[~np.isfinite(numbers)][0]}, which is not finite")
    return numbers


def _vector(what: str, value: Value, count: int) -> Vector:
    return _numbers(what, value, (count, 1), (1, count)).ravel()


def _integers(what: str, value: Value, low: int, high: list[int]) -> list[int]:
    """Whole numbers, one a convolution, number i in low..high[i]."""
    numbers = _vector(what, value, len(high))
    for i, number in enumerate(numbers):
        if number != math.floor(number) or not low <= number <= high[i]:
            raise OnebitError(f"{what} of convolution {i} (from 0) is {number:g}, expected {low} to {high[i]}")
    return [int(number) for number in numbers]


def _bits(what: str, value: Value) -> NDArray[np.bool_]:
    """Weights 0 and 1 [H, W, I, O], from Keras [1, H, W, I, O], as bool [O, H, W, I]."""
    array = _array(what, value)
    if array.ndim == 5 and len(array) == 1:
        array = array[0]
    sides = array.shape[:2]
    if array.ndim != 4 or not array.size or sides[0] != sides[1] or sides[0] not in range(1, LARGEST_KERNEL + 1, 2):
        raise OnebitError(
            f"{what} is {'x'.join(map(str, array.shape))}, expected kernel rows x columns x inputs x outputs, "
            "the kernel square and of an odd side"
        )
    ones = array == 1
    if not (ones | (array == 0)).all():
        raise OnebitError(f"{what} holds {array[~ones & (array != 0)][0]}, expected weights 0 and 1")
    return np.ascontiguousarray(ones.transpose(3, 0, 1, 2))


def _check_depth(bits: list[NDArray[np.bool_]]) -> None:
    """Two convolutions a block, as many blocks in each of three groups, and one convolution before and after."""
    if len(bits) < 8 or (len(bits) - 2) % 6:
        raise OnebitError(f"holds {len(bits)} convolutions, a wide residual network has 6n + 2")


def _channels(bits: list[NDArray[np.bool_]]) -> list[int]:
    """Channels of the norms: before each convolution, and after the last."""
    for i, (b, following) in enumerate(pairwise(bits)):
        if len(b) != following.shape[3]:
            raise OnebitError(
                f"convolution {i} (from 0) makes {len(b)} channels, the next one takes {following.shape[3]}"
            )
    return [b.shape[3] for b in bits] + [len(bits[-1])]


# ---- the graph


def _graph(network: _Network) -> Graph:
    graph = Graph()
    last = len(network.bits) - 1
    x = stream = graph.add(Input("input", (), (3, SIZE, SIZE)))
    for i, bits in enumerate(network.bits):
        block, half = divmod(i - 1, 2)
        place = f"body.{block}"
        norm, act, conv = f"{place}.norm{half + 1}", f"{place}.act{half + 1}", f"{place}.conv{half + 1}"
        if i == 0:
            norm, act, conv = "input_norm", "input_act", "stem"
        elif i == last:
            norm, act, conv = "norm", "act", "classifier"
        x = graph.add(BatchNorm(norm, (x,), *network.norms[i]))
        if i or network.input_relu:
            x = graph.add(Activation(act, (x,)))
        x = graph.add(Conv(conv, (x,), bits, network.scales[i], network.strides[i], network.paddings[i]))
        if i == 0:
            stream = x
        elif network.residual and half == 1 and i < last:
            skip = _shortcut(graph, place, stream, x, network.pool_padding)
            x = stream = graph.add(Add(place, (x, skip)))
    x = graph.add(BatchNorm("class_norm", (x,), *network.norms[-1]))
    graph.add(Mean("pool", (x,)))
    return graph


def _shortcut(graph: Graph, place: str, stream: int, x: int, padding: Padding) -> int:
    """The raw stream in the shape of map `x`: pooled where that is smaller, zero channels behind its own."""
    (channels, height, _), (wanted, smaller, _) = graph.shapes[stream], graph.shapes[x]
    if height == smaller:
        return stream
    if wanted < channels:
        raise OnebitError(f"layer {place!r}: makes {wanted} channels of {channels}, they cannot become fewer")
    return graph.add(Average(f"{place}.shortcut", (stream,), (3, 3), 2, padding, wanted - channels))
