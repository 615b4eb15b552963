"""CORnet-S and CORnet-RT (Kubilius et al. 2018, 2019): the same convolutions several times over."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn


class Recurrent(nn.Module):
    """An area of CORnet-S: a bottleneck that is run `times` times, each with norms of its own."""

    scale = 4

    def __init__(self, inputs: int, outputs: int, times: int) -> None:
        super().__init__()
        self.times = times
        wide = outputs * self.scale
        self.conv_input = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.skip = nn.Conv2d(outputs, outputs, 1, stride=2, bias=False)
        self.norm_skip = nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(outputs, wide, 1, bias=False)
        self.conv2 = nn.Conv2d(wide, wide, 3, stride=2, padding=1, bias=False)
        self.conv3 = nn.Conv2d(wide, outputs, 1, bias=False)
        self.nonlin = nn.ReLU(inplace=True)
        self.norms = nn.ModuleList(
            nn.ModuleList([nn.BatchNorm2d(wide), nn.BatchNorm2d(wide), nn.BatchNorm2d(outputs)])
            for _ in range(times)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_input(x)
        for step, (first, second, third) in enumerate(self.norms):
            skip = self.norm_skip(self.skip(x)) if step == 0 else x
            self.conv2.stride = (2, 2) if step == 0 else (1, 1)
            x = self.nonlin(first(self.conv1(x)))
            x = self.nonlin(second(self.conv2(x)))
            x = self.nonlin(third(self.conv3(x)) + skip)
        return x


def cornet_s() -> nn.Module:
    """CORnet-S with a quarter of its channels."""
    v1 = nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(16, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
    )
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))
    parts = {
        "V1": v1,
        "V2": Recurrent(16, 32, 2),
        "V4": Recurrent(32, 64, 4),
        "IT": Recurrent(64, 128, 2),
        "decoder": head,
    }
    return nn.Sequential(OrderedDict(parts))


class Area(nn.Module):
    """An area of CORnet-RT: its state of the step before is added to its input."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_input = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.norm_input = nn.GroupNorm(8, outputs)
        self.nonlin_input = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(8, outputs)
        self.nonlin1 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor | None, state: Tensor | int) -> tuple[Tensor, Tensor]:
        seen = 0 if x is None else self.nonlin_input(self.norm_input(self.conv_input(x)))
        y = self.nonlin1(self.norm1(self.conv1(seen + state)))
        return y, y


class CORnetRT(nn.Module):
    """All areas take each step at once, on what the others gave the step before."""

    def __init__(self, times: int = 5) -> None:
        super().__init__()
        self.times = times
        self.V1 = Area(3, 16, 7, 4)
        self.V2 = Area(16, 32, 3, 2)
        self.V4 = Area(32, 64, 3, 2)
        self.IT = Area(64, 128, 3, 2)
        self.decoder = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        areas = (self.V1, self.V2, self.V4, self.IT)
        states: list[Tensor | None] = [None] * len(areas)
        for _ in range(self.times):
            inputs = [x, *states[:-1]]
            for n, area in enumerate(areas):
                if inputs[n] is not None:
                    previous = states[n]
                    states[n] = area(inputs[n], 0 if previous is None else previous)[0]
        last = states[-1]
        assert last is not None
        y: Tensor = self.decoder(torch.flatten(last.mean((2, 3)), 1))
        return y
