"""Wide residual networks (paper section 3, figures 3-4), their plain and shifted-ReLU variants, and the
18-layer ImageNet layout: one builder, since they differ in a stem, a skip and a norm.

    raw pixels -> BN [-> ReLU] -> conv0 -> groups of pre-activation blocks -> BN, ReLU -> 1x1 conv -> BN -> mean

A block is BN, ReLU, conv3x3, BN, ReLU, conv3x3, added to the raw stream. At the first block of every group
but the first, the first convolution has stride 2 and the skip is 3x3 average pooling with stride 2 (padding
left out of the divisor), followed by as many zero channels. No biases, no learned projections.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from onebit.binary import HE_GAIN, binarize, he_normal_
from onebit.errors import OnebitError
from onebit.networks.activations import activation
from onebit.recipe import Network

EPSILON = 1e-5
PLAIN_GAIN = 2.0  # appendix B: std and scale of networks without skip connections


def convolution(c_in: int, c_out: int, kernel: int, stride: int, padding: str) -> nn.Module:
    """A convolution without bias. Stride 1 pads symmetrically; at stride 2 "bottom-right" pads one less before than after.

    >>> convolution(3, 8, 3, 2, "bottom-right")[0].padding, convolution(3, 8, 7, 2, "bottom-right")[0].padding
    ((0, 1, 0, 1), (2, 3, 2, 3))
    """
    if stride == 1 or padding == "symmetric":
        return nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    before = (kernel - 2) // 2
    after = kernel - 2 - before
    pad = nn.ZeroPad2d((before, after, before, after))
    return nn.Sequential(pad, nn.Conv2d(c_in, c_out, kernel, stride, bias=False))


class Shortcut(nn.Module):
    """3x3 average pooling with stride 2, padding outside the divisor (9, 6 or 4), then zero channels appended."""

    def __init__(self, extra_channels: int, padding: str) -> None:
        super().__init__()
        # ceil_mode without padding lets windows hang over the bottom and right border only
        self.pool = (
            nn.AvgPool2d(3, 2, padding=1, count_include_pad=False)
            if padding == "symmetric"
            else nn.AvgPool2d(3, 2, ceil_mode=True)
        )
        self.extra_channels = extra_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.pool(x), (0, 0, 0, 0, 0, self.extra_channels))


class Block(nn.Module):
    """Pre-activation block of two 3x3 convolutions; `residual` False leaves out the skip path (plain networks)."""

    def __init__(self, c_in: int, c_out: int, stride: int, network: Network, residual: bool) -> None:
        super().__init__()
        self.norm1 = normalization(c_in, network)
        self.act1 = activation(network.activation, network.activation_bits)
        self.conv1 = convolution(c_in, c_out, 3, stride, network.padding)
        self.norm2 = normalization(c_out, network)
        self.act2 = activation(network.activation, network.activation_bits)
        self.conv2 = convolution(c_out, c_out, 3, 1, network.padding)
        self.shortcut: nn.Module = nn.Identity() if stride == 1 else Shortcut(c_out - c_in, network.padding)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.act1(self.norm1(x)))
        y = self.conv2(self.act2(self.norm2(y)))
        return y + self.shortcut(x) if self.residual else y


def normalization(channels: int, network: Network) -> nn.Module:
    """Batch-norm with fixed (not learned) or learned gain and offset, or none at all."""
    if network.norm == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels, eps=EPSILON, affine=network.norm == "learned")


class WideResNet(nn.Module):
    """See the module's docstring. Input: raw pixels [N, C, H, W], uint8 or float; output: logits [N, classes]."""

    def __init__(self, network: Network, *, classes: int, channels: int) -> None:
        super().__init__()
        widths, blocks = layout(network)
        imagenet = network.family == "imagenet"
        residual = network.family != "plain"
        # Learned in every network: its offset learns to keep the input of the ReLU positive (MATLAB code), and the
        # Keras code, which has no ReLU here, learns it too.
        self.input_norm = nn.BatchNorm2d(channels, eps=EPSILON)
        self.input_act: nn.Module = nn.ReLU() if network.input_relu else nn.Identity()
        self.stem = (
            nn.Sequential(convolution(channels, widths[0], 7, 2, network.padding), max_pool(network.padding))
            if imagenet
            else convolution(channels, widths[0], 3, 1, network.padding)
        )
        body: list[nn.Module] = []
        c_in = widths[0]
        for g, c_out in enumerate(widths):
            for b in range(blocks):
                body.append(Block(c_in, c_out, 2 if g > 0 and b == 0 else 1, network, residual))
                c_in = c_out
        self.body = nn.Sequential(*body)
        self.norm = normalization(c_in, network)
        self.act = activation(network.activation, network.activation_bits)
        self.classifier = nn.Conv2d(c_in, classes, 1, bias=False)
        self.class_norm = normalization(classes, network)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.logit_divisor = network.logit_divisor

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.input_act(self.input_norm(x.float())))
        x = self.classifier(self.act(self.norm(self.body(x))))
        return self.pool(self.class_norm(x)).flatten(1).float() / self.logit_divisor


def max_pool(padding: str) -> nn.Module:
    """3x3 max pooling with stride 2; padding never wins."""
    return nn.MaxPool2d(3, 2, padding=1) if padding == "symmetric" else nn.MaxPool2d(3, 2, ceil_mode=True)


def layout(network: Network) -> tuple[list[int], int]:
    """Channels of every group and blocks a group, from depth and width; OnebitError when they make no network.

    >>> layout(Network(depth=26, width=10)), layout(Network(family="imagenet", depth=18, width=2.5))
    (([160, 320, 640], 4), ([160, 320, 640, 1280], 2))
    """
    imagenet = network.family == "imagenet"
    base = round((64 if imagenet else 16) * network.width)
    if base < 1:
        raise OnebitError(
            f"width {network.width} leaves no channel: choose at least {1 / (64 if imagenet else 16):.3g}"
        )
    groups = 4 if imagenet else 3
    blocks, rest = divmod(network.depth - 2, 2 * groups)
    if rest or blocks < 1:
        low = 2 + 2 * groups * max(1, blocks)
        raise OnebitError(
            f"depth {network.depth} does not fit family {network.family!r}: it is {2 * groups}n + 2; try {low} or {low + 2 * groups}"
        )
    return [base << g for g in range(groups)], blocks


def build(network: Network, *, classes: int, channels: int, size: int) -> nn.Module:
    """The network of a recipe, He-initialised from torch's global generator and (unless ``weights = "float"``) binarized.

    Takes raw pixels [N, channels, H, W], uint8 or float, and returns float32 logits [N, classes].

    Args:
        network: the recipe's ``[network]`` table.
        classes: number of logits.
        channels: 1 or 3 input channels (any number works).
        size: side of the (square) input in pixels; other sizes run too, this one is checked.

    Raises:
        OnebitError: a depth or width that makes no network; a size too small for its strides.

    >>> import torch
    >>> net = build(Network(depth=20, width=0.5), classes=10, channels=3, size=32)
    >>> net(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
    torch.Size([2, 10])
    """
    # Padding on both sides keeps a map of one pixel; on one side each stride halves, rounding down.
    halvings = 0 if network.padding == "symmetric" else 5 if network.family == "imagenet" else 2
    if size < 1 << halvings:
        raise OnebitError(
            f"size {size}: a {network.family} network with {network.padding} padding needs pictures of at least {1 << halvings} "
            "pixels a side"
        )
    net = WideResNet(network, classes=classes, channels=channels)
    gain = PLAIN_GAIN if network.family == "plain" else HE_GAIN
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            he_normal_(module.weight, gain)
    if network.weights == "1bit":
        binarize(net, network.scale, gain)
    return net


def parameter_count(network: Network, *, classes: int, channels: int) -> int:
    """Convolution weights by the formula (every one of them one bit in a 1-bit network), without building it.

    >>> parameter_count(Network(depth=20, width=10), classes=10, channels=3)
    26737120
    """
    widths, blocks = layout(network)
    kernel = 7 if network.family == "imagenet" else 3
    total = kernel * kernel * channels * widths[0] + widths[-1] * classes
    c_in = widths[0]
    for c_out in widths:
        total += 9 * c_in * c_out + 9 * c_out * c_out * (2 * blocks - 1)
        c_in = c_out
    return total


def describe(network: Network) -> str:
    """The paper's name of a network.

    >>> describe(Network(depth=20, width=2.5))
    '20-2.5 1-bit'
    """
    kind = {"wide": "", "imagenet": "", "plain": " plain"}[network.family]
    return f"{network.depth}-{network.width:g}{kind} {'1-bit' if network.weights == '1bit' else 'float'}"
