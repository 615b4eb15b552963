"""What is stored of the compared circuits, as arrays over criteria, images, units and fractions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from circuit_atlas.service.comparison.query import ComparisonQuery

COLUMNS = (
    "criterion",
    "ablation",
    "split",
    "level",
    "kernels",
    "acting",
    "pearson",
    "firing",
    "firing_full",
)
"""Of the faithfulness table, besides the unit."""


@dataclass(frozen=True)
class Measures:
    """Holds them. Shape of each, but for the last: (criteria, splits, units, levels).

    Attributes:
        r: Pearson r, undefined counted as 0.
        silent: 1 where the circuit never fires where the network does, 0 where it does, NaN where
            that is not known.
        kernels: of the circuit.
        acting: those of them that act, NaN where that is not known.
        areas: under r over the logarithm of the fraction. Shape: (criteria, splits, units).
    """

    r: NDArray[np.float64]
    silent: NDArray[np.float64]
    kernels: NDArray[np.int32]
    acting: NDArray[np.float64]
    areas: NDArray[np.float64]


def measures(
    faithfulness: pa.Table,
    query: ComparisonQuery,
    units: Sequence[int],
    fractions: Sequence[float],
) -> Measures:
    """Take the compared circuits' rows out of a faithfulness table with the columns `unit` and
    `COLUMNS`; `units` ascending."""
    rows = faithfulness
    for name, known in (
        ("unit", pa.array(units, pa.int32())),
        ("criterion", pa.array(query.criteria)),
        ("ablation", pa.array([query.ablation])),
    ):
        rows = rows.filter(pc.is_in(rows[name], known))
    at = (
        _places(rows["criterion"], query.criteria),
        _places(rows["split"], query.splits),
        np.searchsorted(np.asarray(units), rows["unit"].to_numpy()),
        rows["level"].to_numpy(),
    )
    shape = (len(query.criteria), len(query.splits), len(units), len(fractions))
    r, silent, acting = np.zeros(shape), np.full(shape, np.nan), np.full(shape, np.nan)
    kernels = np.zeros(shape, np.int32)
    r[at] = pc.fill_null(rows["pearson"], 0.0).to_numpy()
    quiet = pc.and_(pc.equal(rows["firing"], 0.0), pc.greater(rows["firing_full"], 0.0))
    silent[at] = _floats(quiet)
    kernels[at] = rows["kernels"].to_numpy()
    acting[at] = _floats(rows["acting"])
    return Measures(r, silent, kernels, acting, r @ area_weights(fractions))


def area_weights(fractions: Sequence[float]) -> NDArray[np.float64]:
    """Weigh r at each kept fraction so that the sum is the area under r over the logarithm of the
    fraction, by the trapezoidal rule, divided by the width: r = 1 throughout has the area 1.

    With one fraction there is no width, and the area is r there.

    >>> area_weights((1.0, 0.1, 0.01)).tolist()
    [0.25, 0.5, 0.25]
    """
    if len(fractions) == 1:
        return np.ones(1)
    logs = np.log(fractions)
    widths = np.abs(np.diff(logs)) / abs(logs[-1] - logs[0])
    weights = np.zeros(len(logs))
    weights[:-1] += widths / 2
    weights[1:] += widths / 2
    return weights


def _places(column: pa.ChunkedArray, names: Sequence[str]) -> NDArray[np.int64]:
    places: NDArray[np.int64] = pc.index_in(column, pa.array(names)).to_numpy()
    return places


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values: NDArray[np.float64] = pc.fill_null(pc.cast(column, pa.float64()), np.nan).to_numpy()
    return values
