"""Scores of a block of units over a set of images, on the layer's kernel axis."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.kernel_means import KernelMeans
from circuit_atlas.jobs.engine.forward import Forward
from circuit_atlas.jobs.engine.targets import Response
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.scores.criteria import CONTRIBUTION, magnitude, random
from circuit_atlas.jobs.scores.integrated import ImagePath
from circuit_atlas.jobs.scores.one_image import ImageScorer


@dataclass(frozen=True)
class BlockScores:
    """Scores of one criterion for a block of units.

    Attributes:
        mean: (units, kernels) float32 over all images, NaN where a kernel cannot reach the unit.
        single: for each unit, (images, kernels) float32, the scores on single images in the order
            asked for; empty for `contribution`.
        compute_s: seconds that they took, with all that they share with other criteria.
    """

    mean: NDArray[np.float32]
    single: tuple[NDArray[np.float32], ...]
    compute_s: float


def score_images(
    layer: TracedLayer,
    numbers: Sequence[int],
    batches: Iterable[Tensor],
    *,
    keep: Mapping[int, Sequence[int]],
    criteria: Sequence[str],
    response: Response,
    block: int,
    means: KernelMeans | None = None,
    path: ImagePath | None = None,
) -> dict[str, BlockScores]:
    """Computes mean scores over all images, and single images' scores where they are asked for; of
    `contribution` the mean only.

    Args:
        layer: the layer.
        numbers: the units.
        batches: images (batch, channels, height, width) in order.
        keep: for each unit, indices of the images whose single scores are returned.
        criteria: names in `per_image.PER_IMAGE`, and `contribution`.
        response: the number that is explained.
        block: how many units walk back together.
        means: of the scoring images, for criteria in `per_image.CENTRED`. Default: none.
        path: for criteria in `per_image.ALONG_PATH`. Default: none.
    """
    started = time.perf_counter()
    like, shape = layer.network.sites[-1].weight, (len(numbers), layer.upstream.index.size)
    # On the device, so that nothing waits for it before the end; MPS has no float64.
    exact = torch.float32 if like.device.type == "mps" else torch.float64
    total = {name: like.new_zeros(shape, dtype=exact) for name in criteria}
    single = {
        name: [like.new_empty((len(keep[n]), shape[1])) for n in numbers]
        for name in criteria
        if name != CONTRIBUTION
    }
    count = 0
    scorer = ImageScorer(layer, criteria, response, means, path)
    for image_index, scores in _by_image(scorer, numbers, batches, block=block):
        count += 1
        for name, values in scores.items():
            total[name] += values
            for row, number in enumerate(numbers if name in single else ()):
                if image_index in keep[number]:
                    rank = list(keep[number]).index(image_index)
                    single[name][row][rank] = values[row]
    results = {}
    pass_s = time.perf_counter() - started
    for name in criteria:
        started = time.perf_counter()
        mean = _on_axis(layer, numbers, total[name] / max(count, 1))
        by_unit = zip(numbers, single.get(name, ()), strict=name in single)
        on_axis = (_on_axis(layer, [number] * len(rows), rows) for number, rows in by_unit)
        singles = tuple(on_axis)
        own_s = pass_s - scorer.others_s[name] + time.perf_counter() - started
        results[name] = BlockScores(mean, singles, own_s)
    return results


def _by_image(
    scorer: ImageScorer, numbers: Sequence[int], batches: Iterable[Tensor], *, block: int
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Scores image by image, the forward pass shared by all the units.

    Yields:
        The image's index in the order, and for each criterion (units, kernels); a kernel that does
        not reach a unit has 0 here.
    """
    layer = scorer.layer
    blocks = [tuple(numbers[a : a + block]) for a in range(0, len(numbers), block)]
    prepared = [(layer.targets(units), layer.unit_rows(units)) for units in blocks]
    image_index = 0
    with torch.no_grad():
        for batch in batches:
            forwards = Forward.of_batch(layer.network, batch)
            for image, forward in zip(batch.split(1), forwards, strict=True):
                yield image_index, scorer.scores(forward, image, prepared)
                image_index += 1


def _on_axis(layer: TracedLayer, numbers: Sequence[int], scores: Tensor) -> NDArray[np.float32]:
    """Scores (units, kernels) off the device, NaN where a kernel cannot reach its unit."""
    on_axis: NDArray[np.float32] = scores.float().cpu().numpy()
    for row, number in zip(on_axis, numbers, strict=True):
        row[~layer.reachable(number)] = np.nan
    return on_axis


def magnitude_scores(layer: TracedLayer, number: int) -> NDArray[np.float32]:
    """Computes `magnitude` of every kernel, NaN where it cannot reach the unit: (kernels,)."""
    unit_rows = layer.unit_rows([number])
    scores = np.full(layer.upstream.index.size, np.nan, dtype=np.float32)
    for ordinal, (piece, convolution, site) in zip(
        layer.upstream.ordinals, layer.pieces(), strict=True
    ):
        values = magnitude(site.weight)
        if convolution.one_row:
            values = values[unit_rows[ordinal]]
        scores[piece] = values.reshape(-1).cpu().numpy()
    scores[~layer.reachable(number)] = np.nan
    return scores


def random_scores(layer: TracedLayer, number: int, *, seed: int) -> NDArray[np.float32]:
    """Draws `random` for every kernel, NaN where it cannot reach the unit: (kernels,)."""
    name = [int(byte) for byte in layer.index.layer.encode()]
    scores = random(layer.upstream.index.size, seed=seed, unit=[*name, number])
    scores[~layer.reachable(number)] = np.nan
    return scores
