"""Where points lie on the drawing: rows apart, near their neighbours, columns evenly spread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.diagram.order import Columns

Floats = NDArray[np.float64]

_SWEEPS = 8


def heights(columns: Columns, room: Floats, margin: Floats) -> Floats:
    """Find the vertical middle of each point; the topmost edge lies at 0.

    Each column is as tight as the room of its points and the margins of groups allow, or looser
    where that brings points nearer to the mean height of their neighbours (least squares with a
    given order is an isotonic regression).

    Args:
        columns: the points, in their final order.
        room: height that each point takes.
        margin: more on either side of each point, towards points of other groups.
    """
    y = np.zeros(len(columns.column))
    stacks = []
    for number in range(int(columns.column.max()) + 1):
        points = np.flatnonzero(columns.column == number)
        points = points[np.argsort(columns.rank[points])]
        group = columns.group[points]
        apart = (room[points][1:] + room[points][:-1]) / 2
        edge = group[1:] != group[:-1]
        apart += edge * (margin[points][1:] + margin[points][:-1])
        offset = np.concatenate([[0.0], np.cumsum(apart)])
        stacks.append((points, offset))
        y[points] = offset - offset[-1] / 2
    degree = np.bincount(columns.start, minlength=len(y)) + np.bincount(
        columns.end, minlength=len(y)
    )
    for sweep in range(_SWEEPS):
        for points, offset in stacks if sweep % 2 == 0 else reversed(stacks):
            total = np.bincount(columns.start, y[columns.end], len(y)) + np.bincount(
                columns.end, y[columns.start], len(y)
            )
            mean = np.where(degree > 0, total / np.maximum(degree, 1), y)[points]
            weight = np.maximum(degree[points], 0.1)
            y[points] = isotonic(mean - offset, weight) + offset
    return y - float((y - room / 2).min())


def isotonic(values: Floats, weights: Floats) -> Floats:
    """The ascending numbers nearest to some, in weighted least squares: pool adjacent violators
    (Barlow and others, "Statistical inference under order restrictions", 1972)."""
    means: list[float] = []
    masses: list[float] = []
    counts: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        means.append(value)
        masses.append(weight)
        counts.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            mass = masses[-2] + masses[-1]
            means[-2:] = [(means[-2] * masses[-2] + means[-1] * masses[-1]) / mass]
            masses[-2:] = [mass]
            counts[-2:] = [counts[-2] + counts[-1]]
    return np.repeat(np.asarray(means, np.float64), np.asarray(counts, np.int64))
