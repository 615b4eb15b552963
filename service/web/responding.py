"""Which units respond to one image most, as far as they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import pyarrow as pa

from circuit_atlas.service.analysis.responding import compared, in_order
from circuit_atlas.service.web.layer_snapshot import LayerSnapshot
from circuit_atlas.service.web.rows import Progress
from circuit_atlas.service.web.server_state import ServerState

_NONE: Mapping[int, str] = MappingProxyType({})


@dataclass(frozen=True)
class Responding:
    """Units by their response to an image, as `Atlas.responding` orders them.

    Attributes:
        image: its id.
        rows: as of `analysis.responding.in_order`.
        progress: how many units were looked at.
        note: why these are not all, or None.
    """

    image: int
    rows: pa.Table
    progress: Progress
    note: str | None


def responding(server: ServerState, snapshots: Sequence[LayerSnapshot], image: int) -> Responding:
    """The units of some layers, those for which fewest images have a larger response first."""
    parts = []
    read = of = missing = 0
    for snapshot in snapshots:
        facts = server.reading(snapshot).facts
        known = snapshot.commits.keys() & facts.units
        read, of, missing = (
            read + len(known),
            of + len(snapshot.commits),
            missing + snapshot.missing,
        )
        parts.append(compared(snapshot.index, *facts.responses(sorted(known)), image))
    progress = Progress(read=read, of=of)
    return Responding(image, in_order(parts), progress, note(progress, missing))


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
