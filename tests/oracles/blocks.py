"""The pieces that test networks are made of, one a kind of convolution or of wiring.

Each is built from a number of input channels, keeps that number even, and tells it in `channels`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class SamePad(nn.Conv2d):
    """A convolution with a forward of its own, which pads unevenly as TensorFlow does."""

    def forward(self, input: Tensor) -> Tensor:
        pads = []
        for axis in (1, 0):
            reach = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
            length, stride = input.shape[2 + axis], self.stride[axis]
            total = max((-(-length // stride) - 1) * stride + reach - length, 0)
            pads += [total // 2, total - total // 2]
        return functional.conv2d(
            functional.pad(input, pads),
            self.weight,
            self.bias,
            self.stride,
            0,
            self.dilation,
            self.groups,
        )


class Standardised(nn.Conv2d):
    """A convolution whose kernels are computed: mean 0 and spread 1 for each output channel."""

    def forward(self, input: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-3)
        return functional.conv2d(
            input, w, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class Block(nn.Module):
    """A piece of a network; `channels` is the number it gives."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels


class Chain(Block):
    """Modules one after the other."""

    def __init__(self, channels: int, *modules: nn.Module) -> None:
        super().__init__(channels)
        self.steps = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.steps(x)
        return y


class Branched(Block):
    """SqueezeNet's Fire module, and a pooled branch as in Inception; the branches concatenated."""

    def __init__(self, channels: int) -> None:
        super().__init__(6)
        self.squeeze = nn.Conv2d(channels, 2, 1)
        self.one = nn.Conv2d(2, 2, 1)
        self.three = nn.Conv2d(2, 2, 3, padding=1)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.pooled = nn.Conv2d(channels, 2, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        s = self.relu(self.squeeze(x))
        one, three = self.relu(self.one(s)), self.relu(self.three(s))
        return torch.cat([one, three, self.relu(self.pooled(self.pool(x)))], 1)


class Residual(Block):
    """ResNet's basic block with batch norm; strided, the shortcut is a convolution too."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = (
            nn.Conv2d(channels, channels, 1, stride) if stride > 1 else nn.Identity()
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        h += self.shortcut(x)
        y: Tensor = self.relu(h)
        return y


class Preactivated(Block):
    """A residual block in which an in-place ReLU writes over what the shortcut takes."""

    def __init__(self, channels: int) -> None:
        super().__init__(4)
        self.enter = nn.Conv2d(channels, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        h: Tensor = self.conv(self.relu(x))
        return h + x


class Gated(Block):
    """Squeeze and excitation: channels weighted by a sigmoid of the whole map's means."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.reduce = nn.Conv2d(channels, 2, 1)
        self.expand = nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.silu(self.conv(x))
        gate = self.expand(functional.relu(self.reduce(functional.adaptive_avg_pool2d(x, 1))))
        return x * torch.sigmoid(gate)


class Attended(Block):
    """Weighted by a softmax over all positions, an operation without a backward rule of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv(x))
        return x * torch.softmax(x.flatten(2), 2).view_as(x)


class Shuffled(Block):
    """ShuffleNet's unit: grouped convolution, channels shuffled across groups, grouped again."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.first = nn.Conv2d(channels, channels, 1, groups=2)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(x))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        y: Tensor = self.second(x)
        return y


def _conv(c: int, out: int, size: int = 3, **options: Any) -> nn.Module:
    return nn.Conv2d(c, out, size, **options)


KINDS: dict[str, Callable[[int], Block]] = {
    "plain": lambda c: Chain(4, _conv(c, 4, padding=1), nn.ReLU(inplace=True)),
    "normed": lambda c: Chain(
        4, _conv(c, 4, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
    ),
    "pointwise": lambda c: Chain(6, _conv(c, 6, 1), nn.SiLU()),
    "branched": Branched,
    "residual": Residual,
    "grouped": lambda c: Chain(6, _conv(c, 6, padding=1, groups=2), nn.ReLU()),
    "depthwise": lambda c: Chain(
        4,
        _conv(c, c, padding=1, groups=c, bias=False),
        nn.BatchNorm2d(c),
        nn.ReLU6(inplace=True),
        _conv(c, 4, 1),
    ),
    "multiplied": lambda c: Chain(
        4, _conv(c, 2 * c, padding=1, groups=c), nn.ReLU(inplace=True), _conv(2 * c, 4, 1)
    ),
    "dilated": lambda c: Chain(4, _conv(c, 4, padding=2, dilation=2), nn.ReLU(inplace=True)),
    "same_pad": lambda c: Chain(4, SamePad(c, 4, 3), nn.ReLU(inplace=True)),
    "gated": Gated,
    "strided": lambda c: Chain(4, _conv(c, 4, stride=2, padding=1), nn.ReLU(inplace=True)),
    "strided_residual": lambda c: Residual(c, stride=2),
    "strided_same_pad": lambda c: Chain(4, SamePad(c, 4, 3, stride=2), nn.ReLU(inplace=True)),
    "max_pool": lambda c: Chain(c, nn.MaxPool2d(3, 2, ceil_mode=True)),
    "avg_pool": lambda c: Chain(c, nn.AvgPool2d(2)),
}
"""Kind -> builder from the number of input channels."""

HALVING = ("strided", "strided_residual", "strided_same_pad", "max_pool", "avg_pool")
"""Those that halve the map."""

EXTRA_KINDS: dict[str, Callable[[int], Block]] = {
    "attended": Attended,
    "preactivated": Preactivated,
    "shuffled": Shuffled,
    "standardised": lambda c: Chain(4, Standardised(c, 4, 3, padding=1), nn.ReLU(inplace=True)),
}
"""Rarer wiring, for those who ask: attention, written over inputs, shuffled channels, computed
kernels."""
