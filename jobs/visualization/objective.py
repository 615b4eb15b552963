"""What a feature visualization is to make large, and how images do by the same measure.

The objective is `peaks`: the mean of y over the fifth of the positions where it is largest (for a
negative visualization: where it is smallest). y of a unit is what its layer explains, which is what
the unit passes on or its module's own output; for a direction it is the weighted sum of the
channels and its bias, before its own ReLU; of a channel upstream it is the convolution's own
output. It is taken in the whole network or in a circuit.

Where y is zero, as behind a ReLU, it has no gradient to climb. So what is climbed is y and a
hundredth of the module's own output: it leads to where y begins.

The mean is not over all positions, as is common: a unit is below zero nearly everywhere, so a small
circuit holds mostly what inhibits it, and answers best to an image with nothing in it. Through a
tenth of the kernels of units of SqueezeNet's `features.7.expand3x3`, the mean over all positions
led to visualizations of contrast .06 (mid-grey has 0, and .5 is the most), and this one to .08 to
.22.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.layer_network import Network, Replaced
from circuit_atlas.jobs.network.step import Step

Measure = Callable[[Tensor], Tensor]
"""Images (images, channels, height, width) -> the objective at each, (images,)."""

_PART = 0.2
_LEAD = 0.01


def peaks(maps: Tensor, factors: Tensor) -> Tensor:
    """Computes the objective of maps (..., h, w), each with a factor of 1 for the mean where it is
    largest or -1 for where it is smallest: (...,)."""
    flat = maps.flatten(-2) * factors[..., None]
    count = max(1, round(_PART * flat.shape[-1]))
    return flat.topk(count, -1, sorted=False).values.mean(-1) * factors


def measure_in_network(
    network: Network, weights: Tensor, factors: Tensor, bias: Tensor | None = None
) -> Measure:
    """Gives the objective in the whole network, of another unit for each image.

    Args:
        network: cut at the step whose channels the units are of.
        weights: (images, channels), over the channels of its output.
        factors: (images,), see `peaks`.
        bias: (images,), what is added to the weighted sum. Default: nothing.
    """
    read = weights.any(0).nonzero()[:, 0]
    weights = weights[:, read]

    def measure(images: Tensor) -> Tensor:
        own: dict[str, Tensor] = {}

        def keep(step: Step, value: Tensor) -> None:
            if step.name == network.base:
                own[step.name] = value

        output = network.output(images, keep)
        at_base = own[network.base][:, read]
        return _climbed(network, output[:, read], at_base, weights, bias, factors)

    return measure


def measure_in_circuit(
    layer: TracedLayer, number: int, replaced: Replaced, factors: Tensor
) -> Measure:
    """Gives the objective of one unit in one circuit.

    Leaving out channels that nothing reads (`live_channels`) gains nothing here: on SqueezeNet, an
    image of 128 x 128 forth and back took 5.6 ms so with a tenth of the kernels, and 4.5 ms with
    zeros.

    Args:
        layer: the layer.
        number: the unit.
        replaced: the circuit's weights, as `pruned_weights` gives them.
        factors: (images,), see `peaks`.
    """
    network = layer.network
    read = torch.from_numpy(layer.reads(number)).to(factors.device)
    unit = layer.targets([number])
    weights = unit.directions[:, read]

    def measure(images: Tensor) -> Tensor:
        values = network.forward(images, replaced=replaced)
        output, own = values[network.target.name], values[network.base]
        return _climbed(network, output[:, read], own[:, read], weights, unit.bias, factors)

    return measure


def _climbed(
    network: Network,
    output: Tensor,
    own: Tensor,
    weights: Tensor,
    bias: Tensor | None,
    factors: Tensor,
) -> Tensor:
    """The objective, (images,); where a gradient is asked for, with what leads to it.

    Args:
        network: the network.
        output: (images, channels, h, w), those channels of the layer's output that are read.
        own: the same of the module's own output.
        weights: (images or 1, channels).
        bias: (images or 1,), or none.
        factors: (images,), see `peaks`.
    """
    maps = weighted(output, weights, bias)
    if network.chain and torch.is_grad_enabled():
        maps = maps + _LEAD * weighted(own, weights)
    return peaks(maps, factors)


def weighted(output: Tensor, weights: Tensor, bias: Tensor | None = None) -> Tensor:
    """Sums maps (images, channels, h, w) by weights (images or 1, channels) and adds a bias (images
    or 1,), or none: (images, h, w).

    A channel that overflows spoils no unit that does not read it.
    """
    by_channel = weights[:, :, None, None]
    summed = (output.where(by_channel != 0, 0.0) * by_channel).sum(1)
    return summed if bias is None else summed + bias[:, None, None]


@dataclass(frozen=True)
class Objective:
    """The objectives of several images, which may run through several circuits.

    Attributes:
        measures: rows of images, and what measures these together.
        factors: (images,), 1 to make the objective large and -1 to make it small.
    """

    measures: Sequence[tuple[Sequence[int], Measure]]
    factors: Tensor

    def values(self, images: Tensor) -> Tensor:
        """Computes the objective at each image, (images,)."""
        objectives = torch.empty(len(images), device=images.device)
        with torch.no_grad():
            for rows, measure in self.measures:
                objectives[list(rows)] = measure(images[list(rows)])
        return objectives

    def gradient(self, images: Tensor) -> Tensor:
        """Computes the gradient of factor x objective of each image, by that image.

        One measure at a time, so that memory holds the values of one alone.
        """
        gradients = torch.empty_like(images)
        for rows, measure in self.measures:
            part = images[list(rows)].requires_grad_()
            climbed = (measure(part) * self.factors[list(rows)]).sum()
            (gradients[list(rows)],) = torch.autograd.grad(climbed, part)
        return gradients


class BestImages:
    """The image that does best so far by each of several objectives.

    Attributes:
        values: (objectives,) float64, that image's; an infinity while no image gave a number.
        images: (objectives,) int64, its id.
    """

    def __init__(self, factors: NDArray[np.float64]) -> None:
        """Takes for each objective a factor: 1 where large is best, -1 where small is."""
        self._factors = factors
        self.values = -np.inf * factors
        self.images = np.full(len(factors), -1, np.int64)

    def see(self, values: NDArray[np.floating], images: Sequence[int]) -> None:
        """Takes in the objectives (images, objectives) of images with those ids."""
        for image, row in zip(images, values.astype(np.float64), strict=True):
            better = np.isfinite(row) & (row * self._factors > self.values * self._factors)
            self.values[better], self.images[better] = row[better], image
