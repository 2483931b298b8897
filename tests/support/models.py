"""Packed models for tests of commands: one that tells left from right, and wide residual networks of random weights."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from onebit.graph import nodes as g
from onebit.packed.file import Packed
from onebit.packed.lower import lower
from onebit.packed.program import Logits, Program, Table, pack_bits


def left_or_right(channels: int = 1, height: int = 8, width: int = 8, about: Mapping[str, str] | None = None) -> Packed:
    """Two operations; of a picture that is brighter on one side, the class is the name of that side."""
    table = Table(height, width, np.tile(np.arange(-128, 128, dtype=np.int16), (channels, 1)))
    left = np.zeros((height, width, channels), bool)
    left[:, : width // 2] = True
    bits = pack_bits(np.stack([left, ~left]))
    ones, zeros = np.ones(2, np.int32), np.zeros(2, np.int32)
    logits = Logits(0, bits, (height, width), 0, ones, zeros, fraction=10)
    return Packed(Program([table, logits]), ("left", "right"), dict(about or {}))


def wide(blocks: int, width: Fraction | int, size: int = 32, classes: int = 10, seed: int = 0) -> Packed:
    """A wide residual network of random weights, three groups of `blocks` blocks: 20-10 has 3 and width 10."""
    rng = np.random.default_rng(seed)
    graph = g.Graph()

    def add(node: g.Node) -> int:
        return graph.add(node)

    def norm(x: int) -> int:
        c = graph.shapes[x][0]
        x = add(g.BatchNorm("norm", (x,), rng.normal(0, 0.1, c), rng.uniform(0.5, 1.5, c), np.ones(c), np.zeros(c)))
        return add(g.Activation("relu", (x,)))

    def conv(x: int, out: int, kernel: int = 3, stride: int = 1) -> int:
        into = graph.shapes[x][0]
        bits = rng.integers(0, 2, (out, kernel, kernel, into), np.uint8).astype(bool)
        pad = kernel // 2
        return add(g.Conv("conv", (x,), bits, (2 / (kernel**2 * into)) ** 0.5, stride, (pad, pad, pad, pad)))

    x = add(g.Input("input", (), (3, size, size)))
    x = add(g.BatchNorm("input.norm", (x,), np.full(3, 128.0), np.full(3, 64.0), np.ones(3), np.zeros(3)))
    stream = conv(x, int(16 * width))
    for group in range(3):
        out = int(16 * width * 2**group)
        for block in range(blocks):
            stride = 2 if group and not block else 1
            branch = conv(norm(conv(norm(stream), out, stride=stride)), out)
            if stride == 2:
                stream = add(g.Average("skip", (stream,), (3, 3), 2, (1, 1, 1, 1), out - graph.shapes[stream][0]))
            stream = add(g.Add("sum", (branch, stream)))
    x = conv(norm(stream), classes, kernel=1)
    c = graph.shapes[x][0]
    x = add(g.BatchNorm("last", (x,), np.zeros(c), np.ones(c), np.ones(c), np.zeros(c)))
    add(g.Mean("mean", (x,)))
    about = {"data": "noise", "fit": "square", "recipe": "{}", "error": "90.00", "seed": str(seed)}
    return Packed(lower(graph).program, tuple(f"class {k}" for k in range(classes)), about)
