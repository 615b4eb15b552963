"""The published code's numbers, `tests/reference/plain_net.npz`, and the network they are of."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

PATH = Path(__file__).parents[1] / "reference" / "plain_net.npz"

LAYER = "conv4"
UNITS = (0, 3, 7)
CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4")

FORCE_COUNTS = {
    "0.2": (279, 238, 202, 172, 147, 125, 106, 90, 77, 65),
    "0.05": (243, 181, 134, 100, 74, 55, 41, 30, 22, 16),
}
"""Kernels kept at each step of the stored FORCE scores, by the fraction in their key: the published
schedule for k_T = ceil(f N), less one a step, because they keep what is strictly above the k-th."""


class PlainNet(nn.Module):
    """The network of plain_net.npz. Input (n, 3, 48, 48); `conv4` gives (n, 10, 11, 11)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 5, stride=2, padding=2)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.conv3 = nn.Conv2d(12, 16, 3, padding=1)
        self.conv4 = nn.Conv2d(16, 10, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv1(x)))
        x = self.relu(self.conv2(x))
        x = self.relu(self.conv3(x))
        y: Tensor = self.conv4(x)
        return y


@cache
def arrays() -> dict[str, NDArray[Any]]:
    """Every array of the file by its key; keys are described in the README beside it."""
    with np.load(PATH, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def plain_net() -> PlainNet:
    """The network with its weights, float32, in evaluation mode."""
    net = PlainNet()
    net.load_state_dict(
        {
            key.removeprefix("weights/"): torch.from_numpy(array)
            for key, array in arrays().items()
            if key.startswith("weights/")
        }
    )
    return net.eval()


def images() -> Tensor:
    """The six images, (6, 3, 48, 48) float32."""
    return torch.from_numpy(arrays()["images"])


def expected(kind: str, unit: int) -> dict[str, NDArray[np.float64]]:
    """`<kind>/<unit>/<convolution>` for each convolution, zeros where the file has no entry."""
    stored = arrays()
    found = {name: stored.get(f"{kind}/{unit}/{name}") for name in CONVOLUTIONS}
    weights = {name: stored[f"weights/{name}.weight"] for name in CONVOLUTIONS}
    return {
        name: np.zeros(weights[name].shape[:2]) if array is None else array.astype(np.float64)
        for name, array in found.items()
    }
