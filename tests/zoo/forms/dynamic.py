"""Convolutions whose weights or positions come from the image: CondConv and deformable ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import DeformConv2d


class CondConv(nn.Module):
    """A mixture of experts' weights for each image (Yang et al. 2019), run as groups of a batch."""

    def __init__(self, inputs: int, outputs: int, experts: int = 4) -> None:
        super().__init__()
        self.route = nn.Linear(inputs, experts)
        self.weight = nn.Parameter(torch.randn(experts, outputs, inputs, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        share = torch.sigmoid(self.route(x.mean((2, 3))))
        weight = torch.einsum("be,eoikl->boikl", share, self.weight).flatten(0, 1)
        folded = x.reshape(1, batch * channels, height, width)
        y = functional.conv2d(folded, weight, padding=1, groups=batch)
        return y.reshape(batch, -1, height, width)


def cond_conv() -> nn.Module:
    """A network with a CondConv between ordinary convolutions."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        CondConv(8, 12),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 1),
    )


class Deformable(nn.Module):
    """A deformable convolution (Dai et al. 2017) whose offsets a convolution gives."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offset = nn.Conv2d(channels, 2 * 9, 3, padding=1)
        self.conv = DeformConv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x, self.offset(x))
        return y


def deformable() -> nn.Module:
    """A network with a deformable convolution between ordinary ones."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        Deformable(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=1),
    )
