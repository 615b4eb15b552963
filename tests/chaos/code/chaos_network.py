"""The network of the trials: two layers, 20 units, weights that are always the same.

It is the model of a spec, so whichever process works at a trial calls it; that has it obey the
trial's orders.
"""

from __future__ import annotations

import chaos_orders
import torch
from torch import nn


def network() -> nn.Module:
    """Random weights, drawn by a seed."""
    chaos_orders.obey()
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 8, 3),
        nn.ReLU(),
    )
