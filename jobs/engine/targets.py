"""What is explained: a unit's map y, and the scalar response r(y) taken from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from circuit_atlas.storage_schema.directions import Directions
from circuit_atlas.storage_schema.errors import ModelError

Response = Literal["sum_abs", "max"] | tuple[int, int]


def response_text(response: Response) -> str:
    """Gives the stored name of a response: `sum_abs`, `max`, or `abs@y,x`."""
    return response if isinstance(response, str) else f"abs@{response[0]},{response[1]}"


@dataclass(frozen=True)
class Targets:
    """A block of units of one layer.

    Attributes:
        channels: (units,) int64, the channel of each, or None where a direction is among them.
        directions: (units, channels) weights over the layer's channels.
        bias: (units,), what is added to the weighted sum; not used with `channels`.
        rectified: (units,) bool, whether a ReLU follows; not used with `channels`.
    """

    channels: Tensor | None
    directions: Tensor
    bias: Tensor
    rectified: Tensor

    def __len__(self) -> int:
        return len(self.directions)

    @classmethod
    def of(
        cls, numbers: Sequence[int], directions: Directions, channels: int, like: Tensor
    ) -> Targets:
        """Builds the weights of units over a layer of `channels`, with the dtype and device of
        `like`; units from number `channels` on are the directions."""
        own = torch.tensor(numbers, dtype=torch.int64)
        mixed = own >= channels
        weights = torch.zeros((len(own), channels), dtype=torch.float64)
        weights[~mixed, own[~mixed]] = 1
        bias = torch.zeros(len(own), dtype=torch.float64)
        rows = (own[mixed] - channels).numpy()
        weights[mixed] = torch.from_numpy(directions.vectors[rows].astype(np.float64))
        bias[mixed] = torch.from_numpy(directions.bias[rows].astype(np.float64))
        return cls(
            channels=None if mixed.any() else own.to(like.device),
            directions=weights.to(like),
            bias=bias.to(like),
            rectified=(mixed & (directions.activation == "relu")).to(like.device),
        )

    def part(self, units: slice) -> Targets:
        """Gives some of the units."""
        channels = None if self.channels is None else self.channels[units]
        return Targets(channels, self.directions[units], self.bias[units], self.rectified[units])

    def repeated(self, count: int) -> Targets:
        """Repeats a single unit."""
        channels = None if self.channels is None else self.channels.expand(count)
        return Targets(
            channels,
            self.directions.expand(count, -1),
            self.bias.expand(count),
            self.rectified.expand(count),
        )

    def reading(self, channels: Tensor) -> Targets:
        """Gives the same units over some of the layer's channels alone, marked by (channels,)
        bool; they read no other."""
        return Targets(None, self.directions[:, channels], self.bias, self.rectified)

    def maps(self, output: Tensor) -> Tensor:
        """Reads each unit's map: layer output (images, channels, h, w) -> (units, images, h, w).

        Only the channels that a unit reads are touched, so that a channel that overflows spoils no
        other unit.
        """
        if self.channels is not None:
            return output[:, self.channels].transpose(0, 1)
        maps = []
        for direction, bias, rectified in zip(
            self.directions, self.bias, self.rectified, strict=True
        ):
            read = direction.nonzero()[:, 0]
            y = torch.einsum("c,nchw->nhw", direction[read], output[:, read]) + bias
            maps.append(y.relu() if rectified else y)
        return torch.stack(maps)

    def gated(self, gradient: Tensor, maps: Tensor) -> Tensor:
        """Takes gradients by the units' maps back through the ReLU of each that has one; both are
        (units, ..., h, w)."""
        if self.channels is not None or not self.rectified.any():
            return gradient
        passes = (maps > 0) | ~self.rectified.view(-1, *[1] * (maps.dim() - 1))
        return gradient * passes

    def spread(self, gradient: Tensor) -> Tensor:
        """Takes gradients by the units' weighted sums (units, h, w) back to the layer's output:
        (units, channels, h, w)."""
        return torch.einsum("uc,uhw->uchw", self.directions, gradient)

    def in_rows(self, gradient: Tensor, rows: Tensor) -> Tensor:
        """Takes gradients by the units' maps (units, h, w) back to the one channel, of each unit's
        row, that it reads: (units, h, w)."""
        if self.channels is not None:
            return gradient
        units = torch.arange(len(rows), device=rows.device)
        return gradient * self.directions[units, rows][:, None, None]


def respond(maps: Tensor, response: Response) -> Tensor:
    """Computes r(y) of every map: (..., h, w) -> (...).

    `sum_abs` is the sum of |y|, `max` the largest y, and a position (row, column) is |y| there.
    """
    if response == "sum_abs":
        return maps.abs().sum((-2, -1))
    if response == "max":
        return maps.amax((-2, -1))
    y, x = check_position(response, (int(maps.shape[-2]), int(maps.shape[-1])))
    return maps[..., y, x].abs()


def response_gradient(maps: Tensor, response: Response) -> Tensor:
    """Computes dr/dy, of the shape of `maps`; the first in row order counts of equal maxima."""
    if response == "sum_abs":
        return maps.sign()
    gradient = torch.zeros_like(maps)
    if response == "max":
        where = maps.flatten(-2).argmax(-1, keepdim=True)
        gradient.flatten(-2).scatter_(-1, where, 1.0)
        return gradient
    y, x = check_position(response, (int(maps.shape[-2]), int(maps.shape[-1])))
    gradient[..., y, x] = maps[..., y, x].sign()
    return gradient


def check_position(response: Response, size: tuple[int, int]) -> tuple[int, int]:
    """Gives the position of a position response; ModelError when the map does not hold it."""
    y, x = int(response[0]), int(response[1])
    if not (0 <= y < size[0] and 0 <= x < size[1]):
        raise ModelError(
            f"circuits.response: position [{y}, {x}] lies outside the layer's map of "
            f"{size[0]} x {size[1]}; give [row, column] from [0, 0] to "
            f"[{size[0] - 1}, {size[1] - 1}]"
        )
    return y, x
