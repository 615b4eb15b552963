"""How far two results are apart, as a share of the largest value."""

from __future__ import annotations

import math

from torch import Tensor


def share(found: Tensor, wanted: Tensor, *, floor: float = 0.0) -> float:
    """Computes the largest difference of two tensors, divided by the largest value of `wanted`, or
    by `floor` where that is larger.

    Infinity where one holds more numbers than the other, or other ones that are not finite.
    """
    if found.numel() != wanted.numel():
        return math.inf
    found = found.detach()
    wanted = wanted.detach().reshape(found.shape).to(found)
    finite = wanted.isfinite()
    if not bool((found.isfinite() == finite).all()):
        return math.inf
    found, wanted = found[finite], wanted[finite]
    if not wanted.numel():
        return 0.0
    return ratio(float((found - wanted).abs().max()), max(float(wanted.abs().max()), floor))


def ratio(difference: float, scale: float) -> float:
    """Computes difference / scale: 0 where nothing differs, infinity where all that is given is
    zero."""
    if difference == 0:
        return 0.0
    return difference / scale if scale else math.inf
