"""Sets of kernels as bits, and how many kernels two of them share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

WORD = 64


def words(count: int) -> int:
    """Tell how many words hold `count` bits.

    >>> [words(count) for count in (0, 1, 64, 65)]
    [0, 1, 1, 2]
    """
    return -(-count // WORD)


def pack(mask: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack a mask (kernels,) into whole words, the first kernel in the lowest bit."""
    padded = np.pad(mask, (0, -len(mask) % WORD))
    return np.packbits(padded, bitorder="little").view("<u8").astype(np.uint64)


def unpack(packed: NDArray[np.uint64], count: int) -> NDArray[np.bool_]:
    """Invert `pack` for `count` kernels."""
    octets = packed.astype("<u8").view(np.uint8)
    return np.unpackbits(octets, count=count, bitorder="little").astype(np.bool_)


def shared(
    bits: NDArray[np.uint64],
    rows: NDArray[np.int64],
    which: int,
    *,
    starts: Sequence[int],
    owned: Sequence[int],
) -> NDArray[np.int32]:
    """Count the kernels that one set shares with each of many.

    Args:
        bits: (sets, words), each set's convolutions one after the other.
        rows: (sets, owned), the row that a set holds of each one-row convolution.
        which: which set.
        starts: the word at which each convolution starts, and the number of words last.
        owned: which convolutions are one row; sets of different rows share nothing there.

    Returns:
        (sets, convolutions).
    """
    counts = np.empty((len(bits), len(starts) - 1), np.int32)
    for ordinal, (start, stop) in enumerate(pairwise(starts)):
        both = bits[:, start:stop] & bits[which, start:stop]
        counts[:, ordinal] = popcount(both).sum(axis=1, dtype=np.int32)
    for column, ordinal in enumerate(owned):
        counts[rows[:, column] != rows[which, column], ordinal] = 0
    return counts


def popcount(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Count the set bits of each word."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(values)
    return popcount_by_table(values)


def popcount_by_table(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Do the same for numpy before 2.0, which cannot count: 16 bits at a time, five times
    slower."""
    quarters = _COUNTS[np.ascontiguousarray(values).view(np.uint16)]
    return quarters.reshape(*values.shape, 4).sum(axis=-1, dtype=np.uint8)


_COUNTS: NDArray[np.uint8] = np.unpackbits(
    np.arange(2**16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1
).sum(axis=1, dtype=np.uint8)
