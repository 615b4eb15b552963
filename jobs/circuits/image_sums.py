"""Sums over the positions of single images, of which r over any choice of images is made.

With the sums n, C, Y, CC, YY and CY of 1, c, y, c c, y y and c y over the positions of some images,
r = (n CY - C Y) / sqrt((n CC - C C) (n YY - Y Y)): Pearson r between circuit and whole network,
as of `faithfulness`. They add up over images, so a bootstrap over images needs no network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.jobs.circuits.circuit_runs import CircuitRun
from circuit_atlas.storage_schema.records import Split
from circuit_atlas.storage_schema.unit_tables import IMAGE_SUMS


def image_sums(
    criterion: str, run: CircuitRun, *, images: Sequence[int], splits: Sequence[Split]
) -> pa.Table:
    """Makes the rows of a run of all images: for each of its circuits in order, one an image.

    Args:
        criterion: which score chose the circuits.
        run: the circuits' maps, as run.
        images: ids of all images, in the run's order.
        splits: the split of each.
    """
    circuits, count, *extent = run.maps.shape
    full = run.full.reshape(count, -1).astype(np.float64)
    sums: list[tuple[NDArray[np.float64], ...]] = []
    for maps in run.maps:  # one at a time, as doubles of all may take more than there is
        circuit = maps.reshape(count, -1).astype(np.float64)
        sums.append((circuit.sum(-1), _products(circuit, circuit), _products(circuit, full)))
    columns = zip(*sums, strict=True)
    of_circuit, of_squares, of_both = (np.concatenate(column) for column in columns)
    rows = circuits * count
    return IMAGE_SUMS.from_columns(
        {
            "criterion": [criterion] * rows,
            "ablation": [run.ablation] * rows,
            "split": list(splits) * circuits,
            "rung": np.repeat(np.arange(circuits), count),
            "image": np.tile(images, circuits),
            "positions": np.full(rows, np.prod(extent, dtype=np.int64)),
            "circuit": of_circuit,
            "full": np.tile(full.sum(-1), circuits),
            "circuit_squares": of_squares,
            "full_squares": np.tile(_products(full, full), circuits),
            "products": of_both,
        }
    )


def _products(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of products over positions: (images,)."""
    summed: NDArray[np.float64] = np.einsum("ip,ip->i", a, b)
    return summed
