"""Reads whole layers: the newest sealed generation, and what was committed since.

Commit records alone say which units are done and by which attempt; what was sealed of a unit by
another attempt is left aside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from circuit_atlas.storage_schema import fragments, sealed
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.objects import Entry, Objects
from circuit_atlas.storage_schema.sealed_layer import SealedLayer, open_newest
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.unit_arrays import Circuits, UnitArrays

_THREADS = 4
# So few units are read one by one: a look for a newer generation would take as long.
_FEW = 4


class LayerScan:
    """Reads from one store. It goes on with a generation until that is deleted, or until more than
    a few of the units that are asked for were committed since. Safe to share between threads."""

    def __init__(self, objects: Objects, arrays: UnitArrays) -> None:
        self._objects = objects
        self._arrays = arrays
        self._held: dict[str, SealedLayer] = {}

    def commits(self, layer: str, listed: Mapping[int, Entry]) -> dict[int, Commit]:
        """Return the commits of units by what a listing shows of their commit records.

        StoreError where a record is gone since, CorruptError where one is altered.
        """
        generation = self._newest(layer) if len(listed) > _FEW else None
        commits = {}
        for unit, entry in listed.items():
            commit = None if generation is None else generation.listed_commit(unit, entry)
            if commit is not None:
                commits[unit] = commit
        rest = [unit for unit in listed if unit not in commits]
        paths = [listed[unit].path for unit in rest]
        for unit, path, record in zip(rest, paths, self._objects.get_listed(paths), strict=True):
            commit = None if generation is None else generation.recorded_commit(unit, record)
            commits[unit] = commit or Commit.stored_at(self._objects, path, record)
        return commits

    def rows(
        self,
        layer: str,
        commits: Mapping[int, Commit],
        table: Table,
        *,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Return the rows of one table of some units, by ascending unit, which is the first column;
        under stored names, all columns of the table or some."""
        generation = self._of(layer, commits)
        while generation is not None:
            try:
                return self._merged(generation, commits, table, columns)
            except FileNotFoundError:
                self._held.pop(layer, None)
                generation = self._newest(layer)
        return self._merged(None, commits, table, columns)

    def sealed_rows(self, layer: str, commits: Mapping[int, Commit], table: Table) -> pa.Table:
        """Return the rows of a table that generations alone have, by ascending unit: of those of
        some units that the newest holds as their commits have them."""
        generation = self._newest(layer)
        while generation is not None and generation.manifest.find(table.stored_name) is not None:
            held = {unit for unit, commit in commits.items() if generation.holds(commit)}
            try:
                return generation.table(table, held)
            except FileNotFoundError:
                self._held.pop(layer, None)
                generation = self._newest(layer)
        return sealed.of_layer(table).stored_schema.empty_table()

    def circuits(
        self, index: LayerIndex, commits: Mapping[int, Commit], criterion: str
    ) -> Iterator[tuple[int, Circuits]]:
        """Return the circuits of some units that are done, in no order; held a few megabytes at a
        time."""
        rest = dict(commits)
        generation = self._of(index.layer, commits)
        if generation is not None:
            held = {unit for unit, commit in commits.items() if generation.holds(commit)}
            try:
                for unit, form, chunk in generation.masks(criterion, held):
                    yield unit, Circuits(form, chunk, index.index.size)
                    del rest[unit]
            except FileNotFoundError:
                pass  # deleted meanwhile: what is left is read unit by unit
        with ThreadPoolExecutor(_THREADS) as pool:
            found = pool.map(lambda c: self._arrays.circuits(index, c, criterion), rest.values())
            yield from zip(rest, found, strict=True)

    def _merged(
        self,
        generation: SealedLayer | None,
        commits: Mapping[int, Commit],
        table: Table,
        columns: Sequence[str] | None,
    ) -> pa.Table:
        """Sealed rows and those of fragments, in the order of units."""
        rest = [
            (unit, commit)
            for unit, commit in sorted(commits.items())
            if generation is None or not generation.holds(commit)
        ]
        schema = sealed.of_layer(table).stored_schema
        fields = (
            schema if columns is None else pa.schema([schema.field(n) for n in ("unit", *columns)])
        )
        rows = fields.empty_table()
        if generation is not None:
            held = commits.keys() - {unit for unit, _ in rest}
            rows = generation.table(table, held, columns=columns)
        numbers = rows["unit"].to_numpy()
        pieces, start = [], 0
        found = fragments.read(
            self._objects, [commit for _, commit in rest], table, columns=columns
        )
        for (unit, _), piece in zip(rest, found, strict=True):
            stop = int(np.searchsorted(numbers, unit))
            pieces += [rows.slice(start, stop - start), fragments.with_unit(piece, unit)]
            start = stop
        return pa.concat_tables([*pieces, rows.slice(start)])

    def _of(self, layer: str, commits: Mapping[int, Commit]) -> SealedLayer | None:
        """The generation to read some units from, or None where there is none, or they are few."""
        if len(commits) <= _FEW:
            return None
        held = self._held.get(layer)
        if held is None or sum(not held.holds(commit) for commit in commits.values()) > _FEW:
            return self._newest(layer)
        return held

    def _newest(self, layer: str) -> SealedLayer | None:
        newest = open_newest(self._objects, layer, self._held.get(layer))
        if newest is not None:
            self._held[layer] = newest
        return newest
