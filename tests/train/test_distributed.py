"""Two processes against one. Run as a script, this file is one of the processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from onebit.errors import OnebitError
from onebit.train import distributed
from onebit.train.distributed import Rank, SyncedBatchNorm, convert_batchnorm, global_moments, setup, wrap
from onebit.train.moments import reestimate

STEPS, TOTAL, CUT = 5, 125, 63  # 63 + 62 images


def network() -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(
        nn.BatchNorm2d(3),
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8, affine=False),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (TOTAL, 3, 8, 8), generator=generator).float()
    return images, torch.randint(0, 6, (TOTAL,), generator=generator)


def train(rank: Rank) -> dict[str, Any]:
    """Five steps and a re-estimation, on this rank's share of every batch."""
    mine = slice(0, CUT) if rank.rank == 0 else slice(CUT, TOTAL)
    mine = mine if rank.world == 2 else slice(None)
    net = network()
    if rank.world > 1:
        convert_batchnorm(net)
    module = wrap(net, rank)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for step in range(STEPS):
        images, labels = batch(step)
        optimizer.zero_grad()
        total = functional.cross_entropy(module(images[mine]), labels[mine], reduction="sum")
        (total / TOTAL * rank.world).backward()
        optimizer.step()
        losses.append(distributed.sum_over_ranks(total).item() / TOTAL)
    trained = {key: value.clone() for key, value in net.state_dict().items()}
    reestimate(net, (batch(step)[0][mine] for step in range(3)))
    return {"losses": losses, "trained": trained, "reestimated": net.state_dict()}


def layer(dtype: torch.dtype, affine: bool, share: slice, synced: bool) -> dict[str, Any]:
    """Output and gradients of one batch-norm on ``share`` of a batch with a large mean."""
    generator = torch.Generator().manual_seed(11)
    x = (torch.randn(9, 4, 3, 2, generator=generator, dtype=torch.float64) + 300).to(dtype)
    seen = torch.randn(9, 4, 3, 2, generator=generator, dtype=torch.float64).to(dtype)  # the gradient from above
    kind = SyncedBatchNorm if synced else nn.BatchNorm2d
    norm = kind(4, affine=affine, momentum=None if affine else 0.1, dtype=dtype)
    if affine:
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([0.5, -1.0, 2.0, 1.5]))
            norm.bias.copy_(torch.tensor([0.1, 0.2, -0.3, 0.4]))
    mine = x[share].clone().contiguous(memory_format=torch.channels_last).requires_grad_()
    for _ in range(2):
        out = norm(mine)
    out.backward(seen[share])
    grads = [p.grad for p in norm.parameters()]
    evaluated = norm.eval()(mine.detach())
    return {"out": out.detach(), "dx": mine.grad, "grads": grads, "eval": evaluated, "buffers": list(norm.buffers())}


CASES = [(torch.float64, True), (torch.float64, False), (torch.float32, True), (torch.float32, False)]
SHARES = [slice(0, 7), slice(7, 9)]


def worker(folder: Path) -> None:
    torch.set_num_threads(1)
    rank = setup("cpu")
    result: dict[str, Any] = train(rank)
    result["layers"] = [layer(dtype, affine, SHARES[rank.rank], True) for dtype, affine in CASES]
    # unequal shares, one empty
    x = torch.arange(24.0).reshape(6, 2, 2) + 1e4
    result["moments"] = [global_moments(x[:5] if rank.rank == 0 else x[5:]), global_moments(x[: 6 * (rank.rank == 0)])]
    result["gathered"] = distributed.gather_objects({"rank": rank.rank})
    result["main"] = distributed.is_main()
    distributed.require_same({"epoch": 3, "images": 100})
    try:
        distributed.require_same({"epoch": 3, "images": 100 + rank.rank})
    except OnebitError as error:
        result["different"] = str(error)
    try:
        SyncedBatchNorm(2)(torch.ones(1 - rank.rank, 2, 1, 1))
    except ValueError as error:
        result["single"] = str(error)
    distributed.barrier()
    torch.save(result, folder / f"{rank.rank}.pt")
    distributed.cleanup()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    common = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        printed = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(printed)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_two_processes_train_like_one(pair: list[dict[str, Any]]) -> None:
    alone = train(Rank())
    for rank in pair:
        assert rank["losses"] == pytest.approx(alone["losses"], rel=1e-5)
        for state in ("trained", "reestimated"):
            assert list(rank[state]) == list(alone[state])
            for key, value in alone[state].items():
                # a mean is as exact as its layer's deviation allows: the inputs of layer 2 cancel to nearly nothing
                unit = alone[state][key.replace("mean", "var")].sqrt() if key.endswith("running_mean") else value.abs()
                torch.testing.assert_close(rank[state][key], value, rtol=1e-4, atol=1e-5 * float(unit.max()))
    assert alone["losses"][-1] != alone["losses"][0]


def test_ranks_stay_identical(pair: list[dict[str, Any]]) -> None:
    for state in ("trained", "reestimated"):
        assert all(torch.equal(pair[0][state][key], pair[1][state][key]) for key in pair[0][state])


@pytest.mark.parametrize("case", range(len(CASES)))
def test_layer_equals_torch_on_the_whole_batch(case: int, pair: list[dict[str, Any]]) -> None:
    dtype, affine = CASES[case]
    whole = layer(dtype, affine, slice(None), False)
    parts = [rank["layers"][case] for rank in pair]
    tolerance: dict[str, float] = (
        {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 1e-3, "atol": 1e-3}
    )
    for key in ("out", "dx", "eval"):
        torch.testing.assert_close(torch.cat([part[key] for part in parts]), whole[key], **tolerance)
    for index, grad in enumerate(whole["grads"]):
        torch.testing.assert_close(sum(part["grads"][index] for part in parts), grad, **tolerance)
    for part in parts:
        for ours, theirs in zip(part["buffers"], whole["buffers"], strict=True):
            torch.testing.assert_close(ours, theirs, **tolerance)


def test_moments_of_unequal_and_empty_shares(pair: list[dict[str, Any]]) -> None:
    x = torch.arange(24.0, dtype=torch.float64).reshape(6, 2, 2) + 1e4
    for rank in pair:
        for count, mean, variance in rank["moments"]:
            assert count == 12
            torch.testing.assert_close(mean.double(), x.mean((0, 2)), rtol=1e-6, atol=0)
            torch.testing.assert_close(variance.double(), x.var((0, 2), correction=0), rtol=1e-6, atol=0)


def test_helpers_of_two_processes(pair: list[dict[str, Any]]) -> None:
    assert [rank["main"] for rank in pair] == [True, False]
    assert all(rank["gathered"] == [{"rank": 0}, {"rank": 1}] for rank in pair)
    assert all("more than 1 value" in rank["single"] for rank in pair)
    assert all("images: process 0 has 100, process 1 has 101" in rank["different"] for rank in pair)


def test_alone_everything_is_as_without() -> None:
    assert distributed.is_main() and distributed.gather_objects("x") == ["x"]
    distributed.barrier()
    distributed.cleanup()
    net = network()
    assert wrap(net, Rank()) is net
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    assert torch.equal(distributed.sum_over_ranks(x), x) and distributed.sum_over_ranks(x) is not x
    for dtype, affine in CASES:
        ours, theirs = layer(dtype, affine, slice(None), True), layer(dtype, affine, slice(None), False)
        assert torch.equal(ours["dx"], theirs["dx"]) and torch.equal(ours["out"], theirs["out"])


def test_conversion_keeps_parameters_and_names() -> None:
    net = network()
    keys, held = list(net.state_dict()), [id(p) for p in net.parameters()]
    assert convert_batchnorm(net) is net
    assert sum(isinstance(m, SyncedBatchNorm) for m in net) == 3
    assert list(net.state_dict()) == keys and [id(p) for p in net.parameters()] == held
    assert isinstance(convert_batchnorm(nn.BatchNorm1d(2)), SyncedBatchNorm)

    class Own(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return input

    with pytest.raises(OnebitError, match=r"1: Own cannot"):
        convert_batchnorm(nn.Sequential(nn.ReLU(), Own(2)))


def test_incomplete_environment_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert setup() == Rank(0, 1, 0)
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(OnebitError, match=r"WORLD_SIZE: 'two'"):
        setup()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(OnebitError, match=r"RANK: None .* torchrun"):
        setup()
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(OnebitError, match=r"RANK: 2 .* give 0 to 1"):
        setup()
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(OnebitError, match=r"MASTER_ADDR: not set"):
        setup()
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(OnebitError, match=r"mps"):
        setup("mps")


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
