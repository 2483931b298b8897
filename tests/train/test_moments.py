from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from onebit.errors import OnebitError
from onebit.train.distributed import SyncedBatchNorm
from onebit.train.moments import reestimate, reestimated


def two_layers() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.BatchNorm2d(3),
        nn.Conv2d(3, 5, 3),
        nn.BatchNorm2d(5, affine=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(80, 2),
    )


def batches(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(n, 3, 6, 6, generator=generator).to(dtype) * (n + 1) + 100 for n in (7, 2, 5)]


def directly(net: nn.Sequential, images: list[Tensor]) -> list[Tensor]:
    """Both layers' mean and biased variance, batch by batch from the definition, in float64."""
    rows = []
    conv, gain, offset = net[1].double(), net[0].weight.double(), net[0].bias.double()
    for x in images:
        x = x.double()
        m = x.mean((0, 2, 3), keepdim=True)
        v = ((x - m) ** 2).mean((0, 2, 3), keepdim=True)
        y = conv((x - m) / torch.sqrt(v + 1e-5) * gain.view(1, -1, 1, 1) + offset.view(1, -1, 1, 1))
        k = y.mean((0, 2, 3), keepdim=True)
        w = ((y - k) ** 2).mean((0, 2, 3), keepdim=True)
        rows.append([t.flatten().detach() for t in (m, v, k, w)])
    return [torch.stack(column).mean(0) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [nn.BatchNorm2d, SyncedBatchNorm])
def test_equals_the_direct_computation(dtype: torch.dtype, kind: type[nn.Module]) -> None:
    net = two_layers().to(dtype)
    for norm in (net[0], net[2]):
        norm.__class__ = kind
    with torch.no_grad():
        net[0].weight.uniform_(0.5, 2)
        net[0].bias.uniform_(-1, 1)
    assert reestimate(net, iter(batches(dtype))) == 3
    got = [net[0].running_mean, net[0].running_var, net[2].running_mean, net[2].running_var]
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    for a, b in zip(got, directly(net, batches(dtype)), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance)


def test_the_first_layer_keeps_full_precision_under_autocast() -> None:
    images = [x + 1000 for x in batches()]  # bfloat16 would round these to multiples of 4 or 8
    net = two_layers()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reestimate(net, images)
    expected = torch.stack([x.double().var((0, 2, 3), correction=0) for x in images]).mean(0)
    torch.testing.assert_close(net[0].running_var.double(), expected, rtol=1e-4, atol=0)
    assert net[2].running_var.dtype == torch.float32


def test_nothing_else_changes() -> None:
    net = two_layers()
    net(batches()[0])
    net.eval()
    net[1].train()
    flags = [m.training for m in net.modules()]
    before = {key: value.clone() for key, value in net.state_dict().items()}
    reestimate(net, batches())
    assert [m.training for m in net.modules()] == flags
    changed = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"0.running_mean", "0.running_var", "2.running_mean", "2.running_var"}
    assert not net[0]._forward_pre_hooks
    assert all(p.grad is None for p in net.parameters())


def test_a_failing_pass_puts_everything_back() -> None:
    def breaks() -> Iterator[Tensor]:
        yield batches()[0]
        raise KeyboardInterrupt

    net = two_layers().eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(KeyboardInterrupt):
        reestimate(net, breaks())
    with pytest.raises(OnebitError, match=r"no training batch"):
        reestimate(net, [])
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not net.training and not net[0]._forward_pre_hooks


def test_without_running_moments_there_is_nothing_to_set() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm2d(3))
    assert reestimate(net, batches()) == 3
    assert net[0].running_mean is None


def test_moments_for_a_test_and_the_old_ones_after_it() -> None:
    net = two_layers()
    net(batches()[0])
    net[3].eval()
    flags = [m.training for m in net.modules()]
    before = {name: t.clone() for name, t in net.state_dict().items()}
    expected = directly(two_layers(), batches())
    with reestimated(net, iter(batches())) as same:
        assert same is net and [m.training for m in net.modules()] == flags
        got = [net[0].running_mean, net[0].running_var, net[2].running_mean, net[2].running_var]
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    with pytest.raises(ZeroDivisionError), reestimated(net, iter(batches())):
        raise ZeroDivisionError
    with pytest.raises(OnebitError, match="no training batch"), reestimated(net, iter([])):
        pass
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
