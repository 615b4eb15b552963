"""U-Nets (Ronneberger et al. 2015), with batch norm or with instance norm, as nnU-Net has it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def _double(inputs: int, outputs: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        norm(outputs),
        nn.LeakyReLU(0.01, inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        norm(outputs),
        nn.LeakyReLU(0.01, inplace=True),
    )


class UNet(nn.Module):
    """Down, and up again beside what was seen on the way down.

    Attributes:
        up: transposed convolutions, or None where maps are made larger between pixels.
    """

    def __init__(
        self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d, *, transposed: bool = True
    ) -> None:
        super().__init__()
        widths = (8, 16, 32, 64)
        pairs = list(pairwise(widths))
        self.first = _double(3, widths[0], norm)
        self.down = nn.ModuleList(_double(a, b, norm) for a, b in pairs)
        self.up = (
            nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(pairs))
            if transposed
            else None
        )
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in reversed(pairs))
        self.join = nn.ModuleList(_double(2 * a, a, norm) for a, _ in reversed(pairs))
        self.out = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = [self.first(x)]
        for block in self.down:
            seen.append(block(functional.max_pool2d(seen[-1], 2)))
        x = seen.pop()
        for n, block in enumerate(self.join):
            if self.up is None:
                x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
                x = self.narrow[n](x)
            else:
                x = self.up[n](x)
            x = block(torch.cat([seen.pop(), x], 1))
        y: Tensor = self.out(x)
        return y


def unet_batch_norm() -> nn.Module:
    """A U-Net with batch norm and transposed convolutions."""
    return UNet()


def unet_instance_norm() -> nn.Module:
    """A U-Net with instance norm and bilinear enlargement."""
    return UNet(lambda channels: nn.InstanceNorm2d(channels, affine=True), transposed=False)
