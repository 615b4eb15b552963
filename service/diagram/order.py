"""The order of rows: columns of points, the lines between neighbouring ones with few crossings.

Sugiyama's way (Sugiyama, Tagawa, Toda, "Methods for visual understanding of hierarchical system
structures", 1981): sweep right and left, sorting each column by the mean rank of its neighbours
in the column before; then exchange neighbours while that helps. Points of one convolution stay
together, so groups are sorted first and points within them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.diagram.crossings import crossings

Ints = NDArray[np.int64]

_SWEEPS = 12
_PASSES = 24
_DENSE = 4_000_000  # entries of a column pair's matrix, at most: 32 MB


@dataclass(frozen=True)
class Columns:
    """Holds points in columns, and lines that each lead to the next column.

    Attributes:
        column: of each point, from 0.
        group: of each point: what stays together; a group lies in one column.
        rank: of each point: its row within its column, from 0, none twice.
        start, end: points of each line, in neighbouring columns.
    """

    column: Ints
    group: Ints
    rank: Ints
    start: Ints
    end: Ints

    def crossings(self) -> int:
        """Count pairs of lines that cross."""
        return crossings(self.column[self.start], self.rank[self.start], self.rank[self.end])


def ordered(columns: Columns) -> Columns:
    """Order rows so that few lines cross, never more than did before."""
    best, fewest = columns, columns.crossings()
    for median in (False, True):
        found = columns
        for sweep in range(_SWEEPS):
            found = _swept(found, rightwards=sweep % 2 == 0, median=median)
            count = found.crossings()
            if count < fewest:
                best, fewest = found, count
            if not fewest:
                return best
    exchanged = _exchanged(best)
    return exchanged if exchanged.crossings() < fewest else best


def _swept(columns: Columns, *, rightwards: bool, median: bool) -> Columns:
    rank = columns.rank.copy()
    here, there = (columns.end, columns.start) if rightwards else (columns.start, columns.end)
    by_column = np.argsort(columns.column[here], kind="stable")
    cuts = np.searchsorted(columns.column[here[by_column]], np.arange(columns.column.max() + 2))
    numbers = range(len(cuts) - 1)
    members = _members(columns.column)
    for number in numbers if rightwards else reversed(numbers):
        lines = by_column[cuts[number] : cuts[number + 1]]
        if len(lines):
            points = members[number]
            wanted = _wanted(points, here[lines], rank[there[lines]], rank, median=median)
            rank[points] = _arranged(columns.group[points], wanted, rank[points])
    return replace(columns, rank=rank)


def _members(column: Ints) -> list[Ints]:
    """The points of each column."""
    order = np.argsort(column, kind="stable")
    cuts = np.searchsorted(column[order], np.arange(1, column.max() + 1))
    return np.split(order, cuts)


def _wanted(
    points: Ints, ends: Ints, ranks: Ints, rank: Ints, *, median: bool
) -> NDArray[np.float64]:
    """Where each point of a column would lie by its neighbours; where it lies, without any."""
    local = np.searchsorted(points, ends)
    count = np.bincount(local, minlength=len(points))
    if median:
        order = np.lexsort((ranks, local))
        first = np.cumsum(count) - count
        low, high = first + np.maximum(count - 1, 0) // 2, first + count // 2
        last = len(order) - 1
        found = (ranks[order[np.minimum(low, last)]] + ranks[order[np.minimum(high, last)]]) / 2
    else:
        found = np.bincount(local, ranks, len(points)) / np.maximum(count, 1)
    # Scaled to the neighbours' column: a point without any keeps its share of the height.
    span = (ranks.max(initial=0) + 1) / len(points)
    return np.where(count > 0, found, (rank[points] + 0.5) * span - 0.5)


def _arranged(group: Ints, wanted: NDArray[np.float64], rank: Ints) -> Ints:
    """New ranks: groups by their mean, points by what they want, ties as they lie."""
    _, local = np.unique(group, return_inverse=True)
    mean = np.bincount(local, wanted) / np.bincount(local)
    order = np.lexsort((rank, wanted, local, mean[local]))
    found = np.empty(len(order), np.int64)
    found[order] = np.arange(len(order))
    return found


def _exchanged(columns: Columns) -> Columns:
    """Neighbouring points, and neighbouring groups, change ranks where that cuts crossings."""
    rank = columns.rank.copy()
    members = _members(columns.column)
    lines = [
        np.flatnonzero(columns.column[columns.start] == number) for number in range(len(members))
    ]
    for _ in range(_PASSES):
        gained = 0.0
        for number, points in enumerate(members):
            sides = []
            if number and len(lines[number - 1]):
                cut = lines[number - 1]
                sides.append((columns.end[cut], rank[columns.start[cut]]))
            if len(lines[number]):
                cut = lines[number]
                sides.append((columns.start[cut], rank[columns.end[cut]]))
            if sides and len(points) > 1:
                gained += _exchange(points, columns.group, rank, sides)
        if not gained:
            break
    return replace(columns, rank=rank)


def _exchange(points: Ints, group: Ints, rank: Ints, sides: list[tuple[Ints, Ints]]) -> float:
    """Changes `rank` of one column's points; how many crossings that saves."""
    points = points[np.argsort(rank[points])]
    weights = []
    for ends, ranks in sides:
        width = int(ranks.max()) + 1
        if len(points) * width > _DENSE:
            return 0.0
        row = np.empty(int(points.max()) + 1, np.int64)
        row[points] = np.arange(len(points))
        flat = np.bincount(row[ends] * width + ranks, minlength=len(points) * width)
        weights.append(flat.reshape(len(points), width).astype(np.float64))
    blocks = group[points]
    gained, order = _switch(weights, blocks[1:] == blocks[:-1])
    if len(order):
        points, weights = points[order], [weight[order] for weight in weights]
    starts = np.flatnonzero(np.concatenate([[True], blocks[1:] != blocks[:-1]]))
    if len(starts) > 1:
        sums = [np.add.reduceat(weight, starts, axis=0) for weight in weights]
        more, blocks_order = _switch(sums, np.ones(len(starts) - 1, np.bool_))
        gained += more
        pieces = np.split(points, starts[1:])
        points = np.concatenate([pieces[block] for block in blocks_order])
    rank[points] = np.arange(len(points))
    return gained


def _switch(weights: list[NDArray[np.float64]], allowed: NDArray[np.bool_]) -> tuple[float, Ints]:
    """Odd and even pairs of rows in turn: what the exchanges save, and the new order.

    Args:
        weights: of each side, the lines from each row to each rank there.
        allowed: of each row but the last, whether it may change with the next.
    """
    order = np.arange(len(weights[0]))
    gained = 0.0
    for first in (0, 1):
        above = np.arange(first, len(order) - 1, 2)
        if not len(above):
            continue
        saved = np.zeros(len(above))
        for weight in weights:
            upper, lower = weight[order[above]], weight[order[above + 1]]
            now = (upper * (np.cumsum(lower, axis=1) - lower)).sum(axis=1)
            then = (lower * (np.cumsum(upper, axis=1) - upper)).sum(axis=1)
            saved += now - then
        pairs = above[(saved > 0) & allowed[above]]
        gained += float(saved[(saved > 0) & allowed[above]].sum())
        order[pairs], order[pairs + 1] = order[pairs + 1], order[pairs]
    return gained, order
