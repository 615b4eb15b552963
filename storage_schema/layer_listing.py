"""What listings show of a layer: which units are committed, which of them are dead, which failed.

No record is read, so it costs as many requests as a store takes to name the objects: one a thousand
units on S3.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from circuit_atlas.storage_schema import arrays, layer_paths, unit_tables
from circuit_atlas.storage_schema.at_once import at_once
from circuit_atlas.storage_schema.commit import Commit, StoredObject
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.objects import Entry, Objects

# As Zarr names the chunks of an array that `arrays.group` laid out: `c.<unit>.<attempt>` and zeros.
_CHUNK = re.compile(r"c\.(\d+)\.\d+(?:\.0)*")


@dataclass(frozen=True)
class LayerListing:
    """Says how far each unit of a layer was when the store was listed.

    Attributes:
        layer: its name.
        committed: the commit records of the units that are done or dead, by unit, ascending.
        scored: the units that have circuits, as far as listings tell: those that an attempt stored
            scores of, committed or not. No attempt at a dead unit does: only where two attempts at
            one unit disagree does this say other than the unit's commit record.
        failures: the records of failed attempts at units without a commit, by unit, ascending.
    """

    layer: str
    committed: Mapping[int, Entry]
    scored: frozenset[int]
    failures: Mapping[int, tuple[Entry, ...]]

    @property
    def done(self) -> int:
        """Count the committed units that have circuits."""
        return sum(unit in self.scored for unit in self.committed)

    @property
    def dead(self) -> int:
        """Count the committed units whose response never changes."""
        return len(self.committed) - self.done


def list_layer(objects: Objects, header: AtlasHeader, layer: str) -> LayerListing:
    """List what is stored of a layer's units, by three listings; StoreError where the store cannot
    say, CorruptError where a unit's scores are gone and its commit record is altered."""
    failed = _failed(objects, layer)
    committed = list_committed(objects, layer)
    # After the commits: what is committed has stored its scores before.
    scored = _scored(objects, header, layer)
    scored |= _lost(objects, header, layer, committed, scored)
    return LayerListing(layer, committed, scored, _without_commit(failed, committed))


def list_committed(objects: Objects, layer: str) -> dict[int, Entry]:
    """List the commit records of a layer, by unit, ascending; StoreError where the store cannot
    say."""
    entries = {
        unit: entry
        for entry in objects.list(layer_paths.commits(layer))
        if (unit := layer_paths.committed_unit(entry.path)) is not None
    }
    return dict(sorted(entries.items()))


def list_failures(objects: Objects, layer: str) -> dict[int, tuple[Entry, ...]]:
    """List `LayerListing.failures` alone; StoreError where the store cannot say."""
    failed = _failed(objects, layer)
    return _without_commit(failed, list_committed(objects, layer)) if failed else {}


def committed_units(objects: Objects, layers: Iterable[str]) -> dict[str, frozenset[int]]:
    """Tell which units of some layers are done or dead, by one listing a layer, several at once."""

    def units(layer: str) -> tuple[str, frozenset[int]]:
        return layer, frozenset(list_committed(objects, layer))

    return dict(at_once(units, layers))


def _failed(objects: Objects, layer: str) -> dict[int, tuple[Entry, ...]]:
    """The records of failed attempts, by unit."""
    failed: dict[int, tuple[Entry, ...]] = {}
    for entry in objects.list(layer_paths.failures(layer)):
        unit = layer_paths.failed_unit(entry.path)
        if unit is not None:
            failed[unit] = (*failed.get(unit, ()), entry)
    return failed


def _without_commit(
    failed: Mapping[int, tuple[Entry, ...]], committed: Container[int]
) -> dict[int, tuple[Entry, ...]]:
    return {unit: failed[unit] for unit in sorted(failed) if unit not in committed}


def _scored(objects: Objects, header: AtlasHeader, layer: str) -> frozenset[int]:
    """The units of which some attempt stored scores by the first criterion, which all units have
    that are not dead."""
    folder = layer_paths.array(layer, arrays.SCORE.name, header.criteria[0])
    chunks = map(_CHUNK.fullmatch, objects.names(folder))
    return frozenset(int(chunk[1]) for chunk in chunks if chunk is not None)


def _lost(
    objects: Objects,
    header: AtlasHeader,
    layer: str,
    committed: Mapping[int, Entry],
    scored: Container[int],
) -> set[int]:
    """The units whose scores are gone, and whose commit records tell more than a dead unit's: a
    look into these alone."""
    silent = {unit: entry for unit, entry in committed.items() if unit not in scored}
    if not silent:
        return set()
    longest = _longest_dead(header.model, layer, max(silent))
    lost = set()
    for unit, entry in silent.items():
        if entry.size_bytes > longest:
            commit = Commit.stored_at(objects, entry.path, objects.get_listed([entry.path])[0])
            if commit.state == "done":
                lost.add(unit)
    return lost


def _longest_dead(model: str, layer: str, unit: int) -> int:
    """The most bytes that the commit record of a dead unit may have, up to one of that number. That
    of a unit with circuits is longer: it names many objects, and this one."""
    path = layer_paths.fragment(layer, unit, arrays.ATTEMPTS, unit_tables.RESPONSES.stored_name)
    commit = Commit(
        model=model,
        layer=layer,
        unit=unit,
        attempt=arrays.ATTEMPTS,
        state="dead",
        kernels=2**63,
        top_images=0,
        forms=(),
        objects=(StoredObject(path, 2**63, "0" * 64),),
        compute_s=-sys.float_info.max,
    )
    return len(commit.to_json().encode())
