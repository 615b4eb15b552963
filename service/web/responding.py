"""Which units respond to one image most, and why a list of units is not complete."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pyarrow as pa

from circuit_atlas.service.analysis.responding import compared, in_order
from circuit_atlas.service.web.layer_snapshot import LayerSnapshot
from circuit_atlas.service.web.server_state import ServerState


@dataclass(frozen=True)
class Responding:
    """Units by their response to an image, as `Atlas.responding` orders them.

    Attributes:
        image: its id.
        rows: as of `analysis.responding.in_order`.
        note: why these are not all, or None.
    """

    image: int
    rows: pa.Table
    note: str | None


def responding(server: ServerState, snapshots: Sequence[LayerSnapshot], image: int) -> Responding:
    """The units of some layers, those for which fewest images have a larger response first."""
    parts: list[pa.Table] = []
    missing, problems = 0, list[str]()
    for snapshot in snapshots:
        facts = server.facts(snapshot)
        parts.append(compared(snapshot.index, *facts.responses(sorted(snapshot.commits)), image))
        missing += snapshot.missing
        problems += facts.problems.values()
    return Responding(image, in_order(parts), note(missing, problems))


def note(missing: int, problems: Collection[str]) -> str | None:
    """Say why a list of units is not complete, or return None where it is.

    Args:
        missing: units that are not computed yet.
        problems: what is wrong with each that cannot be read.
    """
    if problems:
        many = "1 unit" if len(problems) == 1 else f"{len(problems):,} units"
        return f"{many} cannot be read: {min(problems)}"
    if missing == 1:
        return "1 unit is not computed yet"
    return f"{missing:,} units are not computed yet" if missing else None
