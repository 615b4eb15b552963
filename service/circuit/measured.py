"""What was measured of a stored circuit: its faithfulness, and its kernels' scores by image."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.wording import nearest

_LEVEL = ("level", "fraction", "kernels")


def faithfulness(origin: Origin, positions: NDArray[np.int64]) -> pa.Table:
    """Look up `Circuit.faithfulness`; `positions` are the circuit's, on the unit's kernel axis."""
    reader, commit = origin.reader, origin.commit
    rows = reader.faithfulness(commit)
    rows = rows.filter(pc.equal(rows["criterion"], origin.criterion))
    stored = list(dict.fromkeys(zip(*(rows[c].to_pylist() for c in _LEVEL), strict=True)))
    for level, _, kernels in () if origin.images else stored:
        # Two fractions of few kernels may keep as many, and of `force` not the same ones.
        if kernels == len(positions) and np.array_equal(
            np.flatnonzero(reader.mask(commit, origin.criterion, level)), positions
        ):
            return rows.filter(pc.equal(rows["level"], level))
    kept = ", ".join(f"{fraction:g} ({kernels:,})" for _, fraction, kernels in stored)
    raise QueryError(
        f"the faithfulness of this circuit of {origin.name} was not measured: it was for the "
        f"circuits of all scoring images that keep {kept}"
    )


def image_scores(origin: Origin, positions: NDArray[np.int64]) -> pa.Table:
    """Look up `Circuit.image_scores`; `positions` are the circuit's, on the unit's kernel axis."""
    reader, commit = origin.reader, origin.commit
    known = reader.header.image_criteria
    if origin.criterion not in known:
        raise QueryError(
            f"{origin.criterion!r} has no scores of single images: "
            + nearest(origin.criterion, known, what="criteria that have them")
        )
    top = reader.responses(commit)
    top = top.filter(pc.is_valid(top["rank"])).sort_by("rank")
    scores = reader.image_scores(commit, origin.criterion)[:, positions]
    offsets = np.arange(len(scores) + 1, dtype=np.int32) * len(positions)
    return pa.table(
        {
            "rank": top["rank"],
            "image": top["image"],
            "response": top["response"],
            "scores": pa.ListArray.from_arrays(offsets, pa.array(scores.ravel(), pa.float32())),
        }
    )
