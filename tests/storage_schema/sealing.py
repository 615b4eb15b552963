"""A layer of a dozen units, all that a reader says of it, and a store that ends as it is written.

For the tests of sealed generations.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.objects import Entry, Objects
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.sealed import tables_of

LAYER = "features.3"
UNITS = 12


def widened(layer: LayerIndex) -> LayerIndex:
    """The layer with a dozen units."""
    units = tuple(dataclasses.replace(layer.units[0], number=n, name=str(n)) for n in range(UNITS))
    return dataclasses.replace(layer, units=units)


class Unsealed(Objects):
    """A store that shows no sealed generation: what is read of it comes from fragments."""

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects.store, location=objects.location)

    def list(self, prefix: str = "") -> tuple[Entry, ...]:
        return tuple(e for e in super().list(prefix) if layer_paths.generation_of(e.path) is None)


class KilledError(BaseException):
    """As the process would end."""


class Mortal(Objects):
    """A store whose user is killed at its n-th write or deletion, before it or just after it."""

    def __init__(self, objects: Objects, *, at: int, after: bool) -> None:
        super().__init__(objects.store, location=objects.location)
        self._left = at
        self._after = after

    def create(self, path: str, data: bytes) -> bool:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise KilledError
        put = super().create(path, data)
        if self._left == 0:
            raise KilledError
        return put

    def delete(self, paths: Any) -> None:
        for path in paths:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise KilledError
            super().delete([path])
            if self._left == 0:
                raise KilledError


def everything(objects: Objects) -> dict[str, Any]:
    """All that a fresh reader says of the layer as a whole."""
    reader = Reader(objects)
    return {"commits": reader.commits(LAYER), **tables(reader), **masks(reader)}


def tables(reader: Reader) -> dict[str, Any]:
    """Its tables: rows, and schema with all metadata."""
    found = {table.name: reader.table(LAYER, table.name) for table in tables_of(2)}
    return {name: (rows.to_pylist(), _described(rows.schema)) for name, rows in found.items()}


def masks(reader: Reader) -> dict[str, Any]:
    """Its circuits by criterion and rung, as bytes by ascending unit."""
    return {
        f"{criterion} {rung}": sorted(
            (unit, np.packbits(mask).tobytes())
            for unit, mask in reader.masks(LAYER, criterion, rung)
        )
        for criterion in reader.header.criteria
        for rung in range(len(reader.header.fractions))
    }


def _described(schema: pa.Schema) -> list[Any]:
    return [(f.name, f.type, f.nullable, f.metadata) for f in schema], schema.metadata
