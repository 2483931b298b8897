"""A small network without sums and means, trained here on the digits within a second: what FPGA tools take as it is."""

from __future__ import annotations

import torch
from torch import nn

import onebit
from onebit.data import catalog
from onebit.packed.file import Packed


def digits(epochs: int = 12) -> Packed:
    """Three convolutions of 8 and 16 channels and a linear layer, 6,376 weights of one bit; error about 3 %."""
    torch.manual_seed(0)
    train = catalog.load("digits").train
    x, y = torch.from_numpy(train.images), torch.from_numpy(train.labels)  # type: ignore[union-attr]

    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        return [conv, nn.BatchNorm2d(outputs, affine=False), nn.ReLU()]

    blocks = [*block(1, 8, 1), *block(8, 16, 2), *block(16, 16, 1)]
    head = [nn.Flatten(), nn.Linear(256, 10, bias=False), nn.BatchNorm1d(10, affine=False)]
    net = onebit.binarize(nn.Sequential(nn.BatchNorm2d(1, affine=False), *blocks, *head))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=epochs * (len(x) // 64))
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(64)[:-1]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[chosen].float()), y[chosen]).backward()
            optimizer.step()
            schedule.step()
    return onebit.pack(net.eval(), [str(k) for k in range(10)], channels=1, size=8, about={"data": "digits"}).packed
