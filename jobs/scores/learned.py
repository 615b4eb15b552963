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


@dataclass(frozen=True)
class Training:
    """How rankings are trained.

    Attributes:
        steps: gradient steps for each halving of the kernels that are kept.
        crop: height and width of the crops, in pixels; None as `crops.crop_size` decides.
        batch: crops a step.
        rate: of the gradient steps, in units of s.
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


def stages(fractions: Sequence[float], steps: int) -> tuple[Stage, ...]:
    """Plans the way down from the whole network, with stages between fractions that lie far apart.

    >>> [(round(each.fraction, 3), each.steps) for each in stages((1.0, 0.5, 0.1), 100)]
    [(0.5, 100), (0.224, 116), (0.1, 116)]
    """
    planned, above = [], 1.0
    for fraction in sorted({f for f in fractions if f < 1}, reverse=True):
        count = math.ceil(math.log(fraction / above) / math.log(_STEEPEST) - 1e-9)
        each = (fraction / above) ** (1 / count)
        planned += [
            Stage(
                fraction if n == count else above * each**n,
                max(1, round(-math.log2(each) * steps)),
            )
            for n in range(1, count + 1)
        ]
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
    batch = training.batch
    for stage in stages(fractions, training.steps):
        for learner in learners:
            learner.begin(stage.fraction)
        for step in range(stage.steps):
            rate = training.rate * _falling(step / stage.steps)
            chosen = torch.randperm(count, generator=generator)[:batch].tolist()
            batched = images(chosen)
            if position is None:
                batched = random_crops(batched.unbind(), size, generator)
            with torch.no_grad():
                full = targets.maps(network.output(batched))
            batch = _enough(training.batch, 1 if position else full[0, 0].numel())
            for learner, maps in zip(learners, full, strict=True):
                learner.step(batched, maps, rate, position)
        for learner in learners:
            learner.end()
    return {learner.number: learner.scores() for learner in learners}


def _falling(done: float) -> float:
    """The rate after a share of a stage's steps, along half a cosine."""
    return _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * done)) / 2


def _enough(batch: int, positions: int) -> int:
    """How many images a step takes, so that r is over enough numbers."""
    return max(batch, min(_MOST_IMAGES, math.ceil(_LEAST_NUMBERS / positions)))
