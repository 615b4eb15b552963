"""Sub-feature groups: a unit's top images, grouped by the kernels that the unit sees them through.

Each image is a point: the square roots of its scores, as a vector of length 1. Their distances
are Euclidean, they are clustered by Ward's method, and the number of groups is the one with the
largest mean silhouette (Rousseeuw 1987), or one: several groups count only where

- images of different groups are .2 apart on average, a cosine of .98 (in the demo's layer, even
  the two nearest images of a unit are .18 apart): what is nearer is seen through the same kernels,
- and hardly any sample of one group is split as well. One group is the null hypothesis of SigClust
  (Liu et al. 2008): points drawn from a normal distribution with the variances of these points
  along their principal axes. Their best silhouette over all numbers of groups has to be smaller
  than that of the images in 95 of 100 samples. So few images need a clear gap, and many show a
  faint one; the silhouette is reported beside the groups.

Everything drawn is drawn from the same seed, so the same scores give the same groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.storage_schema.errors import CorruptError, QueryError
from circuit_atlas.storage_schema.wording import REPAIR

MOST_GROUPS = 6
# Fewer images hold no two groups that could be told from chance.
FEWEST_IMAGES = 4
APART = 0.2
_SAMPLES = 99
_LEVEL = 0.05
_ENOUGH = 10


def labels_of(groups: pa.Table, images: Sequence[int], *, what: str) -> tuple[int, ...]:
    """Return the stored group of each image, by the rows of one criterion.

    CorruptError where an image is in none; `what` names the unit in the message.
    """
    group = dict(zip(groups["image"].to_pylist(), groups["group"].to_pylist(), strict=True))
    if outside := [image for image in images if image not in group]:
        raise CorruptError(
            f"the groups of {what} hold no image {outside[0]}, which is one of its top images: "
            f"{REPAIR}"
        )
    return tuple(group[image] for image in images)


@dataclass(frozen=True)
class RejectedSplit:
    """Describes the best split of images that are one group all the same.

    Attributes:
        count: its groups.
        silhouette: their mean silhouette.
        apart: how far images of different groups are apart on average; below `APART` it is not
            held against chance.
        chance: share of samples of one group that are split as well; None where `apart` is below.
    """

    count: int
    silhouette: float
    apart: float
    chance: float | None


@dataclass(frozen=True)
class GroupLabels:
    """Groups of images.

    Attributes:
        labels: (images,) int64: the group of each, from 0, the largest first, ties by image.
        count: the number of groups.
        silhouette: their mean silhouette, in [-1, 1]; None for one group.
        chance: share of samples of one group whose best silhouette is as large as the best of
            these images; None where it was not asked, as for a given number of groups.
        rejected: the best split, where the images are one group as it did not pass; else None.
    """

    labels: NDArray[np.int64]
    count: int
    silhouette: float | None
    chance: float | None
    rejected: RejectedSplit | None = None


def group_images(scores: NDArray[np.floating], *, groups: int | None = None) -> GroupLabels:
    """Groups images by their scores.

    Args:
        scores: (images, kernels), not negative, NaN where a kernel cannot reach the unit.
        groups: the number of groups. Default: as many as there seem to be.

    Raises:
        QueryError: there are not that many images.
    """
    count = len(scores)
    if groups is not None and not 1 <= groups <= count:
        raise QueryError(
            f"groups={groups} is out of range: there are {count} images, so give 1 to {count}"
        )
    single = GroupLabels(np.zeros(count, dtype=np.int64), 1, None, None)
    if groups == 1 or (groups is None and count < FEWEST_IMAGES):
        return single
    points = _points(scores)
    if groups is not None:
        apart = distances(points)
        labels = _ordered(_ward(apart, [groups])[0])
        return GroupLabels(labels, groups, silhouette(apart, labels), None)
    numbers = range(2, min(MOST_GROUPS, count - 1) + 1)
    best, labels = _best(points, numbers)
    between = _between(distances(points), labels)
    chance = _chance(points, numbers, best) if between >= APART else None
    if chance is None or chance > _LEVEL:
        split = RejectedSplit(int(labels.max()) + 1, best, between, chance)
        return GroupLabels(single.labels, 1, None, chance, split)
    labels = _ordered(labels)
    return GroupLabels(labels, int(labels.max()) + 1, best, chance)


def distances(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Computes the Euclidean distances of all pairs: (points, axes) -> (points, points)."""
    squares = (points**2).sum(1)
    squared = squares[:, None] + squares[None] - 2 * points @ points.T
    np.fill_diagonal(squared, 0)
    return np.sqrt(np.maximum(squared, 0))


def silhouette(apart: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    """Computes the mean silhouette (Rousseeuw 1987).

    It is the mean over the points of (b - a) / max(a, b), with a the mean distance to the others of
    its group and b to those of the nearest other group; 0 for a point alone in its group.

    Args:
        apart: (points, points), distances.
        labels: (points,), the group of each, from 0; two groups or more.
    """
    inside = (labels[:, None] == np.arange(labels.max() + 1)).astype(np.float64)
    sizes = inside.sum(0)
    total = apart @ inside
    size = sizes[labels]
    rows = np.arange(len(labels))
    a = total[rows, labels] / np.maximum(size - 1, 1)
    means = total / sizes
    means[rows, labels] = np.inf
    b = means.min(1)
    worth = np.where(size > 1, (b - a) / np.maximum(np.maximum(a, b), np.finfo(float).tiny), 0)
    return float(worth.mean())


def _between(apart: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean distance of points of different groups."""
    return float(apart[labels[:, None] != labels].mean())


def _points(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Coordinates of the images along their principal axes: (images, images)."""
    known = np.sqrt(scores[:, ~np.isnan(scores).any(0)].astype(np.float64))
    lengths = np.linalg.norm(known, axis=1, keepdims=True)
    unit = known / np.where(lengths > 0, lengths, 1)
    centred = unit - unit.mean(0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    points: NDArray[np.float64] = vectors * np.sqrt(np.maximum(values, 0))
    return points


def _best(points: NDArray[np.float64], numbers: range) -> tuple[float, NDArray[np.int64]]:
    """The largest silhouette over several numbers of groups, fewer first, and the groups."""
    apart = distances(points)
    tried = [(silhouette(apart, labels), labels) for labels in _ward(apart, numbers)]
    return max(tried, key=lambda pair: pair[0])


def _chance(points: NDArray[np.float64], numbers: range, best: float) -> float:
    """Share of samples of one group, these points among them, that are split as well; once enough
    of them are, no more are drawn (Besag and Clifford 1991)."""
    generator = np.random.default_rng(0)
    spread = points.std(0)
    as_well = 0
    for drawn in range(1, _SAMPLES + 1):
        sample = generator.normal(size=points.shape) * spread
        as_well += _best(sample, numbers)[0] >= best
        if as_well == _ENOUGH:
            return as_well / drawn
    return (1 + as_well) / (1 + _SAMPLES)


def _ward(apart: NDArray[np.float64], numbers: range | list[int]) -> list[NDArray[np.int64]]:
    """Ward's groups of points by their distances, for several numbers of groups; labels from 0."""
    from scipy.cluster.hierarchy import linkage

    count = len(apart)
    merged = linkage(apart[np.triu_indices(count, 1)], "ward")[:, :2].astype(np.int64)
    labels = np.arange(count)
    by_number = {count: labels}
    for step, pair in enumerate(merged):
        labels = np.where(np.isin(labels, pair), count + step, labels)
        by_number[count - step - 1] = labels
    return [np.unique(by_number[number], return_inverse=True)[1] for number in numbers]


def _ordered(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels from 0 on, the largest group first, ties by first image."""
    names, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    ordered: NDArray[np.int64] = rank[np.searchsorted(names, labels)]
    return ordered
