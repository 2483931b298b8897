"""eq. 1: scale, sign and gradient against the closed form; any module; the machinery people use around it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from onebit import binarize, binary_layers, float_weights
from onebit.binary import fan_in, he_normal_, latent_weight
from onebit.data import catalog
from onebit.data.dataset import Arrays
from onebit.errors import OnebitError
from onebit.train.moments import reestimate


def conv() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(5, 7, 3, bias=False)


# -- the equation ------------------------------------------------------------------------------------------------


def test_weight_is_scale_times_sign_and_sign_of_zero_is_plus() -> None:
    layer = conv()
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = 0.0
        layer.weight[0, 0, 0, 1] = -0.0
    latent = layer.weight.detach().clone()
    binarize(layer)
    s = math.sqrt(2 / (3 * 3 * 5))
    expected = torch.tensor([s if v >= 0 else -s for v in latent.flatten().tolist()]).view_as(latent)
    assert torch.equal(layer.weight, expected)
    assert layer.weight[0, 0, 0, 0] > 0 and layer.weight[0, 0, 0, 1] > 0


def test_gradient_goes_to_the_latent_weight_unscaled_and_unclipped() -> None:
    layer = conv()
    with torch.no_grad():
        layer.weight.mul_(50)  # far outside [-1, 1]: a clipped estimator would give zeros
    binarize(layer)
    x = torch.randn(2, 5, 6, 6)
    w = layer.weight.detach().clone().requires_grad_()
    F.conv2d(x, w).square().sum().backward()
    layer(x).square().sum().backward()
    assert w.grad is not None
    torch.testing.assert_close(latent_weight(layer).grad, w.grad)


@st.composite
def layers(draw: st.DrawFn) -> tuple[nn.Module, int]:
    """Any layer, and its F*F*C_in counted by hand."""
    size = st.integers(1, 4)
    kernel, out, inputs, groups = draw(size), draw(size), draw(size), draw(st.integers(1, 2))
    kind = draw(st.sampled_from([nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d]))
    torch.manual_seed(draw(st.integers(0, 100)))
    if kind is nn.Linear:
        return nn.Linear(inputs, out), inputs
    dims = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}[kind]
    layer = kind(inputs * groups, out * groups, kernel, groups=groups)
    return layer, inputs * kernel**dims


@given(layers(), st.floats(0.5, 4.0))
def test_scale_and_gradient_for_every_kind_and_shape_of_layer(pair: tuple[nn.Module, int], gain: float) -> None:
    layer, inputs = pair
    latent = layer.weight.detach().clone()
    assert isinstance(latent, Tensor) and fan_in(latent) == inputs
    bias = layer.bias
    binarize(layer, gain=gain)
    weight = layer.weight
    assert isinstance(weight, Tensor) and weight.shape == latent.shape and weight.dtype == latent.dtype
    torch.testing.assert_close(weight.detach().abs(), torch.full_like(latent, gain / math.sqrt(inputs)))
    assert torch.equal(weight > 0, latent >= 0)
    upstream = torch.arange(latent.numel(), dtype=torch.float32).view_as(latent) - 3
    weight.backward(upstream)
    assert torch.equal(latent_weight(layer).grad, upstream)  # type: ignore[arg-type]
    assert layer.bias is bias


@pytest.mark.parametrize("scale", ["bwn-layer", "bwn-channel"])
def test_bwn_gradient_is_the_closed_form(scale: str) -> None:
    layer = conv().double()
    latent = layer.weight.detach().clone()
    binarize(layer, scale)  # type: ignore[arg-type]
    g = torch.randn_like(latent)
    (layer.weight * g).sum().backward()
    sign = torch.where(latent >= 0, 1.0, -1.0)
    dims = (0, 1, 2, 3) if scale == "bwn-layer" else (1, 2, 3)
    n = latent.numel() if scale == "bwn-layer" else latent[0].numel()
    alpha = latent.abs().sum(dims, keepdim=True) / n
    torch.testing.assert_close(layer.weight.detach(), alpha * sign)
    expected = alpha * g + sign * (g * sign).sum(dims, keepdim=True) / n
    torch.testing.assert_close(latent_weight(layer).grad, expected)


@pytest.mark.parametrize("scale", ["bwn-layer", "bwn-channel"])
def test_bwn_gradient_is_the_slope_of_the_scale_plus_straight_through(scale: str) -> None:
    """Finite differences see how W moves the scale; what they cannot see, the sign, is passed straight through."""
    layer = conv().double()
    binarize(layer, scale)  # type: ignore[arg-type]
    g = torch.randn_like(layer.weight)
    (layer.weight * g).sum().backward()
    latent, step = latent_weight(layer), 1e-6
    assert latent.grad is not None and latent.abs().min() > step
    per_weight = layer.weight.detach().abs()  # the scale that belongs to each weight
    slopes = torch.zeros_like(latent)
    with torch.no_grad():
        for i in range(latent.numel()):
            ends = []
            for shift in (step, -2 * step):
                latent.view(-1)[i] += shift
                ends.append((layer.weight * g).sum().item())
            latent.view(-1)[i] += step
            slopes.view(-1)[i] = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close(latent.grad, per_weight * g + slopes, rtol=1e-6, atol=1e-6)


def test_he_initialisation_has_the_papers_deviation() -> None:
    torch.manual_seed(0)
    weight = he_normal_(torch.empty(200, 16, 3, 3))
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 16)), rel=0.02)
    assert abs(weight.mean().item()) < 0.002


# -- any module --------------------------------------------------------------------------------------------------


def test_exclusions_by_name_block_and_pattern() -> None:
    def net() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.Conv2d(2, 2, 1), nn.Linear(2, 2)), nn.Conv2d(2, 2, 1))

    assert list(binary_layers(binarize(net(), exclude=["0"]))) == ["1.0", "1.1", "2"]
    assert list(binary_layers(binarize(net(), exclude="1"))) == ["0", "2"]  # a block
    assert list(binary_layers(binarize(net(), exclude=["1.*", "2"]))) == ["0"]
    with pytest.raises(OnebitError, match="'3'"):
        binarize(net(), exclude=["3"])
    untouched = net()
    with pytest.raises(OnebitError, match="nothing to binarize"):
        binarize(untouched, exclude="*")
    assert not binary_layers(untouched)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(OnebitError, match="nothing to binarize"):
        binarize(nn.ReLU())
    with pytest.raises(OnebitError, match="'he'"):
        binarize(conv(), "hee")  # type: ignore[arg-type]
    for gain in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(OnebitError, match="must be positive"):
            binarize(conv(), gain=gain)


def test_layers_that_share_a_weight_go_on_sharing_it() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    binarize(net)
    assert latent_weight(net[0]) is latent_weight(net[2])
    assert sum(p.dim() == 2 for p in net.parameters()) == 1
    net(torch.randn(3, 4)).sum().backward()
    same = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    same.load_state_dict(
        {k.replace("parametrizations.weight.original", "weight"): v for k, v in net.state_dict().items()}
    )
    assert torch.equal(same[0].weight, same[2].weight)
    copied = copy.deepcopy(net)
    assert latent_weight(copied[0]) is latent_weight(copied[2])


def test_binarizing_twice_changes_nothing() -> None:
    layer = binarize(conv())
    once = layer.weight.detach().clone()
    binarize(layer, "bwn-layer", gain=3.0)
    assert torch.equal(layer.weight, once) and len(layer.parametrizations["weight"]) == 1  # type: ignore[index]


def test_a_layer_that_cannot_be_binarized_is_named_and_nothing_is_changed() -> None:
    lazy = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LazyConv2d(2, 3))
    with pytest.raises(OnebitError, match=r"'1': has no weights yet .* one batch"):
        binarize(lazy)
    assert not binary_layers(lazy)
    lazy(torch.zeros(1, 1, 8, 8))
    assert list(binary_layers(binarize(lazy))) == ["0", "1"]
    other = nn.Sequential(nn.Conv2d(1, 2, 3), weight_norm(nn.Linear(2, 2)))
    with pytest.raises(OnebitError, match=r"'1': .* another parametrization"):
        binarize(other)
    assert not binary_layers(other)


def test_biases_stay_float_and_are_trained() -> None:
    layer = binarize(nn.Conv2d(2, 3, 3))
    bias = layer.bias.detach().clone()
    x = torch.randn(1, 2, 5, 5)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, bias))
    layer(x).sum().backward()
    assert torch.equal(layer.bias.grad, torch.full((3,), 9.0))


def test_assigning_a_weight_sets_the_latent_weight() -> None:
    layer = binarize(conv())
    layer.weight = torch.full((7, 5, 3, 3), -0.3)
    assert torch.equal(latent_weight(layer), torch.full((7, 5, 3, 3), -0.3))
    assert (layer.weight < 0).all()


# -- the machinery people use around it --------------------------------------------------------------------------


def test_float_weights_context_restores_even_after_an_error() -> None:
    layer = binarize(conv())
    one_bit = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match="boom"), float_weights(layer):
        assert torch.equal(layer.weight, latent_weight(layer))
        with float_weights(layer):
            pass
        assert torch.equal(layer.weight, latent_weight(layer))  # the inner one leaves the outer one alone
        raise RuntimeError("boom")
    assert torch.equal(layer.weight, one_bit)


def test_float_weights_have_the_plain_gradient() -> None:
    layer = binarize(conv())
    x = torch.randn(2, 5, 6, 6)
    w = latent_weight(layer).detach().clone().requires_grad_()
    F.conv2d(x, w).square().sum().backward()
    with float_weights(layer):
        layer(x).square().sum().backward()
    assert w.grad is not None
    torch.testing.assert_close(latent_weight(layer).grad, w.grad)


def test_deepcopy_and_state_dict_hold_the_latent_weights() -> None:
    net = binarize(nn.Sequential(conv(), nn.Flatten()))
    assert list(net.state_dict()) == ["0.parametrizations.weight.original"]
    other = copy.deepcopy(net)
    with torch.no_grad():
        latent_weight(other[0]).neg_()
    assert torch.equal(other[0].weight, -net[0].weight)
    other.load_state_dict(net.state_dict())
    assert torch.equal(latent_weight(other[0]), latent_weight(net[0]))


def test_autocast_keeps_signs_and_float32_gradients() -> None:
    layer = binarize(conv())
    x = torch.randn(2, 5, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
        assert out.dtype == torch.bfloat16
        out.float().sum().backward()
    expected = F.conv2d(x, layer.weight.detach())
    torch.testing.assert_close(out.detach().float(), expected, rtol=0.02, atol=0.05)
    gradient = latent_weight(layer).grad
    assert gradient is not None and gradient.dtype == torch.float32 and gradient.abs().sum() > 0


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_ddp_gives_the_gradients_of_the_bare_module() -> None:
    bare = binarize(PlainResNet())
    wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(bare))
    x = torch.randn(8, 1, 8, 8)
    for net in (bare, wrapped):
        net(x).square().sum().backward()
    pairs = zip(bare.parameters(), wrapped.parameters(), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.slow
def test_compiled_module_equals_the_eager_one() -> None:
    net = binarize(PlainResNet())
    compiled = torch.compile(net)
    x = torch.randn(8, 1, 8, 8)
    results = []
    for module in (net, compiled):
        net.zero_grad()
        module(x).square().sum().backward()
        results.append([latent_weight(layer).grad.clone() for layer in binary_layers(net).values()])  # type: ignore[union-attr]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    with float_weights(net):  # compiled code must notice
        torch.testing.assert_close(compiled(x), net(x), rtol=1e-4, atol=1e-5)


class PlainResNet(nn.Module):
    """A residual network of a user, in plain torch."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm1, self.conv1 = nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm3, self.head = nn.BatchNorm2d(16), nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv2(self.norm2(self.conv1(self.norm1(x).relu())).relu())
        return self.head(self.norm3(x).relu().mean((2, 3)))


def test_a_plain_torch_resnet_trains_binarized_on_real_digits() -> None:
    torch.manual_seed(0)
    net = binarize(PlainResNet())
    digits = catalog.load("digits")
    assert isinstance(digits.train, Arrays) and isinstance(digits.test, Arrays)
    x, y = torch.from_numpy(digits.train.images).float() / 255, torch.from_numpy(digits.train.labels)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    start = {name: latent_weight(layer).detach() >= 0 for name, layer in binary_layers(net).items()}
    for _ in range(4):
        for part in torch.randperm(len(y)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(x[part]), y[part]).backward()
            optimizer.step()
    reestimate(net, x.split(64))  # signs still flip: running averages lag behind
    net.eval()
    tx, ty = torch.from_numpy(digits.test.images).float() / 255, torch.from_numpy(digits.test.labels)
    with torch.no_grad():
        error = (net(tx).argmax(1) != ty).float().mean().item()
    assert error < 0.5  # chance is 0.9, four epochs give about 0.15
    assert len(binary_layers(net)) == 4
    for name, layer in binary_layers(net).items():
        weight = layer.weight
        assert isinstance(weight, Tensor) and len(weight.detach().abs().unique()) == 1
        assert (start[name] != (weight > 0)).any()  # signs have moved
