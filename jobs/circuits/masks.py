"""Masks of exactly k kernels, made from scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.storage_schema.ranking import kernels_kept, ranking


def keep_best(scores: NDArray[np.floating], count: int) -> NDArray[np.bool_]:
    """Marks the `count` best kernels: (kernels,) bool."""
    mask = np.zeros(len(scores), dtype=np.bool_)
    mask[ranking(scores)[:count]] = True
    return mask


def nested_masks(scores: NDArray[np.floating], fractions: Sequence[float]) -> NDArray[np.bool_]:
    """Makes the circuits of one score at every kept fraction: (fractions, kernels) bool, each
    inside the one before when the fractions descend."""
    order = ranking(scores)
    masks = np.zeros((len(fractions), len(scores)), dtype=np.bool_)
    for level, fraction in enumerate(fractions):
        masks[level, order[: kernels_kept(fraction, len(order))]] = True
    return masks
