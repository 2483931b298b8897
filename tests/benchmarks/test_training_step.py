"""Training speed: turns are compared pairwise, the table says what was measured, a profile says what an operation is."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

import pytest
import torch


@pytest.fixture
def script(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_script("training_step")


def test_a_slow_moment_that_hits_neighbours_changes_no_ratio(script: ModuleType) -> None:
    assert script.paired([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == 2.0


def test_the_table_gives_the_fastest_of_ours(script: ModuleType) -> None:
    row = {
        "network": "20-1", "images_per_second": {"1-bit": 100.0, "1-bit compiled": 150.0, "plain bf16": 75.0},
        "1-bit over float": {"1-bit": 1.03, "1-bit compiled": 1.01}, "fastest": "1-bit compiled", "baseline": "plain bf16",
        "speed over baseline": 2.0, "product_gmacs": 200.0, "1-bit_gmacs": 50.0,
    }  # fmt: skip
    assert script.table([row]).splitlines()[-1] == "| 20-1 | 100 | 150 | 75 | 1.010 | 2.00 | 50 | 25 % |"


def test_a_contender_trains_the_network_of_its_settings(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(script, "train_step", lambda model, optimizer, batch, precision: seen.append((model, batch)))
    step = script.contender(1, "float32", script.pictures(300), torch.device("cpu"), "weights=float")
    for _ in range(4):  # 300 pictures are two mini-batches of 125 and one of 50
        step()
    model, batch = seen[0]
    assert sum(p.numel() for p in model.parameters() if p.dim() == 4) == 268_336
    assert not any("parametrizations" in name for name, _ in model.named_parameters())
    assert batch.images.shape == (125, 3, 32, 32) and [len(b.labels) for _, b in seen] == [125, 125, 50, 125]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::convolution_backward", "convolution"), ("sm90_xmma_wgrad_implicit_gemm", "convolution"),
        ("aten::native_batch_norm", "batch-norm"), ("aten::clamp_min", "ReLU"), ("_ScaledSign", "signs"),
        ("aten::_foreach_add_", "update"), ("aten::avg_pool2d", "skips and pools"), ("aten::gather", "augmentation"),
        ("aten::_log_softmax", "loss"), ("aten::copy_", "all else"),
    ],
)  # fmt: skip
def test_kinds_of_operations(script: ModuleType, name: str, kind: str) -> None:
    assert importlib.import_module("training_profile").kind_of(name) == kind
