"""Ranks of values, in numpy alone: to import what SciPy has for it takes half a second of every
worker's start."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks values from 1 on, ties at the mean of their ranks: (n,), all NaN where one is."""
    order = values.argsort()
    ordered = values[order]
    if len(ordered) and np.isnan(ordered[-1]):
        return np.full(len(values), np.nan)
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))[: len(values)]
    ends = np.append(starts[1:], len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + 1 + ends) / 2, ends - starts)
    return ranks
