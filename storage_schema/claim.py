"""Which build is at which units: a hint, by which builds of one atlas at one time share its work.

A claim decides nothing: that a unit is done is what its commit record says, and a unit that two
builds compute is committed once. A build puts a claim where there is none before its workers begin,
removes it when they have ended, and replaces a mark of its own every few seconds as long as it
runs. A claim counts while the mark of its build is replaced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

from circuit_atlas.storage_schema import documents, layout
from circuit_atlas.storage_schema.bounds import Count, Name
from circuit_atlas.storage_schema.documents import seal
from circuit_atlas.storage_schema.errors import StoreError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Entry, Objects

UNITS_A_CLAIM = 4
"""A claim is on the units whose numbers, divided by this, are the same: so builds that cut their
work otherwise mean the same by it."""

# Dates end with the year 9999.
_LAST_S = 2**37


@dataclass(frozen=True)
class Claim:
    """Names the build that made a claim; its mark says the same."""

    build: Annotated[Name, "Name of the build: its machine, process and four letters."]
    host: Annotated[Name, "The machine that it was started on."]
    pid: Annotated[Count, "The number of its process there."]
    since_s: Annotated[
        float, Meta(ge=0, le=_LAST_S), "When it began, in seconds since 1970 UTC, by its clock."
    ]

    def to_json(self) -> str:
        """Return the document's text."""
        return seal(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> Claim:
        """Read what `to_json` wrote; CorruptError or SchemaError where that cannot be read."""
        return documents.read(cls, text, location=location, what="claim")

    def __str__(self) -> str:
        """Name the build for people.

        >>> str(Claim("node7-12-ab", "node7", 12, 0.0))
        'process 12 on node7, since 1970-01-01 00:00:00 UTC'
        """
        since = datetime.fromtimestamp(self.since_s, UTC)
        return f"process {self.pid} on {self.host}, since {since:%Y-%m-%d %H:%M:%S} UTC"


def paths(stage: str, of: str, keys: Iterable[UnitKey]) -> dict[str, list[UnitKey]]:
    """Return the paths of the claims on some units, or on whatever else a stage works on, with
    those that each is on."""
    claimed: dict[str, list[UnitKey]] = {}
    for key in keys:
        path = layout.claim(stage, key.layer, of, key.unit // UNITS_A_CLAIM)
        claimed.setdefault(path, []).append(key)
    return claimed


def read(objects: Objects, path: str) -> Claim | None:
    """Return the claim, or the mark, at a path; None where there is none, or it cannot be read."""
    with contextlib.suppress(FileNotFoundError, StoreError):
        return Claim.from_json(objects.get(path), location=objects.at(path))
    return None


def marks(objects: Objects) -> dict[str, Entry]:
    """Return the mark of each build, by the build's name as paths have it: one listing."""
    listed = objects.list(layout.BUILDS)
    return {entry.path: entry for entry in listed if layout.is_of_run(entry.path)}
