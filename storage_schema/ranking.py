"""How many kernels a kept fraction keeps, and in which order scores rank them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KEEP = 0.1
"""The kept fraction that is meant where none is given."""


def kernels_kept(fraction: float, kernels: int) -> int:
    """Return k = max(1, round(f N)) of the N kernels that can reach the unit.

    >>> [kernels_kept(f, 328) for f in (1, 0.1, 0.001)]
    [328, 33, 1]
    """
    return max(1, round(fraction * kernels))


def ranking(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Rank the kernels that can reach the unit: their positions, best first, ties by position.

    `scores` is (kernels,), NaN where a kernel cannot reach the unit.
    """
    reach = np.flatnonzero(~np.isnan(scores))
    return reach[np.argsort(-scores[reach], kind="stable")]
