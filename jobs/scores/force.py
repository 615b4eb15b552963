"""FORCE: an iterative score, in which a pruned kernel can come back.

De Jorge et al., "Progressive Skeletonization", 2021 (arXiv 2006.09081), as used by Hamblin, Konkle
and Alvarez, 2022: T steps of keeping k_t = ceil(exp(t/T ln k_T + (1 - t/T) ln N)) kernels of N and
scoring all N in the network so masked. The score is |dr/dm| for a mask entry m on each weight,
averaged over the kernel, image by image: SNIP with the whole network's weight and the masked
network's gradient, so that a pruned kernel has a score too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.first_convolution import Stem
from circuit_atlas.jobs.circuits.live_channels import live_channels
from circuit_atlas.jobs.circuits.masks import keep_best
from circuit_atlas.jobs.circuits.pruned import pruned
from circuit_atlas.jobs.engine.conv_gradients import image_passes
from circuit_atlas.jobs.engine.forward import Forward
from circuit_atlas.jobs.engine.targets import Response
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.graph import Network, Replaced
from circuit_atlas.jobs.scores.criteria import snip

# Share of live channels below which it pays to copy them out of a map.
_WORTH_DROPPING = 0.75


def schedule(count: int, kernels: int, steps: int) -> tuple[int, ...]:
    """k_1 .. k_T: geometric from `kernels` down to exactly `count`.

    >>> schedule(33, 328, 4)
    (185, 104, 59, 33)
    """
    between = [
        math.ceil(math.exp(t / steps * math.log(count) + (1 - t / steps) * math.log(kernels)))
        for t in range(1, steps)
    ]
    # The last step is exact: exp(log k) may lie above k and its ceiling be k + 1.
    return (*between, count)


@dataclass(frozen=True)
class ForceRun:
    """One iterated pruning: the unit, and the kernels kept at each step, k_1 .. k_T."""

    number: int
    counts: tuple[int, ...]


def force_scores(
    layer: TracedLayer,
    courses: Sequence[ForceRun],
    batches: Callable[[], Iterable[Tensor]],
    *,
    response: Response,
) -> list[NDArray[np.float32]]:
    """The scores after each course's last mask: its circuit is the `counts[-1]` best of them.

    The courses take their steps together, so that they share each batch of images, the first
    convolution, and the scores of the whole network.

    Args:
        layer: the layer.
        courses: all of one length.
        batches: gives the scoring images (batch, 3, height, width), from the start at each call.
        response: what is explained.

    Returns:
        For each course (kernels,) float32, NaN where a kernel cannot reach the unit.
    """
    numbers = list(dict.fromkeys(course.number for course in courses))
    whole = {number: layer.reachable(number) for number in numbers}
    first = dict(
        zip(numbers, _masked_scores(layer, list(whole.items()), batches(), response), strict=True)
    )
    scores = [first[course.number] for course in courses]
    for step in range(max(len(course.counts) for course in courses)):
        masked = [
            (place, course.number, keep_best(scores[place], course.counts[step]))
            for place, course in enumerate(courses)
            # A mask of all kernels is the whole network again.
            if course.counts[step] < whole[course.number].sum()
        ]
        found = _masked_scores(layer, [(n, mask) for _, n, mask in masked], batches(), response)
        for (place, _, _), values in zip(masked, found, strict=True):
            scores[place] = values
    return scores


def _masked_scores(
    layer: TracedLayer,
    masked: Sequence[tuple[int, NDArray[np.bool_]]],
    batches: Iterable[Tensor],
    response: Response,
) -> list[NDArray[np.float32]]:
    """The scores of each (unit, mask), (kernels,)."""
    totals = [np.zeros(layer.upstream.index.size) for _ in masked]
    count = 0
    with torch.no_grad():
        for batch in batches if masked else ():
            stem = Stem.of(layer.network, batch, None, places=True)
            for total, (number, mask) in zip(totals, masked, strict=True):
                _add_scores(total, layer, number, mask, batch, stem, response)
            count += len(batch)
    found = []
    for total, (number, _) in zip(totals, masked, strict=True):
        scores = (total / max(count, 1)).astype(np.float32)
        scores[~layer.reachable(number)] = np.nan
        found.append(scores)
    return found


def _add_scores(
    total: NDArray[np.float64],
    layer: TracedLayer,
    number: int,
    mask: NDArray[np.bool_],
    images: Tensor,
    stem: Stem | None,
    response: Response,
) -> None:
    """Adds the scores of every image, each of which counts by its own absolute values."""
    network = layer.network
    replaced = pruned(layer, number, mask, None)
    forward = _run(network, images, replaced, stem)
    read = live_channels(network, replaced, layer.reads(number))
    live = {
        step.name: torch.from_numpy(np.flatnonzero(read[step.name])).to(images.device)
        for step in network.steps
        if step.convolution is not None
        and network.sites[step.convolution].groups == 1
        and step.name in read
        and read[step.name].mean() < _WORTH_DROPPING
    }
    out = images.new_zeros((len(images), len(mask)))
    passes = image_passes(
        forward,
        layer.targets([number]),
        response,
        one_row=layer.own_rows([number]),
        live=live,
    )
    for image, scored in passes:
        layer.place(out[image : image + 1], scored, snip(scored.calls))
    for image in out.cpu().numpy():
        total += image


def _run(network: Network, images: Tensor, replaced: Replaced, stem: Stem | None) -> Forward:
    """The pruned network's values on the images; those before the end of the stem are left out."""
    if stem is None:
        return Forward(network, network.forward(images, replaced=replaced), replaced)
    kernels = replaced[stem.convolution.name]
    every = np.ones(stem.last.shape[0], dtype=np.bool_)
    given = (stem.last.name, stem.channels(kernels, every))
    values = network.forward(images, replaced=replaced, given=given)
    return Forward(network, values, replaced, {stem.last.name: stem.maxima(kernels)})
