"""What a feature visualization is to make large, and how photos do by the same measure.

The objective is `peaks`: the mean of y over the fifth of the positions where it is largest (for a
negative picture: where it is smallest). y is the output of the unit or channel as its layer or
convolution gives it, before an activation function that follows; of a direction, the weighted sum
of the channels. It is taken in the whole network or in a circuit.

Not over all positions, as is common: a unit is below zero nearly everywhere, so a small circuit
holds mostly what inhibits it, and answers best to a picture with nothing in it. Through a tenth of
the kernels of units of SqueezeNet's `features.7.expand3x3`, the mean over all positions led to
pictures of contrast .06 (mid-grey has 0, and .5 is the most), and this one to .08 to .22.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.graph import Network, Replaced

Look = Callable[[Tensor], Tensor]
"""Pictures (pictures, 3, height, width) -> the objective at each, (pictures,)."""

_PART = 0.2


def peaks(maps: Tensor, factors: Tensor) -> Tensor:
    """The objective of maps (..., h, w), each with a factor of 1 for the mean where it is largest
    or -1 for where it is smallest: (...,)."""
    flat = maps.flatten(-2) * factors[..., None]
    count = max(1, round(_PART * flat.shape[-1]))
    return flat.topk(count, -1, sorted=False).values.mean(-1) * factors


def whole(network: Network, weights: Tensor, factors: Tensor) -> Look:
    """The objective in the whole network, of another unit for each picture.

    Args:
        network: cut at what is looked at.
        weights: (pictures, channels), over the channels of its output.
        factors: (pictures,), see `peaks`.
    """
    read = weights.any(0).nonzero()[:, 0]
    weights = weights[:, read]

    def look(pictures: Tensor) -> Tensor:
        return peaks(weighted(network.output(pictures)[:, read], weights), factors)

    return look


def through(layer: TracedLayer, number: int, replaced: Replaced, factors: Tensor) -> Look:
    """The objective of one unit in one circuit, whose weights `circuits.pruned` gives; factors as
    of `peaks`.

    Leaving out channels that nothing reads (`compact`) gains nothing here: on SqueezeNet, a picture
    of 128 x 128 forth and back took 5.6 ms so with a tenth of the kernels, and 4.5 ms with zeros.
    """
    network = layer.network
    read = torch.from_numpy(layer.reads(number)).to(factors.device)
    weights = layer.targets([number]).directions[:, read]

    def look(pictures: Tensor) -> Tensor:
        output = network.forward(pictures, replaced=replaced)[network.target.name]
        return peaks(weighted(output[:, read], weights), factors)

    return look


def weighted(output: Tensor, weights: Tensor) -> Tensor:
    """Maps (pictures, channels, h, w), summed by (pictures or 1, channels): (pictures, h, w).

    A channel that overflows spoils no unit that does not read it.
    """
    by_channel = weights[:, :, None, None]
    return (output.where(by_channel != 0, 0.0) * by_channel).sum(1)


@dataclass(frozen=True)
class Objective:
    """The objectives of several pictures, which may run through several circuits.

    Attributes:
        looks: places of pictures, and what looks at them together.
        factors: (pictures,), 1 to make the objective large and -1 to make it small.
    """

    looks: Sequence[tuple[Sequence[int], Look]]
    factors: Tensor

    def values(self, pictures: Tensor) -> Tensor:
        """The objective at each picture, (pictures,)."""
        found = torch.empty(len(pictures), device=pictures.device)
        with torch.no_grad():
            for places, look in self.looks:
                found[list(places)] = look(pictures[list(places)])
        return found

    def gradient(self, pictures: Tensor) -> Tensor:
        """The gradient of factor x objective of each picture at itself.

        One look at a time, so that memory holds the values of one alone.
        """
        found = torch.empty_like(pictures)
        for places, look in self.looks:
            part = pictures[list(places)].requires_grad_()
            climbed = (look(part) * self.factors[list(places)]).sum()
            (found[list(places)],) = torch.autograd.grad(climbed, part)
        return found


class Best:
    """Of each of several objectives, the photo that does best so far.

    Attributes:
        values: (objectives,) float64, that photo's; an infinity while no photo gave a number.
        photos: (objectives,) int64, its id.
    """

    def __init__(self, factors: NDArray[np.float64]) -> None:
        """`factors`: for each objective 1 where large is best, -1 where small is."""
        self._factors = factors
        self.values = -np.inf * factors
        self.photos = np.full(len(factors), -1, np.int64)

    def see(self, values: NDArray[np.floating], photos: Sequence[int]) -> None:
        """Take objectives (photos, objectives) in."""
        for photo, row in zip(photos, values.astype(np.float64), strict=True):
            better = np.isfinite(row) & (row * self._factors > self.values * self._factors)
            self.values[better], self.photos[better] = row[better], photo
