"""The baseline: the same wide residual network as anybody would write it in plain torch, with float weights.

No onebit in here: its own layers, torch's own SGD, one eager loop, a standard DataLoader whose workers flip and crop
one picture after the other. Two grades: `Loop(width)` in float32 as torch computes by default, and with `bf16=True` what its
performance guide advises, autocast to bfloat16 and channels_last.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


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


class Pictures(Dataset[tuple[Tensor, int]]):
    """Labelled pictures, uint8 [N, 3, 32, 32], each flipped and cropped anew whenever it is asked for."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = np.pad(self.images[index], ((0, 0), (4, 4), (4, 4)))
        top, left, flip = torch.randint(9, (2,)).tolist() + torch.randint(2, (1,)).tolist()
        picture = picture[:, top : top + 32, left : left + 32]
        return torch.from_numpy((picture[:, :, ::-1] if flip else picture).copy()), int(self.labels[index])


class Loop:
    """The training loop of the plain network: `step` takes the next mini-batch of the loader."""

    def __init__(
        self, width: int, images: np.ndarray, labels: np.ndarray, *, batch: int = 125, bf16: bool = False,
        device: str = "cpu", workers: int = 0,
    ) -> None:  # fmt: skip
        torch.manual_seed(0)
        self.device, self.bf16 = torch.device(device), bf16
        self.net = Net(width).to(self.device)
        if bf16:
            self.net = self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        self.loader = DataLoader(
            Pictures(images, labels), batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda", drop_last=True,
        )  # fmt: skip
        self.batches = self.endless()

    def endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader

    def step(self) -> None:
        images, labels = (t.to(self.device, non_blocking=True) for t in next(self.batches))
        images = images.float()
        if self.bf16:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            loss = F.cross_entropy(self.net(images), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
