"""Batch-norms and biases on the way to an activation, folded into one affine map a channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onebit.packed import graph as g


@dataclass(frozen=True)
class Chain:
    """What lies between a stored value (or the pixels) and an activation: ``gain * (x - centre) + offset`` a channel.

    Where a batch-norm is in it, `centre` and `deviation` are the moments of x.
    """

    source: int
    centre: NDArray[np.float64]
    gain: NDArray[np.float64]
    offset: NDArray[np.float64]
    deviation: NDArray[np.float64] | None = None

    def then(self, node: g.Node) -> Chain:
        """The chain with a further BatchNorm or Affine behind it."""
        if isinstance(node, g.Affine):
            gain, offset = node.gain, node.offset
            return Chain(self.source, self.centre, self.gain * gain, self.offset * gain + offset, self.deviation)
        assert isinstance(node, g.BatchNorm)
        gain = node.gain / node.deviation
        chain = Chain(
            self.source, self.centre, self.gain * gain, (self.offset - node.mean) * gain + node.offset, self.deviation
        )
        if self.deviation is not None:
            return chain
        # Move the centre to the mean of x, where the batch-norm's output is its offset.
        size = np.where(self.gain == 0, 1.0, self.gain)
        centre = np.where(self.gain == 0, self.centre, self.centre + (node.mean - self.offset) / size)
        at_centre = np.where(self.gain == 0, chain.offset, node.offset)
        return Chain(self.source, centre, chain.gain, at_centre, node.deviation / np.abs(size))


def chain_before(graph: g.Graph, index: int) -> Chain:
    """The chain that ends before node `index`."""
    back = []
    source = graph.nodes[index].inputs[0]
    while isinstance(node := graph.nodes[source], g.BatchNorm | g.Affine):
        back.append(node)
        source = node.inputs[0]
    zero = np.zeros(graph.shapes[source][0])
    chain = Chain(source, zero, zero + 1, zero)
    for node in reversed(back):
        chain = chain.then(node)
    return chain
