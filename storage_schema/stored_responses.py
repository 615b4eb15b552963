"""What all images do to the units of an atlas, read: a table of each set of units."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from circuit_atlas.storage_schema import layer_paths, response_paths, responses
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.responses import ResponsesRecord


class StoredResponses:
    """Reads the tables of sets of units, and keeps what never changes."""

    def __init__(self, objects: Objects, header: AtlasHeader) -> None:
        """Read nothing yet."""
        self._objects, self._header = objects, header
        self._sets: dict[str, dict[str, ResponsesRecord]] = {}
        self._tables: dict[tuple[str, str], pa.Table] = {}

    def distribution(self, layer: str, unit: int) -> dict[str, Any] | None:
        """Return what all images do to a unit, a row of `response_tables.DISTRIBUTIONS`. None
        where there is none: in an atlas without `sample`, and before the stage that finds it.

        CorruptError where it is missing or altered: a unit of an atlas with `sample` is computed
        after that stage.
        """
        key = self._key(layer, unit)
        if key is None:
            commit = layer_paths.commit(layer, unit)
            if self._header.sample is not None and self._objects.exists(commit):
                raise CorruptError(
                    f"{self._objects.at(response_paths.responses(layer))} names no responses to "
                    f"unit {unit}, which is committed: restore the record from a copy"
                )
            return None
        record = self._sets[layer][key]
        if (layer, key) not in self._tables:
            # Those of one layer at a time: units are thousands.
            kept = {at: table for at, table in self._tables.items() if at[0] == layer}
            read = responses.distributions(self._objects, record)
            self._tables = {**kept, (layer, key): read}
        table = self._tables[layer, key]
        row: dict[str, Any] = table.slice(record.units.index(unit), 1).to_pylist()[0]
        return row

    def _key(self, layer: str, unit: int) -> str | None:
        """The set of units whose responses are known that a unit is of."""
        known = self._sets.get(layer, {})
        if not any(unit in record.units for record in known.values()):
            known = self._sets[layer] = responses.records(self._objects, layer)
        return next((key for key, record in known.items() if unit in record.units), None)
