"""Non-negative scores in 16 bits, on a logarithmic scale that ends at each image's largest score.

Of the 65,536 codes, 0 is exactly zero, 65,535 is NaN (the kernel cannot reach the unit), and codes
1 to 65,534 stand for `scale * 2 ** -x` with x from 40 down to 0 in equal steps.

A score v of an image whose largest score is m comes back as v' with

    abs(v' - v) <= RELATIVE_ERROR * v    where v >= FLOOR * m
    0 < v' <= FLOOR * m                  where 0 < v < FLOOR * m

apart from the rounding of v' to float32. Zero, NaN and m itself come back exactly, and no two
scores change order. FLOOR is 2 ** -40: a sum of scores in float32 cannot see less than 2 ** -24 of
its largest term.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_OCTAVES = 40
_TOP = 65_534
_NAN = 65_535
_STEP = _OCTAVES / (_TOP - 1)

FLOOR = 2.0**-_OCTAVES
RELATIVE_ERROR = 2.0 ** (_STEP / 2) - 1  # 2.1e-4


def quantise(scores: NDArray[np.float32]) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Turn scores (images, kernels) into codes (images, kernels) and scales (images,).

    Raises:
        ValueError: a negative or infinite score.
    """
    scores = np.asarray(scores, dtype=np.float32)
    missing = np.isnan(scores)
    known = np.where(missing, np.float32(0), scores)
    if not np.isfinite(known).all() or (known < 0).any():
        raise ValueError("scores of an image are finite and not negative, or NaN")
    scale = known.max(axis=1, initial=0)
    ratio = known / np.where(scale > 0, scale, 1).astype(np.float64)[:, None]
    depth = -np.log2(ratio, where=ratio > 0, out=np.full(ratio.shape, -np.inf))
    codes = np.clip(np.rint(_TOP - depth / _STEP), 1, _TOP)
    codes[known == 0] = 0
    codes[missing] = _NAN
    return codes.astype(np.uint16), scale.astype(np.float32)


def dequantise(codes: NDArray[np.uint16], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn codes (images, kernels) and scales (images,) back into scores (images, kernels)."""
    # What each code means is worked out once, not for each of millions of kernels.
    meaning = np.exp2((np.arange(2**16) - _TOP) * _STEP)
    meaning[0] = 0
    meaning[_NAN] = np.nan
    scores = np.empty(codes.shape, np.float32)
    for row, known, largest in zip(scores, codes, scale.astype(np.float64), strict=True):
        np.take((meaning * largest).astype(np.float32), known, out=row)
    return scores
