from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from onebit.errors import OnebitError
from onebit.train import optimizer as module
from onebit.train.optimizer import SGD

RATES = [0.1, 0.05, 0.01, 0.1, 0.1, 0.02]  # with a restart in the middle


def parameters(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((4, 3, 3, 3), (7,), (2, 5))]


def set_gradients(params: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator)


def run(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], rates: list[float], start: int = 0) -> None:
    for step, rate in enumerate(rates, start):
        set_gradients(params, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()


def plain_loop(form: str, rates: list[float], momentum: float, decay: float) -> list[Tensor]:
    """The two formulas, number by number in Python floats (float64)."""
    params = parameters()
    done = []
    for index, p in enumerate(params):
        w = [float(x) for x in p.detach().flatten()]
        v = [0.0] * len(w)
        for step, lr in enumerate(rates):
            set_gradients(params, step)
            grad = params[index].grad
            assert grad is not None
            for i, g in enumerate(grad.flatten().tolist()):
                if form == "lr-inside":
                    v[i] = momentum * v[i] - lr * (g + decay * w[i])
                    w[i] += v[i]
                else:
                    v[i] = momentum * v[i] + (g + decay * w[i])
                    w[i] -= lr * v[i]
        done.append(torch.tensor(w).reshape(p.shape))
    return done


@pytest.mark.parametrize("form", ["lr-inside", "lr-outside"])
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_equals_a_plain_loop(form: Any, decay: float) -> None:
    params = parameters()
    run(SGD(params, lr=1.0, momentum=0.9, weight_decay=decay, form=form), params, RATES)
    for p, expected in zip(params, plain_loop(form, RATES, 0.9, decay), strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("compiler", [None, pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", ["lr-inside", "lr-outside"])
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_the_fused_update_equals_a_plain_loop(
    form: Any, decay: float, compiler: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*arguments: Any) -> None:
        calls.append(arguments)
        run_it(*arguments)

    run_it = torch.compile(module._fused_update, dynamic=False) if compiler else module._fused_update
    monkeypatch.setattr(module, "_compiled", lambda: counted)
    params = parameters()
    gradients = parameters(1)
    optimizer = SGD(params, lr=1.0, momentum=0.9, weight_decay=decay, form=form, fused=True)
    run(optimizer, params, RATES)
    for p, expected in zip(params, plain_loop(form, RATES, 0.9, decay), strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=1e-5, atol=1e-6)
    assert len(calls) == len(RATES)
    for p, g in zip(params, gradients, strict=True):  # it leaves the gradients as they are
        p.grad = g.detach().clone()
    optimizer.step()
    assert all(p.grad is not None and torch.equal(p.grad, g) for p, g in zip(params, gradients, strict=True))


@pytest.mark.parametrize(("form", "rates"), [("lr-outside", RATES), ("lr-inside", [0.1] * 6)])
def test_equals_torch_where_the_formulas_agree(form: Any, rates: list[float]) -> None:
    ours, theirs = parameters(), parameters()
    run(SGD(ours, lr=0.1, momentum=0.9, weight_decay=5e-4, form=form), ours, rates)
    run(torch.optim.SGD(theirs, lr=0.1, momentum=0.9, weight_decay=5e-4), theirs, rates)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_forms_differ_by_the_momentum_term_when_the_rate_changes() -> None:
    # Two steps on one weight with gradient 1: the old velocity weighs m*lr1 inside, m*lr2 outside.
    ends = {}
    for form in ("lr-inside", "lr-outside"):
        w = nn.Parameter(torch.tensor([0.0], dtype=torch.float64))
        optimizer = SGD([w], lr=0.01, momentum=0.9, form=form)  # type: ignore[arg-type]
        for lr in (0.01, 0.1):
            optimizer.param_groups[0]["lr"] = lr
            w.grad = torch.ones_like(w)
            optimizer.step()
        ends[form] = w.item()
    assert ends["lr-inside"] == pytest.approx(-0.01 - (0.9 * 0.01 + 0.1))
    assert ends["lr-outside"] == pytest.approx(-0.01 - 0.1 * (0.9 + 1))


def test_groups_have_their_own_decay_and_missing_gradients_are_skipped() -> None:
    a, b, c = parameters()
    start = [p.detach().clone() for p in (a, b, c)]
    optimizer = SGD([{"params": [a], "weight_decay": 0.5}, {"params": [b, c]}], lr=0.1, momentum=0.0)
    a.grad, b.grad = torch.zeros_like(a), torch.zeros_like(b)
    optimizer.step()
    torch.testing.assert_close(a.detach(), start[0] * (1 - 0.1 * 0.5))
    assert torch.equal(b, start[1]) and torch.equal(c, start[2])
    assert c not in optimizer.state


@pytest.mark.parametrize("form", ["lr-inside", "lr-outside"])
def test_a_saved_optimizer_goes_on_bit_for_bit(form: Any) -> None:
    whole = parameters()
    run(SGD(whole, lr=0.1, momentum=0.9, weight_decay=5e-4, form=form), whole, RATES)

    first = parameters()
    optimizer = SGD(first, lr=0.1, momentum=0.9, weight_decay=5e-4, form=form)
    run(optimizer, first, RATES[:3])
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    second = copy.deepcopy(first)
    other: Any = "lr-outside" if form == "lr-inside" else "lr-inside"
    resumed = SGD(second, lr=9.0, momentum=0.1, form=other)  # everything comes from the state
    resumed.load_state_dict(torch.load(file, weights_only=True))
    run(resumed, second, RATES[3:], start=3)
    assert all(torch.equal(a, b) for a, b in zip(whole, second, strict=True))


def test_zero_momentum_equals_a_new_optimizer() -> None:
    kept, fresh = parameters(), parameters()
    optimizer = SGD(kept, lr=0.1)
    run(optimizer, kept, RATES[:3])
    optimizer.zero_momentum()
    run(SGD(fresh, lr=0.1), fresh, RATES[:3])
    run(optimizer, kept, RATES[3:], start=3)
    run(SGD(fresh, lr=0.1), fresh, RATES[3:], start=3)
    assert all(torch.equal(a, b) for a, b in zip(kept, fresh, strict=True))


def test_sparse_gradients_take_the_loop() -> None:
    table = nn.Embedding(5, 2, sparse=True)
    start = table.weight.detach().clone()
    table(torch.tensor([1, 3])).sum().backward()
    SGD(table.parameters(), lr=0.1).step()
    change = table.weight.detach() - start
    torch.testing.assert_close(change[[1, 3]], torch.full((2, 2), -0.1))
    assert torch.equal(table.weight[[0, 2, 4]], start[[0, 2, 4]])


def test_closure_and_bad_settings() -> None:
    w = nn.Parameter(torch.ones(1))
    optimizer = SGD([w], lr=0.1)

    def closure() -> float:
        loss = (w**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    assert optimizer.step(closure) == 1.0
    assert w.item() == pytest.approx(0.8)
    with pytest.raises(OnebitError, match=r"did you mean 'lr-inside'"):
        SGD([w], lr=0.1, form="lr-insid")  # type: ignore[arg-type]
    with pytest.raises(OnebitError, match=r"lr: -1"):
        SGD([w], lr=-1)
