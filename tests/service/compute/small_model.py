"""A small model, images of noise, and circuits of its units."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from circuit_atlas.service import (
    Circuit,
    find_circuit,
)

MODEL = '''
import torch
from torch import nn

def network():
    """Unit 1 of layer 4 is dead, unit 2 overflows."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 5, 3, padding=1),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(5 * 36, 3),
    )
    with torch.no_grad():
        model[4].weight[1] = 0
        model[4].weight[2] = 1e38
        model[4].bias[2] = 3e38
    return model
'''


def small() -> nn.Module:
    """The model of `spec`, in evaluation mode."""
    names: dict[str, Any] = {}
    exec(MODEL, names)
    torch.manual_seed(0)
    network: nn.Module = names["network"]()
    return network.eval()


def noise(count: int = 4, *, channels: int = 3, side: int = 12, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, side, side, generator=generator)


def ask(**changes: Any) -> Circuit:
    """A circuit of unit 0 of the small model, with some arguments changed."""
    given: dict[str, Any] = {"model": small(), "images": noise(), "layer": "4", "unit": 0}
    return find_circuit(**{**given, **changes})


def rows_of(circuit: Circuit) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = circuit.kernels().to_pylist()
    return rows
