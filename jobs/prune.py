"""Scores -> masks of exactly k kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def kernels_kept(fraction: float, kernels: int) -> int:
    """k = max(1, round(f N)) of the N kernels that can reach the unit.

    >>> [kernels_kept(f, 328) for f in (1, 0.1, 0.001)]
    [328, 33, 1]
    """
    return max(1, round(fraction * kernels))


def ranking(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Positions of the kernels that can reach the unit, best first, ties by position.

    `scores` is (kernels,), NaN where a kernel cannot reach the unit.
    """
    reach = np.flatnonzero(~np.isnan(scores))
    return reach[np.argsort(-scores[reach], kind="stable")]


def keep_best(scores: NDArray[np.floating], count: int) -> NDArray[np.bool_]:
    """The mask of the `count` best kernels: (kernels,) bool."""
    mask = np.zeros(len(scores), dtype=np.bool_)
    mask[ranking(scores)[:count]] = True
    return mask


def ladder(scores: NDArray[np.floating], fractions: Sequence[float]) -> NDArray[np.bool_]:
    """The circuits of one score at every kept fraction: (fractions, kernels) bool, each inside
    the one before when the fractions descend."""
    order = ranking(scores)
    masks = np.zeros((len(fractions), len(scores)), dtype=np.bool_)
    for rung, fraction in enumerate(fractions):
        masks[rung, order[: kernels_kept(fraction, len(order))]] = True
    return masks
