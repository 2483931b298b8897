"""The baseline: the same wide residual network as anybody would write it in plain torch, float weights, float32, NCHW.

No onebit in here: its own layers, torch's own SGD, one loop.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in, affine=False)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out, affine=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.grow = c_out - c_in

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        if self.grow:
            x = F.pad(F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (0, 0, 0, 0, 0, self.grow))
        return x + y


class Net(nn.Module):
    def __init__(self, width: int, classes: int = 10, blocks: int = 3) -> None:
        super().__init__()
        c = 16 * width
        self.bn0 = nn.BatchNorm2d(3)
        self.conv0 = nn.Conv2d(3, c, 3, 1, 1, bias=False)
        body = []
        for group in range(3):
            for block in range(blocks):
                grows = group > 0 and block == 0
                body.append(Block(c // 2 if grows else c, c, 2 if grows else 1))
            c *= 2
        c //= 2
        self.body = nn.Sequential(*body)
        self.bn = nn.BatchNorm2d(c, affine=False)
        self.last = nn.Conv2d(c, classes, 1, bias=False)
        self.bn_last = nn.BatchNorm2d(classes, affine=False)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_in")

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.conv0(F.relu(self.bn0(x))))
        return self.bn_last(self.last(F.relu(self.bn(x)))).mean((2, 3))


class Loop:
    """One training step of the plain network."""

    def __init__(self, width: int) -> None:
        torch.manual_seed(0)
        self.net = Net(width)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)

    def step(self, images: Tensor, labels: Tensor) -> None:
        """`images` uint8 [N, 3, H, W], `labels` int64 [N]."""
        loss = F.cross_entropy(self.net(images.float()), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
