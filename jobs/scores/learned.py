"""A learned ranking: circuits of every kept fraction, trained one inside the other.

From the whole network down, the kernels of each fraction are chosen among those of the fraction
above it. A number s a kernel ranks them; a circuit keeps the k best, and its loss is 1 - r, Pearson
r between the unit's map in the circuit and in the whole network, over all positions of a batch of
random crops. The gradient passes the choice straight through: the mask is hard(s) in the forward
pass and sigmoid(t (s - threshold)) in the backward pass (Bengio, Leonard and Courville, "Estimating
or Propagating Gradients Through Stochastic Neurons for Conditional Computation", 2013, arXiv
1308.3432; Ramanujan et al., "What's Hidden in a Randomly Weighted Neural Network?", 2020, arXiv
1911.13299). Weights stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.kernel_means import KernelMeans
from circuit_atlas.jobs.engine.targets import Response
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.scores.crops import crop_size, random_crops
from circuit_atlas.jobs.scores.learner import Learner

# A stage keeps no less than this share of the stage before.
_STEEPEST = 1 / 3
# Fewer numbers than this tell little of a correlation.
_LEAST_NUMBERS = 64
_MOST_IMAGES = 32
# The rate falls to this share of itself within a stage.
_LAST_RATE = 0.03
# It grows as less is kept, up to this many times.
_MOST_RATE = 4.0
# A stage that keeps more than this share of the one above it takes fewer steps, as it has less to
# choose: so the cost does not grow with the number of fractions.
_FULL_STAGE = 2 / 3


@dataclass(frozen=True)
class Training:
    """How rankings are trained.

    Attributes:
        steps: gradient steps for the circuits of a fraction.
        crop: height and width of the crops, in pixels; None as `crops.crop_size` decides.
        batch: crops a step.
        rate: of the gradient steps, in units of s, where half of the kernels or more are kept; it
            grows as the inverse of the fraction, to four times that.
        seed: decides which crops are drawn.
    """

    steps: int
    crop: int | None
    batch: int
    rate: float
    seed: int


@dataclass(frozen=True)
class Stage:
    """The training of the circuits of one fraction: how much is kept, and the gradient steps."""

    fraction: float
    steps: int

    def rate(self, training: Training, step: int) -> float:
        """Gives the rate of a step, which falls along half a cosine."""
        most = training.rate * min(_MOST_RATE, max(1.0, 0.5 / self.fraction))
        falling = (1 + math.cos(math.pi * step / self.steps)) / 2
        return most * (_LAST_RATE + (1 - _LAST_RATE) * falling)


def stages(fractions: Sequence[float], steps: int) -> tuple[Stage, ...]:
    """Plans the way down from the whole network, with stages between fractions that lie far apart.

    >>> [(round(each.fraction, 3), each.steps) for each in stages((1.0, 0.5, 0.1), 100)]
    [(0.5, 100), (0.224, 100), (0.1, 100)]
    """
    planned, above = [], 1.0
    for fraction in sorted({f for f in fractions if f < 1}, reverse=True):
        count = math.ceil(math.log(fraction / above) / math.log(_STEEPEST) - 1e-9)
        each = (fraction / above) ** (1 / count)
        taken = max(1, round(steps * min(1, math.log(each) / math.log(_FULL_STAGE))))
        planned += [Stage(above * each**n, taken) for n in range(1, count)]
        planned.append(Stage(fraction, taken))
        above = fraction
    return tuple(planned)


def learned_scores(
    layer: TracedLayer,
    starts: Mapping[int, NDArray[np.float32]],
    images: Callable[[Sequence[int]], Tensor],
    count: int,
    *,
    fractions: Sequence[float],
    training: Training,
    response: Response,
    means: KernelMeans | None = None,
) -> dict[int, NDArray[np.float32]]:
    """Trains the rankings of several units, which share crops and what the whole network makes of
    them.

    Args:
        layer: the layer.
        starts: for each unit, by number, the (kernels,) scores of another criterion, from which it
            starts; NaN where a kernel cannot reach the unit.
        images: gives the scoring images of some indices, (n, channels, height, width).
        count: how many scoring images there are.
        fractions: of the kernels, for which circuits are trained.
        training: how.
        response: for a position, r is over the values there on whole images; for any other, over
            the maps of crops.
        means: what pruned kernels leave in the bias. Default: they are zero.

    Returns:
        For each unit (kernels,) float32 in (0, 1], the better the larger, no two alike, NaN where a
        kernel cannot reach the unit. The circuit of each of the fractions is the best of them.
    """
    network, numbers = layer.network, list(starts)
    position = response if isinstance(response, tuple) else None
    size = crop_size(network, training.crop)
    generator = torch.Generator().manual_seed(training.seed)
    targets = layer.targets(numbers)
    learners = [Learner(layer, number, starts[number], means) for number in numbers]
    positions = 1 if position else layer.index.height * layer.index.width
    batch = images_a_step(training.batch, positions)
    for stage in stages(fractions, training.steps):
        for learner in learners:
            learner.begin(stage.fraction, steps=stage.steps, rate=stage.rate(training, 0))
        for step in range(stage.steps):
            chosen = torch.randperm(count, generator=generator)[:batch].tolist()
            batched = images(chosen)
            if position is None:
                batched = random_crops(batched.unbind(), size, generator)
            with torch.no_grad():
                full = targets.maps(network.output(batched))
            for learner, maps in zip(learners, full, strict=True):
                learner.step(batched, maps, stage.rate(training, step), position)
        for learner in learners:
            learner.end()
    return {learner.number: learner.scores() for learner in learners}


def images_a_step(batch: int, positions: int) -> int:
    """Says how many images a step takes, so that r is over enough numbers: `batch`, or more where
    the whole image has few positions in the map."""
    return max(batch, min(_MOST_IMAGES, math.ceil(_LEAST_NUMBERS / positions)))
