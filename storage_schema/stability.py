"""How often each kernel is in a unit's circuit when the scoring images are drawn anew.

The score of a set of images is the mean of theirs, so the circuit of any set is a selection from a
row-sum of stored scores, and no network runs. A bootstrap draw (Efron, Annals of Statistics 7,
1979) takes as many images as there are, with replacement; the k kernels of the largest sum are its
circuit. A kernel that is in nearly every draw's circuit owes its place to no single image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.storage_schema.ranking import kernels_kept

DRAWS = 200
"""Bootstrap draws. As many as this, and how many of them hold a kernel fits in a byte."""
FEWEST_IMAGES = 2
"""One image can be drawn in one way only."""
SETS_AT_ONCE = 32
"""Means of scores that are worked out together: enough for a matrix product, and few enough to stay
small."""
# The smallest mean score of a circuit is about that of the draw before, and hardly ever below this
# share of it.
_LEAST_SHARE = 0.8


def bootstrap(
    scores: NDArray[np.float32], fractions: Sequence[float], *, seed: int
) -> NDArray[np.uint8]:
    """Count in how many of `DRAWS` bootstrap draws of the images each kernel is in the circuit.

    Args:
        scores: (images, kernels), of two images or more, NaN where a kernel cannot reach the unit.
        fractions: the kept fractions f of circuits, of max(1, round(f N)) kernels each.
        seed: decides what is drawn; the same draws serve every unit of as many images.

    Returns:
        (fractions, kernels), 0 to `DRAWS`; 0 where a kernel cannot reach the unit.
    """
    images = len(scores)
    generator = np.random.default_rng([seed, images])
    sets = generator.multinomial(images, np.full(images, 1 / images), size=DRAWS)
    reachable = int(np.count_nonzero(~np.isnan(scores[0])))
    kept = [kernels_kept(fraction, reachable) for fraction in fractions]
    return memberships(scores, sets, kept).astype(np.uint8)


def memberships(
    scores: NDArray[np.float32], sets: NDArray[np.integer], kept: Sequence[int]
) -> NDArray[np.int32]:
    """Count how many image sets' circuits hold each kernel.

    Means are in float32: where two kernels' means differ by less than its rounding, either may rank
    above the other. Of equal ones the kernel that comes first does.

    Args:
        scores: (images, kernels), NaN where a kernel cannot reach the unit.
        sets: (sets, images), how often each set holds each image. The circuit of a set without any
            image holds no kernel.
        kept: numbers of kernels that circuits keep, each from 1 to as many as can reach the unit.

    Returns:
        (kept, kernels).
    """
    reach = np.flatnonzero(~np.isnan(scores[0]))
    values = np.ascontiguousarray(scores[:, reach])
    filled = sets[sets.any(axis=1)]
    means = (filled / filled.sum(axis=1, keepdims=True)).astype(np.float32)
    counts = np.zeros((len(kept), len(reach)), np.int32)
    guess = np.float32(0)
    for start in range(0, len(means), SETS_AT_ONCE):
        for row in means[start : start + SETS_AT_ONCE] @ values:
            least = _least(row, kept, guess)
            guess = _LEAST_SHARE * min(least)
            for each, count, total in zip(least, kept, counts, strict=True):
                total += _best(row, each, count)
    on_axis = np.zeros((len(kept), scores.shape[1]), np.int32)
    on_axis[:, reach] = counts
    return on_axis


def _least(row: NDArray[np.float32], kept: Sequence[int], guess: np.float32) -> list[np.float32]:
    """The smallest of the so many largest numbers, for each of `kept`; all are not below 0. Where
    enough of them reach a guess, only those are parted, which takes a third of the time."""
    high = np.compress(row >= guess, row) if guess > 0 else row
    if len(high) < max(kept):
        high = row
    ranks = [len(high) - count for count in kept]
    parted = np.partition(high, sorted(set(ranks)))
    return [parted[rank] for rank in ranks]


def _best(row: NDArray[np.float32], least: np.float32, count: int) -> NDArray[np.bool_]:
    """Marks the `count` largest numbers, of which `least` is the smallest, ties by position."""
    inside = row >= least
    more = int(np.count_nonzero(inside)) - count
    if more:
        inside[np.flatnonzero(row == least)[-more:]] = False
    return inside
