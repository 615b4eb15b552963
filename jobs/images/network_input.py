"""From an image's stored values to the network's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.storage_schema.pixels import PixelForm


class NetworkInput:
    """Makes one image's stored values the network's input: divided, and less the mean, by the
    standard deviation of each channel."""

    def __init__(self, form: PixelForm, mean: Sequence[float], std: Sequence[float]) -> None:
        """Takes what the values are, and a mean and a std a channel."""
        self._form = form
        self._mean = torch.tensor(list(mean)).view(-1, 1, 1)
        self._std = torch.tensor(list(std)).view(-1, 1, 1)

    def write(self, values: NDArray[Any], out: Tensor) -> None:
        """Writes the network's input of stored values into `out`, (channels, height, width),
        float32."""
        out.copy_(torch.from_numpy(values))
        out.div_(self._form.divisor).sub_(self._mean).div_(self._std)
