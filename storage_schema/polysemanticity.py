"""Whether a unit is several features: how much less the circuits of images of different groups
share than those of one group.

For each top image i of the unit, C_i is its circuit: of the N kernels that can reach the unit the
max(1, round(f N)) with the largest score on i, those of score 0 left out. Two circuits are compared
by Cohen's kappa (Cohen, Educational and Psychological Measurement 20, 1960), each circuit a rater
that calls every kernel in or out:

    kappa_ij = 2 (|C_i & C_j| - |C_i| |C_j| / N) / (|C_i| + |C_j| - 2 |C_i| |C_j| / N)

It is 1 where the two are the same and 0 on average where they are drawn at random, whatever f is;
the plain overlap of random circuits would grow with f. (What else depends on f stays: small
circuits may be apart where large ones are not. A value of P is that of its f.)

Let K_g be the mean kappa over pairs of images of group g, and K_gh over pairs of one image of g and
one of h. All are over circuits of single images, so that large groups, whose mean scores are less
noisy, are not compared with small ones. Two images of one feature do not have the same circuit
either; K_g says how much they share.
So, as a correlation is corrected for the reliability of what is correlated (Spearman, American
Journal of Psychology 15, 1904), the polysemanticity of the unit is

    P = mean over pairs of groups g < h of  1 - K_gh / sqrt(K_g K_h),  each clipped to [0, 1]

It is 0 for one group, and where images of different groups share as much as those of one; 1 where
they share no more than chance. A group of one image has no K_g: the other group's stands for it. A
pair of groups is left out where neither has one, or where images of one group share no more than
chance (K_g <= 0); P is null where all pairs are.

The groups were found from the same scores, so groups that are forced on noise have K_gh < K_g and a
P above 0. Read P beside the silhouette of the groups, or with groups that come from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.storage_schema import bits
from circuit_atlas.storage_schema.ranking import kernels_kept


@dataclass(frozen=True)
class Polysemanticity:
    """Says how much the circuits of a unit's groups differ, see the module.

    Attributes:
        value: P in [0, 1], or None where it is undefined.
        criterion: whose scores.
        keep: the fraction f that the circuits of the images keep.
        within: K_g of each group, None for a group of one image.
        pairs: one row a pair of groups: group, other_group, between (K_gh), within (sqrt(K_g K_h),
            null where undefined) and difference (1 - between / within in [0, 1], null where
            undefined).
    """

    value: float | None
    criterion: str
    keep: float
    within: tuple[float | None, ...]
    pairs: pa.Table


def polysemanticity(
    scores: NDArray[np.float32], groups: Sequence[int], *, criterion: str, keep: float
) -> Polysemanticity:
    """Work out P of one unit.

    Args:
        scores: (images, kernels), NaN where a kernel cannot reach the unit.
        groups: the group of each image, from 0.
        criterion: whose scores they are.
        keep: f, above 0 and below 1.
    """
    reach = scores[:, ~np.isnan(scores[0])]
    count = kernels_kept(keep, reach.shape[1])
    kappa = agreement(best(reach, count))
    np.fill_diagonal(kappa, np.nan)
    of = np.asarray(groups)
    number = int(of.max()) + 1
    within_each = [_mean(kappa[np.ix_(of == g, of == g)]) for g in range(number)]
    pairs = [
        _pair(g, h, _mean(kappa[np.ix_(of == g, of == h)]), within_each)
        for g, h in combinations(range(number), 2)
    ]
    differences = [pair["difference"] for pair in pairs if pair["difference"] is not None]
    if number == 1:
        value: float | None = 0.0
    else:
        value = float(np.mean(differences)) if differences else None
    return Polysemanticity(
        value, criterion, keep, tuple(within_each), pa.Table.from_pylist(pairs, _PAIRS)
    )


def best(scores: NDArray[np.float32], count: int) -> NDArray[np.bool_]:
    """Mark in each row the `count` largest scores above 0, ties by position. Shape: (rows,
    kernels)."""
    circuits = np.zeros(scores.shape, np.bool_)
    for row, mask in zip(scores, circuits, strict=True):
        # A partition and one look at the ties: a tenth of the time of a full sort.
        least = np.partition(row, len(row) - count)[len(row) - count]
        np.greater(row, least, out=mask)
        if least > 0:
            ties = np.flatnonzero(row == least)
            mask[ties[: count - int(mask.sum())]] = True
    return circuits


def agreement(circuits: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Work out Cohen's kappa of each pair of circuits (rows), NaN where both hold no kernel or all.

    Shape: (rows, rows).
    """
    packed = np.stack([bits.pack(row) for row in circuits])
    both = np.stack([bits.popcount(packed & row).sum(axis=1, dtype=np.int64) for row in packed])
    sizes = circuits.sum(axis=1, dtype=np.int64)
    chance = np.outer(sizes, sizes) / circuits.shape[1]
    span = sizes[:, None] + sizes[None, :] - 2 * chance
    return np.divide(2 * (both - chance), span, out=np.full(span.shape, np.nan), where=span > 0)


def _mean(kappa: NDArray[np.float64]) -> float | None:
    known = kappa[~np.isnan(kappa)]
    return float(known.mean()) if len(known) else None


def _pair(
    group: int, other: int, between: float | None, within_each: Sequence[float | None]
) -> dict[str, float | None]:
    known = [value for value in (within_each[group], within_each[other]) if value is not None]
    within = None
    if known and min(known) > 0:
        within = float(np.sqrt(known[0] * known[-1]))
    difference = None
    if within is not None and between is not None:
        difference = float(np.clip(1 - between / within, 0, 1))
    return {
        "group": group,
        "other_group": other,
        "between": between,
        "within": within,
        "difference": difference,
    }


_PAIRS = pa.schema(
    [
        pa.field("group", pa.int16(), nullable=False),
        pa.field("other_group", pa.int16(), nullable=False),
        pa.field("between", pa.float64()),
        pa.field("within", pa.float64()),
        pa.field("difference", pa.float64()),
    ]
)
