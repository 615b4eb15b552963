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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits import pruned
from circuit_atlas.jobs.forward import Forward
from circuit_atlas.jobs.layer import Layer
from circuit_atlas.jobs.passes import site_passes
from circuit_atlas.jobs.prune import keep_best
from circuit_atlas.jobs.saliency import snip
from circuit_atlas.jobs.targets import Response


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


def force_scores(
    layer: Layer,
    number: int,
    batches: Callable[[], Iterable[Tensor]],
    *,
    counts: Sequence[int],
    response: Response,
) -> NDArray[np.float32]:
    """The scores after the last mask: the circuit is the `counts[-1]` best of them.

    Args:
        layer: the layer.
        number: the unit.
        batches: gives the scoring images (batch, 3, height, width), from the start at each call.
        counts: kernels kept at each step, k_1 .. k_T, as `schedule` gives them.
        response: what is explained.

    Returns:
        (kernels,) float32, NaN where a kernel cannot reach the unit.
    """
    scores = _masked_scores(layer, number, layer.reachable(number), batches(), response)
    for kept in counts:
        mask = keep_best(scores, kept)
        scores = _masked_scores(layer, number, mask, batches(), response)
    return scores


def _masked_scores(
    layer: Layer,
    number: int,
    mask: NDArray[np.bool_],
    batches: Iterable[Tensor],
    response: Response,
) -> NDArray[np.float32]:
    replaced = pruned(layer, number, mask, None)
    targets, own_rows = layer.targets([number]), layer.own_rows([number])
    total = np.zeros(len(mask))
    count = 0
    with torch.no_grad():
        for batch in batches:
            for forward in Forward.of_batch(layer.network, batch, replaced):
                out = batch.new_zeros((1, len(mask)))
                for scored in site_passes(forward, targets, response, one_row=own_rows):
                    layer.place(out, scored, snip(scored.calls))
                total += out[0].cpu().numpy()
                count += 1
    scores = (total / max(count, 1)).astype(np.float32)
    scores[~layer.reachable(number)] = np.nan
    return scores
