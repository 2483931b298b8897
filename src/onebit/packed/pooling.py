"""Average pooling that a layer behind it can do better.

Activations are whole numbers of steps, and an average of many varies by few of them, so that rounding it costs much. A
layer that sees the whole pooled map adds up all positions anyway: with each weight repeated over its window it adds up
those of the map before pooling, and nothing is rounded.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from onebit.graph import nodes as g

MOST_WEIGHTS = 1 << 22  # of a layer with repeated weights: half a megabyte


def without_means(graph: g.Graph, keep: Collection[int]) -> g.Graph:
    """The same graph, node by node, without means but for the nodes `keep`.

    Layers that see a whole pooled map read what was pooled (then nothing reads the pooling), as far as `MOST_WEIGHTS`
    allows; other means become averages with one window.
    """
    nodes: list[g.Node] = []
    for i, node in enumerate(graph.nodes):
        if isinstance(node, g.Mean) and i not in keep:
            node = g.Average(node.name, node.inputs, graph.shapes[node.inputs[0]][1:], 1)
        if isinstance(node, g.Conv) and node.inputs[0] not in keep:
            node = _unpooled(graph, node, nodes[node.inputs[0]])
        nodes.append(node)
    return g.Graph(nodes, graph.shapes)


def _unpooled(graph: g.Graph, conv: g.Conv, pool: g.Node) -> g.Conv:
    """`conv`, or the same function of what `pool` reads."""
    if not isinstance(pool, g.Average) or any(pool.padding) or pool.append:
        return conv
    before, after = graph.shapes[pool.inputs[0]][1:], graph.shapes[conv.inputs[0]][1:]
    tiles = all(n == m * k and (m == 1 or k == pool.stride) for n, m, k in zip(before, after, pool.kernel, strict=True))
    area = math.prod(pool.kernel)
    sees_all = conv.bits.shape[1:3] == after and not any(conv.padding)
    if not (tiles and sees_all and conv.bits.size * area <= MOST_WEIGHTS):
        return conv
    bits = np.repeat(np.repeat(conv.bits, pool.kernel[0], 1), pool.kernel[1], 2)
    return replace(conv, inputs=pool.inputs, bits=bits, scale=conv.scale / area, stride=1)
