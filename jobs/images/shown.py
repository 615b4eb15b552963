"""What an image of any number of channels looks like."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def shown(channels: Tensor) -> NDArray[np.uint8]:
    """Shows an image, (height, width, 3): one channel as grey, three as red, green and blue, any
    other number as the grey of their mean.

    Args:
        channels: (channels, height, width), 0 for black to 1 for white; beyond is cut off.
    """
    if len(channels) != 3:
        channels = channels.mean(0, keepdim=True).expand(3, -1, -1)
    levels = (channels * 255).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous().numpy()
