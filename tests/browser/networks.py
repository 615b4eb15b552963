"""A network with a unit that is computed in two ways, and pictures of two kinds that show it.

Warm pictures pass through the first half of the channels, cold ones through the second, and the
halves meet only in `head`: its unit 0 reads both, 1 and 2 one each, 3 and 4 a bit of all, and 5
reads nothing, so it is dead. `side` adds what it makes to the output of `middle`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

PICTURES = 12
SIDE = 48
KINDS = {"ember": (0, 1), "frost": (2, 2)}


class TwoWays(nn.Module):
    """Two ways through one network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 5, stride=2, padding=2)
        self.middle = nn.Conv2d(16, 12, 3, padding=1)
        self.side = nn.Conv2d(16, 12, 1)
        self.head = nn.Conv2d(12, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.middle(x) + self.side(x))
        return self.head(x)


def two_ways() -> nn.Module:
    """The network, with the same weights at each call."""
    generator = torch.Generator().manual_seed(7)
    model = TwoWays()
    with torch.no_grad():
        for module in (model.stem, model.middle, model.side, model.head):
            module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * 0.3)
            module.bias.zero_()
        # Red and green feed the first half, blue the second; between the halves nothing passes.
        model.stem.weight[:8, 2] = 0
        model.stem.weight[8:, :2] = 0
        for module in (model.middle, model.side):
            module.weight[:6, 8:] *= 0.02
            module.weight[6:, :8] *= 0.02
        head = model.head.weight
        head[1, 6:] *= 0.02
        head[2, :6] *= 0.02
        head[3:5] *= 0.3
        head[5] = 0
    return model.eval()


def write_pictures(folder: Path) -> None:
    """A folder of two classes: bright stripes of warm colour, and of cold, on black."""
    generator = np.random.default_rng(3)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    for kind, (first, last) in KINDS.items():
        (folder / kind).mkdir(parents=True)
        for n in range(PICTURES):
            angle, phase = generator.uniform(0, np.pi), generator.uniform(0, 6)
            wave = np.sin(22 * (x * np.cos(angle) + y * np.sin(angle)) + phase)
            glow = np.exp(-8 * ((x - generator.uniform()) ** 2 + (y - generator.uniform()) ** 2))
            pixels = np.full((SIDE, SIDE, 3), 4.0)
            for channel in range(first, last + 1):
                pixels[..., channel] += 120 * (1 + wave) * (0.35 + 0.65 * glow)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
                folder / kind / f"{n:02}.png"
            )
