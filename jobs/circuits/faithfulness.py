"""Faithfulness: how well a circuit preserves a unit's response.

All measures compare the circuit's map c with the full network's map y over all positions of all
images given. Undefined values are None: a correlation where either map is constant, a ratio whose
denominator is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.jobs.circuits.ranks import mean_ranks

# Maps whose values differ by less than this share of the largest are constant: fp32 rounding of
# a constant through ten layers stays below it.
_CONSTANT = 1e-6


@dataclass(frozen=True)
class Faithfulness:
    """The measures of one circuit on one set of images.

    Attributes:
        pearson: Pearson r of c and y, signed.
        spearman: Pearson r of their ranks, ties at the mean rank.
        relative_l1: sum |c - y| / sum |y|.
        change_at_maximum: (c - y) / |y| at the position and image where y is largest.
        firing: share of the positions where c > 0.
        firing_full: share of the positions where y > 0.
    """

    pearson: float | None
    spearman: float | None
    relative_l1: float | None
    change_at_maximum: float | None
    firing: float
    firing_full: float


class FullResponse:
    """The full network's map of one unit, with what every comparison needs of it."""

    def __init__(self, maps: NDArray[np.floating]) -> None:
        """Takes maps of any shape, (images, height, width) as a rule."""
        self._maps = np.asarray(maps, dtype=np.float64).ravel()
        self.constant = is_constant(self._maps)
        self._ranks = mean_ranks(self._maps)
        self._sum = float(np.abs(self._maps).sum())
        self._peak = int(self._maps.argmax())
        self._firing = float((self._maps > 0).mean())

    def compare(self, circuit: NDArray[np.floating]) -> Faithfulness:
        """Measures how well a circuit's maps, of the same shape, preserve the full response."""
        maps = np.asarray(circuit, dtype=np.float64).ravel()
        if self.constant or is_constant(maps):
            pearson = spearman = None
        else:
            pearson = correlation(maps, self._maps)
            spearman = correlation(mean_ranks(maps), self._ranks)
        peak = float(self._maps[self._peak])
        return Faithfulness(
            pearson=pearson,
            spearman=spearman,
            relative_l1=float(np.abs(maps - self._maps).sum()) / self._sum if self._sum else None,
            change_at_maximum=(float(maps[self._peak]) - peak) / abs(peak) if peak else None,
            firing=float((maps > 0).mean()),
            firing_full=self._firing,
        )


def over_images(circuit: NDArray[np.floating], full: NDArray[np.floating]) -> float | None:
    """Computes Pearson r between the responses to images, (images,) each, in a circuit and in the
    whole network; None where either is constant."""
    a, b = (np.asarray(responses, dtype=np.float64) for responses in (circuit, full))
    return None if is_constant(a) or is_constant(b) else correlation(a, b)


def class_auc(scores: NDArray[np.floating], is_class: NDArray[np.floating]) -> float | None:
    """Computes the area under the ROC curve of a class' scores: the chance that an image of the
    class has a larger one than an image of another, equal ones counting half.

    Args:
        scores: (images,).
        is_class: (images,) 1 for an image of the class, 0 for another, NaN where that is not known.

    Returns:
        None where no image or every one is of the class, or a score is NaN.
    """
    known = ~np.isnan(is_class)
    of_class = is_class[known] == 1
    inside, outside = int(of_class.sum()), int((~of_class).sum())
    if not inside or not outside or np.isnan(scores[known]).any():
        return None
    ranks = mean_ranks(scores[known])
    return float((ranks[of_class].sum() - inside * (inside + 1) / 2) / (inside * outside))


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Computes Pearson r of two vectors of which neither is constant."""
    a = a - a.mean()
    b = b - b.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def is_constant(maps: NDArray[np.floating]) -> bool:
    """Says whether all values are the same up to fp32 rounding."""
    return bool(np.ptp(maps) <= _CONSTANT * np.abs(maps).max())
