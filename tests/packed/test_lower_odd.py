"""Networks that users write: whatever can be lowered computes what torch does, the rest is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.binary import binarize
from onebit.errors import OnebitError
from onebit.graph import nodes as g
from onebit.graph.trace import trace
from onebit.networks.activations import QuantizedActivation, ShiftedReLU
from onebit.packed import reference
from onebit.packed.lower import lower, needs_ranges
from onebit.packed.ranges import measure
from support.lowering import Result, compared, pictures, settled

Forward = Callable[[Any, Tensor], Tensor]


class Net(nn.Module):
    """Layers by name, and what a user's forward does with them."""

    def __init__(self, function: Forward, **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def conv(c_in: int, c_out: int, kernel: Any = 3, stride: int = 1, **options: Any) -> nn.Conv2d:
    padding = options.pop("padding", kernel // 2 if isinstance(kernel, int) else 0)
    return nn.Conv2d(c_in, c_out, kernel, stride, padding, **{"bias": False, **options})


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels)


def bn(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


def stem(channels: int = 3, out: int = 8) -> nn.Sequential:
    return nn.Sequential(norm(channels), conv(channels, out))


def head(channels: int) -> nn.Sequential:
    return nn.Sequential(conv(channels, 5, 1), norm(5), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def linear(features: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 5), nn.BatchNorm1d(5))


def sound(net: nn.Module, channels: int = 3, size: Any = 12, *, ranges: bool = False, seed: int = 0) -> Result:
    """Every operation is right to one step, nothing saturates, and logits differ by the rounding of activations."""
    train, test = pictures(64, channels, size, seed), pictures(16, channels, size, seed + 50)
    settled(binarize(net), train, seed)
    graph = trace(net, channels=channels, size=size)
    assert needs_ranges(graph) == ranges
    result = compared(net, test, ranges=measure(graph, train) if ranges else None)
    assert [note for note in result.lowered.notes if "are repeated" not in note] == []
    assert result.saturated == 0
    assert max(result.local.values()) < 1.1, result.local
    assert result.rms < 0.01 + 1.8 * result.rounding < 0.3
    return result


PIXELS = {
    "raw": lambda n, x: n.head(n.act(n.conv(x))),
    "scaled": lambda n, x: n.head(n.act(n.conv(x / 255))),
    "standard": lambda n, x: n.head(n.act(n.conv((x / 255 - 0.1307) / 0.3081))),
    "relu": lambda n, x: n.head(n.act(n.conv(F.relu(x)))),
    "relu of a difference": lambda n, x: n.head(n.act(n.conv(F.relu(128 - x)))),
    "batch-norm": lambda n, x: n.head(n.act(n.conv(n.norm(x)))),
    "two batch-norms": lambda n, x: n.head(n.act(n.conv(n.norm(n.norm(x) * 3)))),
    "relu, batch-norm, shifted relu": lambda n, x: n.head(n.act(n.conv(n.shifted(n.norm(F.relu(x - 9)) * 2)))),
    "shifted relu without a batch-norm": lambda n, x: n.head(n.act(n.conv(n.shifted(F.relu(x) / 64 - 2)))),
    "trained 4 bits": lambda n, x: n.head(n.act(n.conv(n.quantized(n.norm(x))))),
    "max pooling": lambda n, x: n.head(n.act(n.conv(F.max_pool2d(x, 2)))),
    "average pooling": lambda n, x: n.head(n.act(n.conv(F.avg_pool2d(n.norm(x), 3, 2, 1, count_include_pad=False)))),
    "relu and average pooling": lambda n, x: n.head(n.act(n.conv(F.avg_pool2d(F.relu(n.norm(x)), 2)))),
    "pooling of pooling": lambda n, x: n.head(n.act(n.conv(F.max_pool2d(F.avg_pool2d(x, 2), 2)))),
    "pooling and an activation": lambda n, x: n.head(n.act(n.conv(F.relu(n.norm(F.avg_pool2d(F.relu(x), 2)))))),
    "zero channels": lambda n, x: n.head(n.act(n.wide(F.pad(n.norm(x), (0, 0, 0, 0, 0, 2))))),
    "two readers": lambda n, x: (lambda y: n.head(n.act(n.conv(y) + n.other(y))))(n.norm(x)),
    "two readers of other scales": lambda n, x: (lambda y: n.head(n.act(n.point(y) + n.conv(y))))(x / 99),
}


@pytest.mark.parametrize("forward", PIXELS.values(), ids=PIXELS)
def test_whatever_is_done_to_the_pixels_becomes_their_table(forward: Forward) -> None:
    convs = {"conv": conv(3, 8), "other": conv(3, 8), "wide": conv(5, 8), "point": conv(3, 8, 1)}
    acts = {"act": bn(8), "shifted": ShiftedReLU(), "quantized": QuantizedActivation(4)}
    sound(Net(forward, **convs, **acts, norm=norm(3), head=head(8)), seed=4)


def block(n: Any, x: Tensor, k: int) -> Tensor:
    """The convolution branch of a pre-activation block."""
    return getattr(n, f"second{k}")(getattr(n, f"middle{k}")(getattr(n, f"first{k}")(getattr(n, f"act{k}")(x))))


def branch(k: int, c_in: int, c_out: int, stride: int = 1, kernel: int = 3) -> dict[str, nn.Module]:
    return {
        f"act{k}": bn(c_in), f"first{k}": conv(c_in, c_out, 3, stride), f"middle{k}": bn(c_out),
        f"second{k}": conv(c_out, c_out, kernel),
    }  # fmt: skip


def projected(n: Any, x: Tensor) -> Tensor:
    """A pre-activation block whose skip is a 1x1 convolution of the first activation, as in the second ResNet paper."""
    y = n.act0(x)
    return n.skip(y) + n.second0(n.middle0(n.first0(y)))


def pooled_twice(n: Any, x: Tensor) -> Tensor:
    y = F.avg_pool2d(n.stem(x), 2)
    return y + block(n, y, 0) + n.point(n.act(y))


STREAMS: dict[str, tuple[Forward, dict[str, nn.Module]]] = {
    "identity skip": (lambda n, x: (lambda y: y + block(n, y, 0))(n.stem(x)), branch(0, 16, 16)),
    "the stream comes second": (lambda n, x: (lambda y: block(n, y, 0) + y)(n.stem(x)), branch(0, 16, 16)),
    "in place": (lambda n, x: (lambda y: y.add_(block(n, y, 0)))(n.stem(x)), branch(0, 16, 16)),
    "projected skip": (lambda n, x: projected(n, n.stem(x)), branch(0, 16, 16, 2) | {"skip": conv(16, 16, 1, 2)}),
    "kernels of 5, 1 and 3": (
        lambda n, x: (lambda y: y + block(n, y, 2))((lambda y: y + block(n, y, 1))((lambda y: y + block(n, y, 0))(n.stem(x)))),
        branch(0, 16, 16, kernel=5) | branch(1, 16, 16, kernel=1) | branch(2, 16, 16),
    ),
    "sums of sums": (
        lambda n, x: (lambda y, a: (y + n.second0(a)) + n.second1(a) + block(n, y, 2))(*(lambda y: (y, n.act0(y)))(n.stem(x))),
        branch(0, 16, 16) | branch(1, 16, 16, kernel=1) | branch(2, 16, 16),
    ),
    "two convolutions alone make a sum": (
        lambda n, x: (lambda y: n.second0(y) + n.second1(y))(n.act0(n.stem(x))),
        branch(0, 16, 16) | branch(1, 16, 16, kernel=5),
    ),
    "a dense connection": (  # every block reads the stream, and the stem is added again at the end
        lambda n, x: (lambda y: (lambda z: z + block(n, y, 1))(y + block(n, y, 0)))(n.stem(x)),
        branch(0, 16, 16) | branch(1, 16, 16),
    ),
    "a sum that a norm and a later sum read": (
        lambda n, x: (lambda a: n.first1(a) + n.second1(n.middle1(n.first1(a))))(n.act0(n.stem(x))),
        branch(0, 16, 16) | branch(1, 16, 16),
    ),
    "two norms of one stream": (
        lambda n, x: (lambda y: n.second0(n.act0(y)) + n.second1(n.act1(y)))(n.stem(x)), branch(0, 16, 16) | branch(1, 16, 16),
    ),
    "max pooling before the first block": (
        lambda n, x: (lambda y: y + block(n, y, 0))(F.max_pool2d(n.stem(x), 3, 2, 1)), branch(0, 16, 16),
    ),
    "max pooling of max pooling": (
        lambda n, x: (lambda y: y + block(n, y, 0))(F.max_pool2d(F.max_pool2d(n.stem(x), 2, 1), 2)), branch(0, 16, 16),
    ),
    "zero channels and a stride without pooling": (
        lambda n, x: (lambda y: F.pad(F.avg_pool2d(y, 1, 2), (0, 0, 0, 0, 0, 16)) + block(n, y, 0))(n.stem(x)), branch(0, 16, 32, 2),
    ),
    "zero channels only": (
        lambda n, x: (lambda y: F.pad(y, (0, 0, 0, 0, 0, 16)) + block(n, y, 0))(n.stem(x)), branch(0, 16, 32),
    ),
    "pooled stream with two readers": (pooled_twice, branch(0, 16, 16) | {"act": bn(16), "point": conv(16, 16, 1)}),
    "pooling alone reads the last sum": (
        lambda n, x: (lambda y: F.avg_pool2d(y + block(n, y, 0), 6))(n.stem(x)), branch(0, 16, 16),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_residual_streams_hold_their_sums(name: str) -> None:
    forward, layers = STREAMS[name]
    out = 32 if "zero" in name else 16
    net = Net(lambda n, x: n.head(n.last(forward(n, x))), stem=stem(3, 16), **layers, last=bn(out), head=head(out))
    sound(net, seed=4)


CHAINS: dict[str, tuple[Callable[[], list[nn.Module]], int, Any]] = {
    "plain": (lambda: [stem(), bn(8), conv(8, 12), bn(12), head(12)], 3, 12),
    "biases before batch-norms": (lambda: [conv(1, 8, bias=True), bn(8), conv(8, 8, bias=True), bn(8), head(8)], 1, 12),
    "max pooling before the norm": (lambda: [stem(), nn.MaxPool2d(2), bn(8), conv(8, 8), nn.MaxPool2d(3, 2), bn(8), head(8)], 3, 12),
    "max pooling of activations": (lambda: [stem(), bn(8), nn.MaxPool2d(3, 2, 1), conv(8, 8), bn(8), head(8)], 3, 12),
    "average pooling before the norm": (lambda: [stem(), nn.AvgPool2d(2), bn(8), conv(8, 8), bn(8), head(8)], 3, 12),
    "large average pooling before the norm": (lambda: [stem(), nn.AvgPool2d(8, 4), bn(8), head(8)], 3, 16),
    "average pooling of activations": (
        lambda: [stem(), bn(8), nn.AvgPool2d(3, 2, 1, count_include_pad=False), conv(8, 8), bn(8), head(8)], 3, 13,
    ),
    "large average pooling of activations": (lambda: [stem(), bn(8), nn.AvgPool2d(6), conv(8, 8), bn(8), head(8)], 3, 24),
    "adaptive pooling to 2x2": (lambda: [stem(), bn(8), nn.AdaptiveAvgPool2d(2), linear(32)], 3, 12),
    "pooling of pooling": (lambda: [stem(), bn(8), nn.AvgPool2d(2), nn.MaxPool2d(2), conv(8, 8), bn(8), head(8)], 3, 16),
    "shifted relu, pooled": (
        lambda: [
            stem(), norm(8), ShiftedReLU(), nn.MaxPool2d(2, padding=1), nn.AvgPool2d(3, 2, 1, count_include_pad=False),
            conv(8, 8), norm(8), ShiftedReLU(), head(8),
        ], 3, 13,
    ),
    "shifted relu before zero padding": (
        lambda: [stem(), norm(8), ShiftedReLU(), nn.ZeroPad2d((2, 0, 1, 3)), conv(8, 8), bn(8), head(8)], 3, 9,
    ),
    "other kernels and strides": (
        lambda: [stem(), bn(8), conv(8, 8, (1, 4), padding=(0, 1)), bn(8), conv(8, 9, (5, 2), 3), bn(9), head(9)], 3, (17, 11),
    ),
    "one row": (lambda: [norm(1), conv(1, 8, (1, 7)), bn(8), conv(8, 8, (1, 5)), bn(8), head(8)], 1, (1, 24)),
    "flatten the whole map": (lambda: [stem(), bn(8), nn.MaxPool2d(2), linear(8 * 36)], 3, 12),
    "linear layers in the middle": (
        lambda: [stem(), bn(8), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(72, 24), nn.BatchNorm1d(24), nn.ReLU(), linear(24)], 3, 12,
    ),
    "only linear layers": (lambda: [nn.Flatten(), nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), linear(24)], 1, 8),
    "mean, then linear": (lambda: [stem(), bn(8), nn.AdaptiveAvgPool2d(1), linear(8)], 3, 12),
    "mean, then a 1x1 classifier": (lambda: [stem(), bn(8), nn.AvgPool2d(12), conv(8, 5, 1), norm(5), nn.Flatten()], 3, 12),
    "mean in the middle": (
        lambda: [stem(), bn(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 24), nn.BatchNorm1d(24), nn.ReLU(), linear(24)], 3, 12,
    ),
    "mean before the norm": (lambda: [stem(), nn.AdaptiveAvgPool2d(1), bn(8), head(8)], 3, 12),
    "mean between classifier and norm": (lambda: [stem(), bn(8), conv(8, 5, 1), nn.AdaptiveAvgPool2d(1), norm(5), nn.Flatten()], 3, 12),
    "a classifier of whole maps": (lambda: [stem(), bn(8), nn.AvgPool2d(2), conv(8, 5, 6, padding=0), norm(5), nn.Flatten()], 3, 12),
    "one class": (lambda: [stem(), bn(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1, bias=False)], 3, 12),
    "an affine between convolution and relu": (lambda: [stem(), norm(8), Net(lambda n, x: 0.5 - 2 * x), bn(8), head(8)], 3, 12),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_chains_of_layers_with_moments(name: str) -> None:
    layers, channels, size = CHAINS[name]
    sound(nn.Sequential(*layers()), channels, size, seed=4)


def test_an_average_of_noise_leaves_room_for_the_noise() -> None:
    # Weights that cancel over a window: what is pooled is 8 times as large as its mean, and more.
    net = nn.Sequential(stem(1, 16), nn.AvgPool2d(8), bn(16), head(16))
    train = np.random.default_rng(0).integers(0, 256, (64, 1, 32, 32), np.uint8)
    settled(binarize(net), train)
    result = compared(net, train[:8])
    assert result.saturated == 0 and result.rms < 0.02


RANGES: dict[str, list[nn.Module]] = {
    "biases": [Net(lambda n, x: x / 255), conv(3, 8, bias=True), nn.ReLU(), conv(8, 8, bias=True), nn.ReLU(), head(8)],
    "convolutions in a row": [stem(3, 16), conv(16, 16, 1), bn(16), head(16)],
    "a stream that only convolutions read": [
        stem(3, 16), Net(lambda n, x: x + n.conv(n.act(x)), act=bn(16), conv=conv(16, 16, 1)), conv(16, 5, 12, padding=0),
        norm(5), nn.Flatten(),
    ],
    "a stream without moments at its end": [
        stem(3, 16), Net(lambda n, x: x + n.conv(n.act(x)), act=bn(16), conv=conv(16, 16)), nn.ReLU(), head(16),
    ],
    "pooled pixels": [Net(lambda n, x: F.relu(F.avg_pool2d(x, 2) - 60)), conv(3, 8), bn(8), head(8)],
    "small values of a shifted relu": [
        stem(), norm(8), Net(lambda n, x: x / 8 - 0.9), ShiftedReLU(), conv(8, 8), Net(lambda n, x: x / 4), ShiftedReLU(), head(8),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
def test_what_no_batch_norm_tells_is_measured(name: str) -> None:
    net = nn.Sequential(*RANGES[name])
    sound(net, 3, 12, ranges=True, seed=1)
    with pytest.raises(OnebitError, match=r"^layer '[\w.]+': no batch-norm tells its range; give training pictures"):
        lower(trace(net, channels=3, size=12))


def test_ranges_are_not_needed_where_another_reason_forbids_lowering() -> None:
    net = Net(lambda n, x: n.head(n.act(n.conv(x)) + F.relu(n.conv(x))), conv=conv(3, 8), act=bn(8), head=head(8))
    assert not needs_ranges(trace(binarize(net), channels=3, size=12))


@pytest.mark.parametrize("affine", [False, True])
def test_a_dead_channel_is_limited_packed_and_noted(affine: bool) -> None:
    net = nn.Sequential(norm(3), conv(3, 8), nn.BatchNorm2d(8, affine=affine), nn.ReLU(), head(8))
    train = pictures(64, 3, 12)
    settled(binarize(net), train)
    dead = net[2]
    assert isinstance(dead, nn.BatchNorm2d) and dead.running_mean is not None and dead.running_var is not None
    # 8 channels that each saw one number in training, and see another now and then
    before: list[Tensor] = []
    net[1].register_forward_hook(lambda m, i, o: before.append(o))
    net.eval()(torch.from_numpy(train).float())
    with torch.no_grad():
        dead.running_var[2] = 0
        dead.running_mean[2] = before[0][:, 2].mean()
    graph = trace(net, channels=3, size=12)
    notes = lower(graph).notes
    assert notes == ["layer '3': 1 of 8 channels vary too little for its integers; their gain was limited"]
    at = next(i for i, node in enumerate(graph.nodes) if node.name == "2")
    node = graph.nodes[at]
    assert isinstance(node, g.BatchNorm)
    constants = [op for op in lower(graph).program.operations if hasattr(op, "multiplier")]
    assert constants[0].multiplier[2] == 32767


@pytest.mark.parametrize("offset", [-1.0, 0.0, 0.8, 3.0])
def test_a_channel_that_never_varies_has_its_offset(offset: float) -> None:
    graph = g.Graph()
    x = graph.add(g.Input("input", (), (1, 2, 2)))
    x = graph.add(g.Affine("zero", (x,), np.zeros(1), np.ones(1)))
    x = graph.add(g.Conv("conv", (x,), np.ones((2, 1, 1, 1), bool), 0.5))
    mean, deviation = np.array([0.5, 0.5]), np.array([1e-5**0.5, 1.0])  # the first: variance 0, and epsilon
    x = graph.add(g.BatchNorm("norm", (x,), mean, deviation, np.ones(2), np.array([offset, 0.0])))
    x = graph.add(g.Activation("relu", (x,)))
    x = graph.add(g.Conv("classifier", (x,), np.array([[[[True, False]]]]), 1.0))
    graph.add(g.Mean("mean", (x,)))
    lowered = lower(graph)
    assert len(lowered.notes) == 1
    program = lowered.program
    logits = reference.run(program, np.zeros((1, 2, 2, 1), np.uint8)) * 2.0**-program.logits.fraction
    assert abs(float(logits[0, 0]) - max(0.0, offset)) < 2.0**-4


def refusal(forward: Forward, message: str, **layers: nn.Module) -> None:
    """The network is refused by the name of a layer, for this reason and no other."""
    net = binarize(Net(forward, **({"stem": stem(), "act": bn(8), "head": head(8)} | layers)))
    graph = trace(settled(net, pictures(8, 3, 12)), channels=3, size=12)
    with pytest.raises(OnebitError, match=message):
        lower(graph, ranges=measure(graph, pictures(2, 3, 12)))


STREAM = "only a convolution can be added to a residual stream: use pre-activation blocks"


def test_what_a_packed_model_cannot_express_is_refused_by_name() -> None:
    c = conv(8, 8)
    refusal(
        lambda n, x: n.head(n.conv(n.norm(n.stem(x)))),
        r"^layer 'norm': 'conv' reads it without an activation between; a ReLU must follow a batch-norm or bias",
        norm=norm(8), conv=c,
    )  # fmt: skip
    refusal(
        lambda n, x: n.head(n.act(n.pool(n.norm(n.stem(x))))),
        r"^layer 'norm': 'pool' reads it without an activation",
        norm=norm(8), pool=nn.MaxPool2d(2),
    )  # fmt: skip
    refusal(lambda n, x: n.head(n.norm(n.stem(x))), r"^layer 'norm': 'head.0' reads it without", norm=norm(8))
    # A block of the first ResNet paper: batch-norms before the sum, ReLU behind it.
    refusal(
        lambda n, x: (lambda y: n.head(F.relu(n.norm2(n.conv(n.norm(y))) + y)))(n.act(n.stem(x))),
        rf"^layer 'add': neither of its inputs is a convolution \(without bias or batch-norm behind it\) .*; {STREAM}$",
        norm=bn(8), norm2=norm(8), conv=c,
    )  # fmt: skip
    refusal(
        lambda n, x: (lambda y: n.head(F.relu(n.conv(y) + y)))(n.act(n.stem(x))),
        r"^layer 'add': it adds to 'act.1', which is not a residual stream; add convolutions to the raw stream$",
        conv=c,
    )
    refusal(
        lambda n, x: (lambda y: n.head(F.relu(n.conv(y) + y)))(F.max_pool2d(n.act(n.stem(x)), 3, 1, 1)),
        r"^layer 'add': it adds to 'max_pool2d', which is not a residual stream",
        conv=c,
    )
    refusal(
        lambda n, x: n.head(F.relu(n.conv(x) + x)), r"^layer 'add': it adds to 'input'", conv=conv(3, 3), head=head(3)
    )
    refusal(
        lambda n, x: (lambda y: n.head(n.act(F.max_pool2d(y, 2) + F.avg_pool2d(y, 2))))(n.stem(x)),
        r"^layer 'add': neither of its inputs",
    )
    refusal(lambda n, x: (lambda y: n.head(n.act(y + y)))(n.stem(x)), r"^layer 'add': it adds a map to itself; ")
    refusal(
        lambda n, x: n.head(n.act2(n.act(n.stem(x)))),
        r"^layer 'act2.1': it follows 'act.1' without a convolution between; leave one out$",
        act2=bn(8),
    )


def test_a_network_without_a_proper_end_is_refused() -> None:
    refusal(
        lambda n, x: n.act(n.stem(x)).mean((2, 3)),
        r"^layer 'act.1': the network ends without a 1-bit classifier; end it with a convolution or linear layer",
    )
    refusal(
        lambda n, x: n.pool(n.stem(x)).flatten(1), r"^layer 'pool': the network ends without", pool=nn.MaxPool2d(12)
    )
    refusal(
        lambda n, x: n.last(n.act(n.stem(x))).mean((2, 3)),
        r"^layer 'last': the classifier must be 1x1 \(with global average pooling\), or see the whole map at once$",
        last=conv(8, 5, 3),
    )
    refusal(
        lambda n, x: n.last(n.act(n.stem(x))).mean((2, 3)),
        r"^layer 'last': the classifier must be",
        last=conv(8, 5, 1, 2),
    )


def test_pixels_that_are_read_in_two_ways_are_refused() -> None:
    refusal(
        lambda n, x: n.head(n.act(n.stem(x) + n.other(x))),
        r"^layer 'add': it reads 'input', but another layer reads the pixels before or behind that; .* let all read the same$",
        other=conv(3, 8),
    )
    # The ReLU is in the order of execution behind the convolution that reads the raw pixels.
    refusal(
        lambda n, x: (lambda y: n.head(n.act(y + n.other(F.relu(x / 255)))))(n.raw(x)),
        r"^layer 'add': it reads 'relu', but another layer",
        raw=conv(3, 8), other=conv(3, 8),
    )  # fmt: skip


@pytest.mark.parametrize(("divisor", "noted"), [(10, False), (100_000, True)])
def test_logits_that_are_too_small_for_their_integers_are_noted(divisor: int, noted: bool) -> None:
    net = nn.Sequential(stem(), bn(8), head(8), Net(lambda n, x: x / divisor))
    notes = lower(trace(settled(binarize(net), pictures(64, 3, 12), 4), channels=3, size=12)).notes
    assert [note.startswith("layer '2.0': logits are so small that rounding changes them by") for note in notes] == [
        True
    ] * noted


def test_other_widths_of_activations_are_refused() -> None:
    graph = trace(binarize(nn.Sequential(stem(), bn(8), head(8))), channels=3, size=12)
    with pytest.raises(OnebitError, match=r"^bits 6 is not offered: activations have 8 or 4$"):
        lower(graph, bits=6)
