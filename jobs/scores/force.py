"""FORCE: an iterative score, in which a pruned kernel can come back.

De Jorge et al., "Progressive Skeletonization", 2021 (arXiv 2006.09081), as used by Hamblin, Konkle
and Alvarez, 2022: T steps of keeping k_t = ceil(exp(t/T ln k_T + (1 - t/T) ln N)) kernels of N and
scoring all N in the network so masked. The score is |dr/dm| for a mask entry m on each weight,
averaged over the kernel, image by image: SNIP with the whole network's weight and the masked
network's gradient, so that a pruned kernel has a score too.

The same steps iterate any score whose calls tell it all: in a masked network these have the whole
network's weights, and the masked one's inputs and gradients. `actgrad` is then |A_oi * dr/dY_o|,
with A_oi what the kernel adds there or, pruned, would add. A score that is for mean ablation is
taken in networks whose pruned kernels are their means; all others in those where they are zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.first_convolution import FirstConvolution
from circuit_atlas.jobs.circuits.kernel_means import KernelMeans
from circuit_atlas.jobs.circuits.live_channels import live_channels
from circuit_atlas.jobs.circuits.masks import keep_best
from circuit_atlas.jobs.circuits.pruned_weights import pruned_weights
from circuit_atlas.jobs.engine.conv_gradients import image_passes
from circuit_atlas.jobs.engine.forward import Forward
from circuit_atlas.jobs.engine.targets import Response
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.layer_network import Network, Replaced
from circuit_atlas.jobs.scores.per_image import CENTRED, Score, score_of

# Share of live channels below which it pays to copy them out of a map.
_WORTH_DROPPING = 0.75


def schedule(count: int, kernels: int, steps: int) -> tuple[int, ...]:
    """Plans k_1 .. k_T: geometric from `kernels` down to exactly `count`.

    >>> schedule(33, 328, 4)
    (185, 105, 59, 33)
    """
    between = [
        math.ceil(math.exp(t / steps * math.log(count) + (1 - t / steps) * math.log(kernels)))
        for t in range(1, steps)
    ]
    # The last step is exact: exp(log k) may lie above k and its ceiling be k + 1.
    return (*between, count)


@dataclass(frozen=True)
class ForceRun:
    """One iterated pruning of a unit.

    Attributes:
        number: the unit.
        counts: k_1 .. k_T, the number of kernels kept at each step.
    """

    number: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class _Iterated:
    """The score that is iterated, on one layer.

    Attributes:
        layer: the layer.
        response: the number that is explained.
        score: the function of a convolution's calls.
        means: what pruned kernels are, where the score is for mean ablation; else None.
    """

    layer: TracedLayer
    response: Response
    score: Score
    means: KernelMeans | None


def force_scores(
    layer: TracedLayer,
    runs: Sequence[ForceRun],
    batches: Callable[[], Iterable[Tensor]],
    *,
    response: Response,
    score: str = "snip",
    means: KernelMeans | None = None,
) -> list[NDArray[np.float32]]:
    """Computes the scores after each run's last mask: its circuit is the `counts[-1]` best of them.

    The runs take their steps together, so that they share each batch of images, the first
    convolution, and the scores of the whole network.

    Args:
        layer: the layer.
        runs: all of one length.
        batches: gives the scoring images (batch, channels, height, width), from the start at each
            call.
        response: the number that is explained.
        score: name of the score that is iterated, in `spec.circuits.Iterated`. Default: SNIP.
        means: of the scoring images, where the score is in `per_image.CENTRED`. Default: none.

    Returns:
        For each run (kernels,) float32, NaN where a kernel cannot reach the unit.
    """
    ablated = means if score in CENTRED else None
    iterated = _Iterated(layer, response, score_of(score), ablated)
    numbers = list(dict.fromkeys(run.number for run in runs))
    whole = {number: layer.reachable(number) for number in numbers}
    first = dict(
        zip(numbers, _masked_scores(iterated, list(whole.items()), batches()), strict=True)
    )
    scores = [first[run.number] for run in runs]
    for step in range(max(len(run.counts) for run in runs)):
        masked = {
            n: (run.number, keep_best(scores[n], run.counts[step]))
            for n, run in enumerate(runs)
            # A mask of all kernels is the whole network again.
            if run.counts[step] < whole[run.number].sum()
        }
        rescored = _masked_scores(iterated, list(masked.values()), batches())
        for n, values in zip(masked, rescored, strict=True):
            scores[n] = values
    return scores


def _masked_scores(
    iterated: _Iterated,
    masked: Sequence[tuple[int, NDArray[np.bool_]]],
    batches: Iterable[Tensor],
) -> list[NDArray[np.float32]]:
    """The scores of each (unit, mask), (kernels,)."""
    layer, means = iterated.layer, iterated.means
    totals = [np.zeros(layer.upstream.index.size) for _ in masked]
    count = 0
    by_step = None if means is None else means.by_step
    with torch.no_grad():
        together = (piece for batch in batches for piece in _together(layer.network, batch))
        for batch in together if masked else ():
            first = FirstConvolution.of(layer.network, batch, by_step, argmax=True)
            for total, (number, mask) in zip(totals, masked, strict=True):
                _add_scores(total, iterated, number, mask, batch, first)
            count += len(batch)
    found = []
    for total, (number, _) in zip(totals, masked, strict=True):
        scores = (total / max(count, 1)).astype(np.float32)
        scores[~layer.reachable(number)] = np.nan
        found.append(scores)
    return found


def _together(network: Network, images: Tensor) -> tuple[Tensor, ...]:
    """The images that can walk back together."""
    return images.split(1) if network.folded else (images,)


def _add_scores(
    total: NDArray[np.float64],
    iterated: _Iterated,
    number: int,
    mask: NDArray[np.bool_],
    images: Tensor,
    first: FirstConvolution | None,
) -> None:
    """Adds the scores of every image, each of which counts by its own absolute values."""
    layer = iterated.layer
    network = layer.network
    replaced = pruned_weights(layer, number, mask, iterated.means)
    forward = _run(network, images, replaced, first)
    masks = {name: each.mask for name, each in replaced.items() if each.mask is not None}
    read = live_channels(network, masks, layer.reads(number))
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
        iterated.response,
        one_row=layer.unit_rows([number]),
        live=live,
        mean_inputs=None if iterated.means is None else iterated.means.inputs,
    )
    for image, scored in passes:
        layer.write_scores(out[image : image + 1], scored, iterated.score(scored.calls))
    for image in out.cpu().numpy():
        total += image


def _run(
    network: Network, images: Tensor, replaced: Replaced, first: FirstConvolution | None
) -> Forward:
    """The pruned network's values on the images, without those that `first` stands for."""
    if first is None:
        return Forward(network, network.forward(images, replaced=replaced), replaced)
    kernels = replaced[first.convolution.name]
    every = np.ones(first.last.shape[0], dtype=np.bool_)
    computed = (first.last.name, first.channels(kernels, every))
    values = network.forward(images, replaced=replaced, computed=computed)
    return Forward(network, values, replaced, {first.last.name: first.argmax_in(kernels)})
