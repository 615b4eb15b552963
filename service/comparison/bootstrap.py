"""Intervals of medians over units, by the percentile bootstrap, over units or over images.

Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7, 1979: what was
measured is drawn anew, with replacement, as many as there were; the interval of a number goes from
the 2.5th to the 97.5th percentile of what it is over the draws.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_TAIL = 0.025
# Weights of images that are drawn at one time.
_AT_ONCE = 2**22
# Of what a map holds: a variance below this share of the mean square is rounding.
_CONSTANT = 1e-12


def over_units(values: NDArray[np.float64], *, draws: int, seed: int) -> NDArray[np.float64]:
    """Compute the interval of the median over units of each column.

    Args:
        values: (units, columns). The same units are drawn for all columns.
        draws: how often.
        seed: of the draws.

    Returns:
        Lower and upper ends, NaN where there is one unit. Shape: (2, columns).
    """
    units, columns = values.shape
    if units < 2:
        return np.full((2, columns), np.nan)
    drawn = np.random.default_rng(seed).integers(0, units, (draws, units))
    rows = np.arange(draws)[:, None] * units
    counts = np.bincount((rows + drawn).ravel(), minlength=draws * units).astype(np.int32)
    counts = counts.reshape(draws, units)
    return ends(np.stack([_medians(column, counts) for column in values.T], axis=1))


def _medians(values: NDArray[np.float64], counts: NDArray[np.int32]) -> NDArray[np.float64]:
    """The median of each draw, given how often each value is in it: (draws,). Several times as fast
    as medians of what was drawn, as the values are put in order once."""
    order = np.argsort(values)
    passed = counts[:, order].cumsum(axis=1, dtype=np.int32)
    units = len(values)
    middle = [(passed < rank).sum(axis=1) for rank in ((units + 1) // 2, units // 2 + 1)]
    found: NDArray[np.float64] = values[order][middle].mean(axis=0)
    return found


def ends(drawn: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the interval's lower and upper ends out of what was drawn, (draws, ...): (2, ...)."""
    found: NDArray[np.float64] = np.quantile(drawn, [_TAIL, 1 - _TAIL], axis=0)
    return found


def drawn_images(images: int, *, draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Give how often each image is in each draw of as many, some draws at a time: (draws, images)
    in all."""
    generator = np.random.default_rng(seed)
    even = np.full(images, 1 / images)
    step = max(1, _AT_ONCE // images)
    for at in range(0, draws, step):
        counts = generator.multinomial(images, even, size=min(step, draws - at))
        yield counts.astype(np.float64)


def r_of_drawn_images(sums: NDArray[np.float64], *, draws: int, seed: int) -> NDArray[np.float32]:
    """Compute Pearson r over each draw of images, 0 where one of the two maps is constant there.

    Args:
        sums: over the positions of each image, as of `unit_tables.IMAGE_SUMS` in its order:
            positions, circuit, full, circuit_squares, full_squares, products.
            Shape: (6, circuits, images).
        draws: how often.
        seed: of the draws: the same images for all circuits.

    Returns:
        Shape: (draws, circuits).
    """
    parts = []
    for counts in drawn_images(sums.shape[-1], draws=draws, seed=seed):
        n, c, y, cc, yy, cy = (counts @ each.T for each in sums)
        c_variance, y_variance = cc / n - (c / n) ** 2, yy / n - (y / n) ** 2
        constant = (c_variance <= _CONSTANT * cc / n) | (y_variance <= _CONSTANT * yy / n)
        spread = np.sqrt(np.where(constant, 1.0, c_variance * y_variance))
        r = np.where(constant, 0.0, (cy / n - (c / n) * (y / n)) / spread)
        parts.append(r.clip(-1.0, 1.0).astype(np.float32))
    return np.concatenate(parts)
