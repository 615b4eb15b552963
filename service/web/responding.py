"""Which units respond to one image most, compared with what they do to the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.service.analysis.responding import SCHEMA
from circuit_atlas.service.web.layer_snapshot import LayerSnapshot
from circuit_atlas.service.web.rows import Progress
from circuit_atlas.service.web.server_state import ServerState

_THREADS = 8
"""Files read at once: object stores answer late."""
_NONE: Mapping[int, str] = MappingProxyType({})


@dataclass(frozen=True)
class Responding:
    """Units by their response to an image, as `Atlas.responding` orders them.

    Attributes:
        image: its id.
        rows: layer, unit, name, place, response and share of each.
        progress: how many units were looked at.
        note: why these are not all, or None.
    """

    image: int
    rows: list[dict[str, Any]]
    progress: Progress
    note: str | None


def responding(server: ServerState, views: Sequence[LayerSnapshot], image: int) -> Responding:
    """The units of some layers, those for which fewest images have a larger response first."""
    rows: list[dict[str, Any]] = []
    read = of = missing = 0
    for view in views:
        digests = server.digests(view)
        units = [unit for unit in sorted(view.commits) if unit in digests.units]
        read, of, missing = read + len(units), of + len(view.commits), missing + view.missing
        if not units:
            continue
        responses = np.stack([digests.units[unit].responses for unit in units])
        own = responses[:, image]
        largest = np.fmax.reduce(responses, axis=1)
        place = (responses > own[:, None]).sum(axis=1)
        share = np.divide(own, largest, out=np.full(len(own), np.nan), where=largest > 0)
        rows.extend(
            {
                "layer": view.layer.name,
                "unit": units[at],
                "name": view.layer.index.unit(units[at]).name,
                "place": int(place[at]),
                "response": float(own[at]),
                "share": None if np.isnan(share[at]) else float(share[at]),
            }
            for at in np.flatnonzero(~np.isnan(own))
        )
    rows.sort(key=lambda row: (row["place"], -(-np.inf if row["share"] is None else row["share"])))
    progress = Progress(read=read, of=of)
    return Responding(image, rows, progress, note(progress, missing))


def detailed(server: ServerState, units: Responding, *, offset: int, rows: int | None) -> pa.Table:
    """Some of the rows with what the unit's own table says of the image; the columns are those of
    `Atlas.responding`. `rows`: how many, or all where None."""
    part = units.rows[offset:] if rows is None else units.rows[offset : offset + rows]

    def whole(row: dict[str, Any]) -> dict[str, Any]:
        table = server.snapshots.layer(row["layer"]).unit(row["unit"]).responses()
        return table.filter(pc.equal(table["image"], units.image)).to_pylist()[0] | row

    with ThreadPoolExecutor(_THREADS) as pool:
        return pa.Table.from_pylist(list(pool.map(whole, part)), SCHEMA)


def note(progress: Progress, missing: int, problems: Mapping[int, str] = _NONE) -> str | None:
    """Why a list of units is not complete, or None where it is; `problems` are those of units that
    cannot be read."""
    if (why := progress.why()) is not None:
        return why
    if problems:
        unit = min(problems)
        many = "1 unit" if len(problems) == 1 else f"{len(problems):,} units"
        return f"{many} cannot be read: {problems[unit]}"
    if missing == 1:
        return "1 unit is not computed yet"
    return f"{missing:,} units are not computed yet" if missing else None
