"""The units of a layer: which there are, how far each is, and the one that a name means."""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.columns import schema_of
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import CorruptError, QueryError
from circuit_atlas.storage_schema.header import LayerIndex, UnitInfo
from circuit_atlas.storage_schema.layer_columns import LAYERS, UNITS
from circuit_atlas.storage_schema.layer_listing import LayerListing
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.wording import nearest


@dataclass(frozen=True)
class LayerStates:
    """Says how far each unit of a layer was when it was looked at.

    Attributes:
        index: the layer's units and kernel axis.
        commits: of the units that are done or dead, by unit.
        failures: of those that failed, by unit.
        planned: numbers of the units that were asked for.
        labels: what units stand for, by unit.
    """

    index: LayerIndex
    commits: dict[int, Commit]
    failures: dict[int, FailureRecord]
    planned: frozenset[int]
    labels: dict[int, str]

    @classmethod
    def read(cls, reader: Reader, index: LayerIndex) -> LayerStates:
        """Look at a layer now; CorruptError where a plan is gone, see `planned_units`."""
        commits = reader.commits(index.layer)
        return cls(
            index,
            commits,
            reader.failures(index.layer),
            frozenset(planned_units(reader, {index.layer: commits}).get(index.layer, ())),
            reader.labels(index.layer),
        )

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Return every unit that was asked for or is stored, ascending."""
        return tuple(sorted({*self.planned, *self.commits, *self.failures}))

    @cached_property
    def missing(self) -> int:
        """Count the units that were asked for and are neither stored nor failed."""
        return len(self.planned - self.commits.keys() - self.failures.keys())

    def state(self, unit: int) -> str:
        """Return the unit's state: done, dead, failed, planned, or not built."""
        commit = self.commits.get(unit)
        if commit is not None:
            return commit.state
        if unit in self.failures:
            return "failed"
        return "planned" if unit in self.planned else "not built"

    def counts(self) -> dict[str, int]:
        """Count the units that were planned, are done, dead, failed and missing."""
        states = [commit.state for commit in self.commits.values()]
        return {
            "planned": len(self.planned),
            "done": states.count("done"),
            "dead": states.count("dead"),
            "failed": len(self.failures),
            "missing": self.missing,
        }

    def table(self) -> pa.Table:
        """Return one row for each unit that was asked for or is stored, see `Layer.units`."""
        rows = []
        for number in self.numbers:
            commit, failure = self.commits.get(number), self.failures.get(number)
            rows.append(
                {
                    "unit": number,
                    "name": self.index.unit(number).name,
                    "unit_label": self.labels.get(number),
                    "state": self.state(number),
                    "reachable_kernels": commit.kernels if commit else None,
                    "error": None if failure is None else f"{failure.kind}: {failure.message}",
                }
            )
        return pa.Table.from_pylist(rows, schema_of(UNITS))


def layer_counts(reader: Reader, listings: Sequence[LayerListing] | None = None) -> pa.Table:
    """Return one row for each layer and how far it is, see `Atlas.status`; `listings`: what the
    store has, where it was listed just now. CorruptError where a plan is gone, or a layer."""
    found = reader.listings() if listings is None else listings
    planned = planned_units(reader, {listing.layer: listing.committed for listing in found})
    for layer in planned.keys() - {listing.layer for listing in found}:
        reader.layer(layer)  # laid out just now, or else an error
    rows = []
    for listing in found:
        asked = planned.get(listing.layer, ())
        rows.append(
            {
                "layer": listing.layer,
                "planned": len(asked),
                "done": listing.done,
                "dead": listing.dead,
                "failed": len(listing.failures),
                "missing": sum(
                    unit not in listing.committed and unit not in listing.failures for unit in asked
                ),
            }
        )
    return pa.Table.from_pylist(rows, schema_of(LAYERS))


def planned_units(
    reader: Reader, committed: Mapping[str, Collection[int]]
) -> dict[str, tuple[int, ...]]:
    """Return the units of each layer that any build asked for.

    `committed`: units that are stored, as they were listed before. CorruptError where one of them
    is in no plan: a build's plan is there before its units.
    """
    planned = dict(reader.plan().units)
    for layer, units in committed.items():
        if unasked := sorted(set(units).difference(planned.get(layer, ()))):
            raise CorruptError(
                f"{reader.objects.at(layout.PLANS)} has no plan of unit {layer}/{unasked[0]}, "
                "which is stored: restore it from a copy, or run the build again"
            )
    return planned


def find_unit(index: LayerIndex, which: int | str) -> UnitInfo:
    """Find a unit by its number, also as text, or a direction by its name.

    QueryError where the layer has no such unit, with the range or the nearest names.
    """
    span = f"0 to {len(index.units) - 1}"
    if isinstance(which, str):
        for info in index.units:
            if info.name == which:
                return info
        if not re.fullmatch(r"[+-]?\d{1,18}", which):
            raise QueryError(
                f"layer {index.layer!r} has units {span} and no direction {which!r}: "
                + nearest(which, index.direction_names, what="directions")
            )
        which = int(which)
    try:
        number = operator.index(which)
    except TypeError:
        raise QueryError(
            f"a unit is named by its number or its direction's name, not by {which!r}"
        ) from None
    if not 0 <= number < len(index.units):
        raise QueryError(f"layer {index.layer!r} has no unit {number}; units go from {span}")
    return index.unit(number)


def stored_commit(reader: Reader, index: LayerIndex, info: UnitInfo) -> Commit:
    """Return a unit's commit record; QueryError, saying why and what to do, where it is not
    stored."""
    commit = reader.commit(index.layer, info.number)
    if commit is not None:
        return commit
    name = f"{index.layer}/{info.name}"
    failure = reader.failures(index.layer).get(info.number)
    if failure is not None:
        raise QueryError(
            f"unit {name} failed ({failure.kind}: {failure.message}); "
            "run the same build again to retry it"
        )
    if info.number in dict(reader.plan().units).get(index.layer, ()):
        raise QueryError(f"unit {name} is not computed yet: run the same build again to go on")
    raise QueryError(
        f"unit {name} is not in this atlas: name it under `units` of its layer in the spec and run "
        "`circuit-atlas build` again, which adds to the atlas"
    )
