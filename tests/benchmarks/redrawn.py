"""Circuits of images drawn anew: a partial selection a draw, against a sort a draw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.storage_schema.certificate import CONFIDENCE, DELETION, PARTS, certify
from circuit_atlas.storage_schema.ranking import kernels_kept, ranking
from circuit_atlas.storage_schema.stability import DRAWS, bootstrap
from tests.benchmarks.measured import Row, best_s, once_s

_KEEP = 0.1
_FRACTIONS = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002, 0.001)


def stability(*, kernels: int, images: int, times: int = 3) -> Row:
    """How often each kernel is in the circuit of a tenth; in `facts`, of twelve fractions."""
    scores = _scores(kernels, images)
    twelve_s = once_s(lambda: bootstrap(scores, _FRACTIONS, seed=0))
    row = _row("stability", scores, DRAWS, times, lambda: bootstrap(scores, [_KEEP], seed=0))
    row.facts["twelve_fractions_s"] = twelve_s
    return row


def certificate(*, kernels: int, images: int, times: int = 3) -> Row:
    """Which kernels are certified, of as many drawn parts as by default."""
    scores = _scores(kernels, images)
    kept = kernels_kept(_KEEP, kernels)

    def ask() -> object:
        return certify(scores, kept, deletion=DELETION, draws=PARTS, confidence=CONFIDENCE, seed=0)

    return _row("certificate", scores, PARTS, times, ask)


def _row(
    work: str, scores: NDArray[np.float32], draws: int, times: int, ask: Callable[[], object]
) -> Row:
    images, kernels = scores.shape
    sorts = 5
    drawn = np.random.default_rng(0).integers(0, 3, (sorts, images)).astype(np.float64)
    exact = scores.astype(np.float64)
    slow_s = best_s(lambda: [ranking(row @ exact) for row in drawn], times=1)
    return Row(
        work=f"{work} of {kernels:,} kernels, {images} images, {draws} draws",
        of="unit",
        ours_s=best_s(ask, times=times),
        slow_s=slow_s / sorts * draws,
    )


def _scores(kernels: int, images: int) -> NDArray[np.float32]:
    """Scores as they are: few kernels score much, and those on most images."""
    rng = np.random.default_rng(0)
    return (rng.random((images, kernels)) ** 6 * rng.random(kernels) ** 3).astype(np.float32)
