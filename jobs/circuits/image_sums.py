"""Sums over the positions of single images, of which r over any choice of images is made.

With the sums n, C, Y, CC, YY and CY of 1, c, y, c c, y y and c y over the positions of some images,
r = (n CY - C Y) / sqrt((n CC - C C) (n YY - Y Y)): Pearson r between circuit and whole network,
as of `faithfulness`. They add up over images, so a bootstrap over images needs no network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from circuit_atlas.jobs.circuits.circuit_runs import CircuitRun
from circuit_atlas.storage_schema.records import Split
from circuit_atlas.storage_schema.tables import IMAGE_SUMS


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
    circuit = run.maps.reshape(circuits, count, -1).astype(np.float64)
    full = run.full.reshape(count, -1).astype(np.float64)
    of_full = np.broadcast_to(full.sum(-1), (circuits, count))
    of_squares = np.broadcast_to((full * full).sum(-1), (circuits, count))
    rows = circuits * count
    return IMAGE_SUMS.from_columns(
        {
            "criterion": [criterion] * rows,
            "ablation": [run.ablation] * rows,
            "split": list(splits) * circuits,
            "rung": np.repeat(np.arange(circuits), count),
            "image": np.tile(images, circuits),
            "positions": np.full(rows, np.prod(extent, dtype=np.int64)),
            "circuit": circuit.sum(-1).ravel(),
            "full": of_full.ravel(),
            "circuit_squares": (circuit * circuit).sum(-1).ravel(),
            "full_squares": of_squares.ravel(),
            "products": (circuit * full).sum(-1).ravel(),
        }
    )
