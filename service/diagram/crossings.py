"""How many pairs of lines cross between neighbouring columns, counted exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def crossings(gap: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]) -> int:
    """Count pairs of lines of one gap that cross: the left ends in one order, the right in the
    other.

    Args:
        gap: which pair of neighbouring columns each line runs between.
        left, right: rows of its ends in their columns, from 0.

    Lines that share an end do not cross. O(lines x log(rows)): the inversions of the right ends
    of all lines sorted by their left ones.
    """
    if not len(gap):
        return 0
    order = np.lexsort((right, left, gap))
    rows = int(right.max()) + 1
    # The gaps' numbers ascend, so no two lines of different gaps are an inversion.
    return inversions(gap[order].astype(np.int64) * rows + right[order])


def inversions(values: NDArray[np.int64]) -> int:
    """Count pairs (i, j) with i < j and values[i] > values[j]; values are not negative.

    Bit by bit from the highest: among values that agree in all higher bits, a value with the bit
    unset is below every earlier one that has it set. Then they part, stably, by that bit.
    """
    total = 0
    for bit in reversed(range(int(values.max(initial=0)).bit_length())):
        high = values >> (bit + 1)
        ones = (values >> bit) & 1
        before = np.cumsum(ones) - ones
        first = np.flatnonzero(np.concatenate([[True], high[1:] != high[:-1]]))
        runs = np.diff(np.append(first, len(values)))
        here = before - np.repeat(before[first], runs)
        total += int(here[ones == 0].sum())
        values = values[np.argsort(values >> bit, kind="stable")]
    return total
