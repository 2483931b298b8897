"""Networks in a state as after training, and how far their integer programs are from what torch computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from onebit.binary import binary_layers, latent_weight
from onebit.data.readers import digits
from onebit.graph import nodes as g
from onebit.graph.trace import trace
from onebit.packed import program as p
from onebit.packed import reference
from onebit.packed.lower import Lowered, _Lowering
from onebit.train.moments import reestimate

Pictures = NDArray[np.uint8]


def pictures(count: int, channels: int, size: int | tuple[int, int], seed: int = 0) -> Pictures:
    """Real pictures uint8 [N, C, H, W]: handwritten digits, scaled; every channel is another digit."""
    images = digits()[0].images
    chosen = np.random.default_rng(seed).integers(0, len(images), (count, channels))
    to = (size, size) if isinstance(size, int) else size
    scaled = F.interpolate(torch.from_numpy(images[chosen, 0]).float(), to, mode="bilinear", align_corners=False)
    return scaled.round().to(torch.uint8).numpy()


def settled(net: nn.Module, images: Pictures, seed: int = 0, *, learned: str = "plain") -> nn.Module:
    """`net` with random weights, and the moments that it has on `images`.

    Learned batch-norms get random gains and offsets: "plain" ones as training leaves them, or "odd" ones, where many
    gains are negative, some tiny and one 0.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in binary_layers(net).values():
            weight = latent_weight(layer)
            weight.normal_(0, (2 / weight[0].numel()) ** 0.5, generator=random)
        for m in net.modules():
            if isinstance(m, nn.Conv2d | nn.Linear) and m.bias is not None:
                m.bias.normal_(0, 0.3, generator=random)
            if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) and m.affine:
                m.weight.uniform_(0.5, 1.5, generator=random)
                m.bias.normal_(0, 0.3, generator=random)
                if learned == "odd" and len(m.weight) > 3:
                    m.weight *= torch.where(torch.rand(len(m.weight), generator=random) < 0.4, -1.0, 1.0)
                    m.weight[0], m.weight[1], m.weight[2] = 0.0, 1e-9, -1e-3
    if any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in net.modules()):
        reestimate(net, [torch.from_numpy(images).float()])
    return net


@dataclass
class Result:
    """A lowered network beside torch."""

    graph: g.Graph
    lowered: Lowered
    torch_logits: NDArray[np.float64]
    logits: NDArray[np.float64]
    layers: dict[str, float]  # rms of the difference of what each activation holds, over the rms of what torch computes
    local: dict[str, float]  # the largest error of each operation alone, in its steps: it reads what the program made
    saturated: int  # numbers at the ends of 16 bits in what convolutions, sums and averages made
    rounded_logits: NDArray[np.float64]  # of real arithmetic where only activations are rounded, as the program's are

    @property
    def rms(self) -> float:
        """Of the difference of the logits, in their deviations."""
        return self._rms(self.logits)

    @property
    def rounding(self) -> float:
        """The part of it that rounding activations to so many bits explains."""
        return self._rms(self.rounded_logits)

    def _rms(self, logits: NDArray[np.float64]) -> float:
        return float(np.sqrt(((logits - self.torch_logits) ** 2).mean()) / self.torch_logits.std())


def compared(net: nn.Module, images: Pictures, *, bits: int = 8, ranges: Mapping[int, float] | None = None) -> Result:
    """Lower `net`, and run both on `images`."""
    graph = trace(net, channels=images.shape[1], size=(images.shape[2], images.shape[3]))
    with torch.no_grad():
        want: Tensor = net.eval()(torch.from_numpy(images).float())
    return graph_compared(graph, images, want.numpy(), bits=bits, ranges=ranges)


def graph_compared(
    graph: g.Graph, images: Pictures, want: NDArray[Any] | None = None, *, bits: int = 8,
    ranges: Mapping[int, float] | None = None,
) -> Result:  # fmt: skip
    """Lower `graph`, and run it beside `want`, or beside what it means in real numbers."""
    lowering = _Lowering(graph, bits, ranges)
    lowered = lowering.go()
    program = lowered.program
    real: dict[int, NDArray[np.float32]] = {}
    own = g.run(graph, images, real.__setitem__)
    whole: dict[int, NDArray[np.int32]] = {}
    integers = reference.run(program, images.transpose(0, 2, 3, 1), batch=len(images), watch=whole.__setitem__)
    made = {i: (whole[at.at] - program.values[at.at].zero) * at.step for i, at in lowering.stored.items()}
    layers, local, saturated = {}, {}, 0
    for i, at in lowering.stored.items():
        value, name = program.values[at.at], graph.nodes[i].name
        assert made[i].shape == real[i].shape
        alone = _from(lowering.graph, i, made, real)
        if value.kind == "u8":
            alone = np.clip(alone, -value.zero * at.step, (value.high - value.zero) * at.step)
        local[name] = max(local.get(name, 0.0), float(np.abs(made[i] - alone).max() / at.step))
        if value.kind == "u8":
            size = np.sqrt((real[i] ** 2).mean())
            layers[name] = float(np.sqrt(((made[i] - real[i]) ** 2).mean()) / max(size, 1e-9))
        elif isinstance(program.operations[at.at], p.Conv | p.Average):
            saturated += int(((whole[at.at] == 32767) | (whole[at.at] == -32768)).sum())
    logits = integers * 2.0**-program.logits.fraction
    rounded = g.run(_rounded(lowering), images)
    return Result(
        graph, lowered, (own if want is None else want).astype(np.float64), logits, layers, local, saturated,
        rounded.astype(np.float64),
    )  # fmt: skip


def _from(graph: g.Graph, i: int, made: Mapping[int, NDArray[Any]], real: Mapping[int, NDArray[Any]]) -> NDArray[Any]:
    """Node `i` in real numbers, computed from the stored values that its operation reads."""
    if not graph.nodes[i].inputs:
        return real[i]
    inputs = [made[j] if j in made else _from(graph, j, made, real) for j in graph.nodes[i].inputs]
    return g._compute(graph.nodes[i], [x.astype(np.float32) for x in inputs])


def _rounded(lowering: _Lowering) -> g.Graph:
    """The graph with its float activations rounded and cut as the program's are, and their means rounded."""
    result = g.Graph()
    place: dict[int, int] = {}
    rounding: dict[int, g.Activation] = {}  # node -> of its values
    for i, node in enumerate(lowering.graph.nodes):
        source = node.inputs[0] if node.inputs else -1
        node = replace(node, inputs=tuple(place[j] for j in node.inputs))
        if isinstance(node, g.Activation) and i in lowering.steps:
            rounding[i] = node = replace(node, step=lowering.steps[i], levels=node.levels or 2**lowering.bits)
        place[i] = result.add(node)
        if i in lowering.stored and isinstance(node, g.Average | g.Max) and source in rounding:
            rounding[i] = rounding[source]
            place[i] = result.add(replace(rounding[i], name=f"{node.name} rounded", inputs=(place[i],)))
    return result
