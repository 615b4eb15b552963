"""Which units respond to one image most, compared with what they do to the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from circuit_atlas.service.web.served import Served
from circuit_atlas.service.web.views import LayerView


@dataclass(frozen=True)
class Responding:
    """Units by their response to an image.

    Attributes:
        table: one row a unit: layer, unit, name, rank, above, response, share, top.
        read: units that were looked at.
        of: units that are stored.
        note: why these are not all, or None.
    """

    table: pa.Table
    read: int
    of: int
    note: str | None


def responding(served: Served, views: Sequence[LayerView], image: int) -> Responding:
    """The units of some layers, those that rank the image highest first, then by share."""
    images = served.images
    held_out = not images.scoring[image]
    most = served.atlas.header.top_images
    rows: list[dict[str, object]] = []
    read = of = missing = 0
    for view in views:
        digests = served.digests(view)
        units = [unit for unit in sorted(view.commits) if unit in digests.units]
        read, of, missing = read + len(units), of + len(view.commits), missing + view.missing
        if not units:
            continue
        responses = np.stack([digests.units[unit].responses for unit in units])
        own = responses[:, image]
        largest = np.fmax.reduce(responses, axis=1)
        above = (responses[:, images.scoring] > own[:, None]).sum(axis=1)
        for place in np.flatnonzero(~np.isnan(own)):
            unit, count = units[place], int(above[place])
            rows.append(
                {
                    "layer": view.layer.name,
                    "unit": unit,
                    "name": view.layer.index.unit(unit).name,
                    "rank": None if held_out else count,
                    "above": count,
                    "response": float(own[place]),
                    "share": float(own[place] / largest[place]) if largest[place] else None,
                    "top": not held_out
                    and view.commits[unit].state == "done"
                    and count < min(most, view.commits[unit].top_images),
                }
            )
    rows.sort(key=lambda row: (row["above"], -(row["share"] or 0.0)))  # type: ignore[operator]
    schema = pa.schema(
        [
            ("layer", pa.string()),
            ("unit", pa.int32()),
            ("name", pa.string()),
            ("rank", pa.int32()),
            ("above", pa.int32()),
            ("response", pa.float64()),
            ("share", pa.float64()),
            ("top", pa.bool_()),
        ]
    )
    return Responding(pa.Table.from_pylist(rows, schema), read, of, note(read, of, missing))


def note(read: int, of: int, missing: int) -> str | None:
    """Why a list of units is not complete, or None where it is."""
    if read < of:
        return f"{read:,} of {of:,} units are read so far: ask again"
    return f"{missing:,} units are not computed yet" if missing else None
