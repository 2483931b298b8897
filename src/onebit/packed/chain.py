"""What layers that work on each pixel alone do together: a table of the pixels, or one affine map a channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onebit.graph import nodes as g


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


def of_pixels(graph: g.Graph) -> dict[int, NDArray[np.float64]]:
    """What each of the 256 pixels becomes, [C, 256], for the input and the nodes that only such layers lie before."""
    pixels: dict[int, NDArray[np.float64]] = {}
    for i, node in enumerate(graph.nodes):
        if isinstance(node, g.Input):
            pixels[i] = np.tile(np.arange(256.0), (node.shape[0], 1))
        elif node.inputs[0] in pixels and isinstance(node, g.BatchNorm | g.Affine | g.Activation):
            pixels[i] = _through(node, pixels[node.inputs[0]])
    return pixels


def _through(node: g.Node, x: NDArray[np.float64]) -> NDArray[np.float64]:
    if isinstance(node, g.BatchNorm):
        scaled = (x - node.mean[:, None]) / node.deviation[:, None]
        return scaled * node.gain[:, None] + node.offset[:, None]
    if isinstance(node, g.Affine):
        return x * node.gain[:, None] + node.offset[:, None]
    assert isinstance(node, g.Activation)
    if node.step is None or node.levels is None:
        return np.maximum(x, node.low)
    low = round(node.low / node.step)
    return np.clip(np.floor(x / node.step + 0.5), low, low + node.levels - 1) * node.step
