"""Networks against a second implementation in NumPy, direct formulas, and the paper's counts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from onebit import networks
from onebit.errors import OnebitError
from onebit.networks import build, parameter_count
from onebit.networks.wide_resnet import Shortcut, convolution, describe, max_pool
from onebit.recipe import Network

BASE = Network(depth=8, width=0.5)


def pooled(x: torch.Tensor, before: int) -> torch.Tensor:
    """3x3 average pooling, stride 2, window by window, dividing by the pixels inside."""
    n = x.shape[-1]
    out = (n + 2 - 3) // 2 + 1 if before else (n + 1 - 3) // 2 + 1
    result = torch.zeros(*x.shape[:2], out, out)
    for i in range(out):
        for j in range(out):
            top, left = max(0, 2 * i - before), max(0, 2 * j - before)
            result[:, :, i, j] = x[:, :, top : 2 * i - before + 3, left : 2 * j - before + 3].mean((2, 3))
    return result


@pytest.mark.parametrize("padding", ["symmetric", "bottom-right"])
@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 8, 32])
def test_shortcut_pools_without_padding_in_the_divisor_and_appends_zeros(padding: str, size: int) -> None:
    x = torch.rand(2, 3, size, size)
    y = Shortcut(3, padding)(x)
    torch.testing.assert_close(y[:, :3], pooled(x, 1 if padding == "symmetric" else 0))
    assert y.shape[1] == 6 and not y[:, 3:].any()
    assert convolution(3, 6, 3, 2, padding)(x).shape[-1] == y.shape[-1]


@pytest.mark.parametrize("size", [8, 9, 28, 33])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weights": "float", "norm": "learned"},
        {"family": "plain"},
        {"family": "imagenet", "depth": 18, "padding": "bottom-right", "width": 0.1},
        {"family": "imagenet", "depth": 10, "width": 0.0625},
        {"norm": "none", "activation": "shifted-relu", "logit_divisor": 40.0},
        {"padding": "bottom-right", "input_relu": False, "activation_bits": 4},
        {"scale": "bwn-layer"},
    ],
)
def test_every_variant_runs_at_any_size_and_counts_by_the_formula(changes: dict[str, object], size: int) -> None:
    network = dataclasses.replace(BASE, **changes)  # type: ignore[arg-type]
    if network.family == "imagenet" and network.padding == "bottom-right" and size < 32:
        with pytest.raises(OnebitError, match="at least 32"):
            build(network, classes=3, channels=1, size=size)
        return
    net = build(network, classes=3, channels=1, size=size)
    logits = net(torch.randint(0, 256, (2, 1, size, size), dtype=torch.uint8))
    assert logits.shape == (2, 3) and torch.isfinite(logits).all()
    weights = sum(p.numel() for p in net.parameters() if p.dim() == 4)
    assert weights == parameter_count(network, classes=3, channels=1)
    learned = sum(p.numel() for n, p in net.named_parameters() if p.dim() == 1 and not n.startswith("input_norm"))
    assert (learned > 0) == (network.norm == "learned")
    assert not any(n.endswith("conv1.bias") for n, _ in net.named_parameters())


def test_he_standard_deviation_and_the_plain_networks_gain() -> None:
    torch.manual_seed(0)
    for family, variance in (("wide", 2.0), ("plain", 4.0)):
        net = build(dataclasses.replace(BASE, family=family, width=4), classes=10, channels=3, size=32)  # type: ignore[arg-type]
        latent = net.state_dict()["body.2.conv2.parametrizations.weight.original"]
        assert abs(latent.var().item() * 9 * 256 / variance - 1) < 0.02
        assert abs(net.body[2].conv2.weight.abs().max().item() - (variance / (9 * 256)) ** 0.5) < 1e-7  # type: ignore[index, union-attr]


@pytest.mark.parametrize(("depth", "family"), [(21, "wide"), (7, "plain"), (20, "imagenet"), (2, "wide")])
def test_impossible_depth_is_refused_with_a_possible_one(depth: int, family: str) -> None:
    with pytest.raises(OnebitError, match="try"):
        build(Network(depth=depth, family=family), classes=2, channels=1, size=64)  # type: ignore[arg-type]


# -- a second implementation -------------------------------------------------------------------------------------


def taps(x: np.ndarray, kernel: int, stride: int, before: int, after: int, fill: float) -> list[np.ndarray]:
    """The kernel * kernel shifted and strided copies of x [N, C, H, W] that a window sees."""
    x = np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)), constant_values=fill)
    out = (x.shape[2] - kernel) // stride + 1
    end = stride * (out - 1) + 1
    return [x[:, :, i : i + end : stride, j : j + end : stride] for i in range(kernel) for j in range(kernel)]


def conv(x: np.ndarray, weight: np.ndarray, stride: int, padding: str) -> np.ndarray:
    kernel = weight.shape[2]
    before = after = kernel // 2
    if stride == 2 and padding == "bottom-right":
        before -= 1
    windows = taps(x, kernel, stride, before, after, 0.0)
    flat = weight.reshape(*weight.shape[:2], -1)
    return sum(np.einsum("nchw,oc->nohw", w, flat[:, :, t]) for t, w in enumerate(windows))  # type: ignore[return-value]


def forward(net: nn.Module, network: Network, images: np.ndarray) -> np.ndarray:
    """Logits from the state of `net`, in NumPy float64, written from the paper: section 3, figures 3 and 4."""
    state = {k: v.double().numpy() for k, v in net.state_dict().items()}
    blocks = (network.depth - 2) // (8 if network.family == "imagenet" else 6)

    def weight(name: str) -> np.ndarray:
        found = [v for k, v in state.items() if k.startswith(name + ".") and v.ndim == 4]
        assert len(found) == 1
        if network.weights == "float":
            return found[0]
        gain = 2.0 if network.family == "plain" else 2.0**0.5
        sign = np.where(found[0] >= 0, 1.0, -1.0)
        fan = found[0][0].size
        if network.scale == "bwn-layer":
            return sign * np.abs(found[0]).mean()
        if network.scale == "bwn-channel":
            return sign * np.abs(found[0]).mean((1, 2, 3), keepdims=True)
        return sign * gain / fan**0.5

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        if f"{name}.running_mean" not in state:
            return x
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        y = (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
        if f"{name}.weight" in state:
            y = y * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]
        return y

    def act(x: np.ndarray) -> np.ndarray:
        return np.maximum(x, -1.0 if network.activation == "shifted-relu" else 0.0)

    x = norm(images.astype(np.float64), "input_norm")
    x = np.maximum(x, 0) if network.input_relu else x
    if network.family == "imagenet":
        x = conv(x, weight("stem.0"), 2, network.padding)
        before = 1 if network.padding == "symmetric" else 0
        x = np.max(taps(x, 3, 2, before, 1, -np.inf), axis=0)
    else:
        x = conv(x, weight("stem"), 1, network.padding)
    for b in range(blocks * (4 if network.family == "imagenet" else 3)):
        stride = 2 if b and b % blocks == 0 else 1
        y = conv(act(norm(x, f"body.{b}.norm1")), weight(f"body.{b}.conv1"), stride, network.padding)
        y = conv(act(norm(y, f"body.{b}.norm2")), weight(f"body.{b}.conv2"), 1, network.padding)
        if stride == 2:
            before = 1 if network.padding == "symmetric" else 0
            total = sum(taps(x, 3, 2, before, 1, 0.0))
            inside = sum(taps(np.ones_like(x), 3, 2, before, 1, 0.0))
            assert isinstance(total, np.ndarray)
            x = np.concatenate([total / inside, np.zeros_like(total)], axis=1)
        x = y if network.family == "plain" else x + y
    x = conv(act(norm(x, "norm")), weight("classifier"), 1, network.padding)
    return norm(x, "class_norm").mean((2, 3)) / network.logit_divisor


@pytest.mark.parametrize(
    "changes",
    [
        {"depth": 14},
        {"depth": 14, "weights": "float", "norm": "learned", "padding": "bottom-right"},
        {"padding": "bottom-right", "input_relu": False, "scale": "bwn-channel"},
        {"family": "plain", "scale": "he"},
        {"family": "imagenet", "depth": 18, "width": 0.0625, "norm": "learned"},
        {"family": "imagenet", "depth": 10, "width": 0.0625, "padding": "bottom-right"},
        {"norm": "none", "activation": "shifted-relu", "logit_divisor": 40.0, "scale": "bwn-layer"},
    ],
)
def test_equals_a_second_implementation(changes: dict[str, object]) -> None:
    network = dataclasses.replace(BASE, **changes)  # type: ignore[arg-type]
    size = 33 if network.family == "imagenet" else 10
    torch.manual_seed(0)
    net = build(network, classes=5, channels=3, size=size).eval()
    with torch.no_grad():  # moments, gains and offsets as a trained network might have
        for name, value in net.state_dict().items():
            if name.endswith("running_mean") or name.endswith("bias"):
                value.uniform_(-0.5, 0.5)
            elif name.endswith("running_var") or (name.endswith("weight") and value.dim() == 1):
                value.uniform_(0.5, 2.0)
        state = net.state_dict()
        state["input_norm.running_mean"].fill_(120.0)
        state["input_norm.running_var"].fill_(70.0**2)
    images = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        got = net(images).double().numpy()
    expected = forward(net, network, images.numpy())
    assert got.shape == (3, 5) and np.abs(expected).max() > 0.01
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


# -- sizes and positions -----------------------------------------------------------------------------------------


def first_row(layer: nn.Module, size: int) -> list[int]:
    """Which input rows the first output row of a strided layer sees, found by moving one bright row."""
    seen = []
    for row in range(size):
        x = torch.zeros(1, 1, size, size)
        x[:, :, row] = 1.0
        if layer(x)[0, 0, 0].abs().sum() > 0:
            seen.append(row)
    return seen


def test_positions_of_the_padding() -> None:
    for kernel, symmetric, bottom_right in ((3, [0, 1], [0, 1, 2]), (7, [0, 1, 2, 3], [0, 1, 2, 3, 4])):
        for padding, rows in (("symmetric", symmetric), ("bottom-right", bottom_right)):
            layer = convolution(1, 1, kernel, 2, padding)
            with torch.no_grad():
                next(iter(layer.parameters())).fill_(1.0)
            assert first_row(layer, 8) == rows
            assert layer(torch.zeros(1, 1, 8, 8)).shape[-1] == 4
    assert first_row(max_pool("symmetric"), 8) == [0, 1] and first_row(max_pool("bottom-right"), 8) == [0, 1, 2]
    negative = -torch.ones(1, 1, 8, 8)
    assert (max_pool("symmetric")(negative) == -1).all() and (max_pool("bottom-right")(negative) == -1).all()


def test_average_pool_divisors_are_9_6_and_4() -> None:
    ones = torch.zeros(1, 1, 8, 8)
    ones[0, 0, 0, 0] = 36.0
    assert Shortcut(1, "symmetric")(ones)[0, 0, 0, 0] == 9.0  # a corner: 36 / 4
    ones = torch.zeros(1, 1, 8, 8)
    ones[0, 0, 0, 3] = 36.0
    assert Shortcut(1, "symmetric")(ones)[0, 0, 0].tolist() == [0.0, 6.0, 6.0, 0.0]  # an edge: 36 / 6
    ones = torch.zeros(1, 1, 8, 8)
    ones[0, 0, 7, 7] = 36.0
    assert Shortcut(1, "bottom-right")(ones)[0, 0, 3, 3] == 9.0
    ones = torch.zeros(1, 1, 8, 8)
    ones[0, 0, 3, 3] = 36.0
    assert Shortcut(1, "bottom-right")(ones)[0, 0, 1, 1] == 4.0  # inside: 36 / 9


@pytest.mark.parametrize("padding", ["symmetric", "bottom-right"])
def test_imagenet_maps_at_224(padding: str) -> None:
    network = Network(family="imagenet", depth=18, width=0.0625, padding=padding)  # type: ignore[arg-type]
    net = build(network, classes=2, channels=3, size=224).eval()
    x = torch.zeros(1, 3, 224, 224)
    sizes = []
    with torch.no_grad():
        for layer in (*net.stem, *net.body):  # type: ignore[misc, union-attr]
            x = layer(x)
            sizes.append((x.shape[1], x.shape[2]))
    assert sizes == [(4, 112), (4, 56), (4, 56), (4, 56), (8, 28), (8, 28), (16, 14), (16, 14), (32, 7), (32, 7)]


@pytest.mark.parametrize(
    ("changes", "smallest"),
    [({}, 1), ({"padding": "bottom-right"}, 4), ({"family": "imagenet", "depth": 10}, 1),
     ({"family": "imagenet", "depth": 10, "padding": "bottom-right"}, 32)],
)  # fmt: skip
def test_the_smallest_size_runs_and_the_next_is_refused(changes: dict[str, object], smallest: int) -> None:
    network = dataclasses.replace(BASE, **changes)  # type: ignore[arg-type]
    net = build(network, classes=2, channels=1, size=smallest).eval()
    assert net(torch.zeros(1, 1, smallest, smallest)).shape == (1, 2)
    with pytest.raises(OnebitError, match=f"at least {smallest} pixels"):
        build(network, classes=2, channels=1, size=smallest - 1)


# -- counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "depth", "width", "classes", "count"),
    [
        ("wide", 20, 10, 10, 26_737_120),
        ("wide", 20, 4, 10, 4.28e6),
        ("wide", 20, 20, 100, 107e6),
        ("wide", 26, 10, 10, 36.4e6),  # the paper says 35.6M, which no 6n + 2 gives
        ("imagenet", 18, 2.5, 1000, 70.0e6),
        ("plain", 20, 10, 10, 26_737_120),
    ],
)
def test_the_papers_counts(family: str, depth: int, width: float, classes: int, count: float) -> None:
    network = Network(family=family, depth=depth, width=width)  # type: ignore[arg-type]
    with torch.device("meta"):
        net = build(network, classes=classes, channels=3, size=32)
    built = sum(p.numel() for p in net.parameters() if p.dim() == 4)
    assert built == parameter_count(network, classes=classes, channels=3)
    assert built == count if isinstance(count, int) else abs(built - count) < 0.005 * count


def test_width_may_be_a_fraction() -> None:
    assert parameter_count(Network(depth=8, width=0.5), classes=2, channels=1) == (
        9 * 8 + 9 * 8 * 8 * 2 + 9 * (8 * 16 + 16 * 16) + 9 * (16 * 32 + 32 * 32) + 32 * 2
    )
    with pytest.raises(OnebitError, match="leaves no channel"):
        build(Network(width=0.01), classes=2, channels=1, size=32)


def test_batch_norm_is_learned_where_the_recipe_says() -> None:
    for norm, learned in (("fixed", {"input_norm"}), ("learned", {"input_norm", "norm", "class_norm", "body.0.norm1"})):
        net = build(dataclasses.replace(BASE, norm=norm), classes=2, channels=1, size=8)  # type: ignore[arg-type]
        found = {name for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d) and m.affine}
        assert found == learned if norm == "fixed" else found > learned
    net = build(dataclasses.replace(BASE, norm="none"), classes=2, channels=1, size=8)
    assert [n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)] == ["input_norm"]


def test_exports_and_names() -> None:
    assert all(hasattr(networks, name) for name in networks.__all__)  # what `import *` takes
    assert describe(Network(depth=26, width=10, weights="float", family="plain")) == "26-10 plain float"
