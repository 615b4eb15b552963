"""How a circuit responds to pictures, beside the whole network: run here, on any pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from atlas import LAYER
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torchvision.transforms.functional import normalize, to_tensor

from circuit_atlas.jobs.spec.preprocessing import IMAGENET_MEAN, IMAGENET_STD

_BATCH = 16
Kernel = tuple[str, int, int]
"""Convolution, output channel, input channel."""


def r(circuit: nn.Module, whole: nn.Module, unit: int, pictures: Sequence[Path]) -> float:
    """Pearson's r of a unit's maps in two networks, over all positions of all pictures.

    0 where one of the two never changes.
    """
    one, other = _maps(circuit, unit, pictures), _maps(whole, unit, pictures)
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def without(network: nn.Module, kernel: Kernel) -> nn.Module:
    """The network itself, with one kernel zero from now on."""
    convolution, out, channel = kernel
    with torch.no_grad():
        network.get_submodule(convolution).get_parameter("weight")[out, channel] = 0
    return network


@torch.no_grad()
def _maps(network: nn.Module, unit: int, pictures: Sequence[Path]) -> NDArray[np.float64]:
    """What the unit passes on after its ReLU, (pictures, map height, map width)."""
    maps: list[NDArray[np.float64]] = []

    def keep(module: nn.Module, given: object, output: torch.Tensor) -> None:
        del module, given
        maps.append(output[:, unit].relu().double().numpy())

    handle = network.get_submodule(LAYER).register_forward_hook(keep)
    for start in range(0, len(pictures), _BATCH):
        network(torch.stack([_tensor(path) for path in pictures[start : start + _BATCH]]))
    handle.remove()
    return np.concatenate(maps)


def _tensor(path: Path) -> torch.Tensor:
    """A picture as the network takes it; it has the network's size."""
    with Image.open(path) as picture:
        return normalize(to_tensor(picture), list(IMAGENET_MEAN), list(IMAGENET_STD))
