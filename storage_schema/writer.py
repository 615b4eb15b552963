"""Records -> chunks and rows, the commit record last.

Every attempt writes under names that hold a number it drew, so two writers of one unit never touch
the same object; the commit record is put if absent and settles which of them counts. The loser's
objects stay, named by nothing, and `verify` reports them as unreferenced.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.storage_schema import arrays, conformance, layer_paths, unit_tables
from circuit_atlas.storage_schema.arrays import ArraySpec
from circuit_atlas.storage_schema.attempts import attempted
from circuit_atlas.storage_schema.chunks import ChunkArray
from circuit_atlas.storage_schema.commit import Commit, Failure, Form, StoredObject
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.errors import ContestedError
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.quantise import quantise
from circuit_atlas.storage_schema.records import (
    CircuitRecord,
    CriterionRecord,
    FailureRecord,
    Receipt,
)
from circuit_atlas.storage_schema.table import Table


class Writer:
    """Writes the units of one layer of an atlas that `template.create` has laid out."""

    def __init__(self, objects: Objects, header: AtlasHeader, layer: LayerIndex) -> None:
        self._objects = objects
        self._header = header
        self._layer = layer
        self._arrays: dict[str, ChunkArray] = {}
        self._lock = threading.Lock()

    def commit(self, record: CircuitRecord) -> Receipt:
        """Store a unit; its receipt, or the receipt of whoever committed the unit before.

        Raises:
            RecordError: the record does not fit the layer; nothing was written.
            ContestedError: every number that was drawn is another attempt's, or the unit's commit
                record was removed meanwhile; the unit is not done.
            WriteError: the store refused; the unit is not done, and nothing stored was altered.
        """
        conformance.check(record, header=self._header, layer=self._layer)
        winner = self._commit_of(record.key.unit)
        if winner is not None:
            return winner.receipt()
        with self._lock:
            commit = attempted(partial(self._write, record))
        path = layer_paths.commit(self._layer.layer, record.key.unit)
        if self._objects.create(path, commit.to_json().encode()):
            return commit.receipt()
        winner = self._commit_of(record.key.unit)
        if winner is None:
            raise ContestedError(
                f"{self._objects.at(path)} was removed while it was written: run again"
            )
        return winner.receipt()

    def committed(self, unit: int) -> Receipt | None:
        """Return the receipt of a unit that is committed; None where it is not."""
        commit = self._commit_of(unit)
        return None if commit is None else commit.receipt()

    def fail(self, record: FailureRecord) -> Receipt:
        """Record that an attempt at a unit failed; the receipt of its commit where it has one.

        Raises:
            WriteError: the store refused.
        """
        conformance.check_key(record.key, header=self._header, layer=self._layer)
        winner = self._commit_of(record.key.unit)
        if winner is not None:
            return winner.receipt()
        return attempted(partial(self._put_failure, record))

    def _put_failure(self, record: FailureRecord, attempt: int) -> Receipt:
        data = Failure(time.time(), record, attempt).to_json().encode()
        self._objects.put_new(
            layer_paths.failure(self._layer.layer, record.key.unit, attempt), data
        )
        return Receipt(
            record.key, "failed", attempt, len(data), 0.0, kind=record.kind, message=record.message
        )

    def _commit_of(self, unit: int) -> Commit | None:
        path = layer_paths.commit(self._layer.layer, unit)
        try:
            data = self._objects.get(path)
        except FileNotFoundError:
            return None
        return Commit.stored_at(self._objects, path, data)

    def _write(self, record: CircuitRecord, attempt: int) -> Commit:
        """Write the unit's chunks and fragments; the commit record that names them. ContestedError
        where another attempt drew the same number."""
        unit = record.key.unit
        stored: list[StoredObject] = []
        forms: list[tuple[str, Form]] = []
        for criterion in record.criteria:
            form = form_of(criterion.masks)
            forms.append((criterion.name, form))
            for spec, values in self._chunks(criterion, form):
                array = self._array(spec, criterion.name)
                stored.append(array.write(unit, attempt, values))
        for spec, of_unit in self._unit_chunks(record):
            stored.append(self._array(spec, None).write(unit, attempt, of_unit))
        fragments: tuple[tuple[Table, Sequence[object]], ...] = (
            (unit_tables.RESPONSES, record.responses),
            (unit_tables.FAITHFULNESS, record.faithfulness),
            (unit_tables.SUBFEATURES, record.subfeatures),
            (unit_tables.GROUPS, record.groups),
            (unit_tables.SELECTIVITY, record.contrast),
        )
        for table, rows in fragments:
            if table is unit_tables.RESPONSES or record.state == "done":
                stored.append(self._fragment(unit, attempt, table, table.table(rows)))
        if record.image_sums is not None:
            stored.append(self._fragment(unit, attempt, unit_tables.IMAGE_SUMS, record.image_sums))
        return Commit(
            model=self._header.model,
            layer=self._layer.layer,
            unit=unit,
            attempt=attempt,
            state=record.state,
            kernels=record.kernels,
            top_images=0 if record.response_maps is None else len(record.response_maps),
            forms=tuple(forms),
            objects=tuple(stored),
            compute_s=record.compute_s,
            criteria_s=tuple(
                (criterion.name, criterion.compute_s)
                for criterion in record.criteria
                if criterion.compute_s is not None
            ),
        )

    def _fragment(self, unit: int, attempt: int, table: Table, rows: pa.Table) -> StoredObject:
        """Write a unit's rows of one table."""
        path = layer_paths.fragment(self._layer.layer, unit, attempt, table.stored_name)
        data = table.to_parquet(rows)
        self._objects.put_new(path, data)
        return StoredObject(path, len(data), sha256(data))

    def _chunks(
        self, criterion: CriterionRecord, form: Form
    ) -> list[tuple[ArraySpec, NDArray[np.generic]]]:
        """What each array holds of one criterion."""
        chunks: list[tuple[ArraySpec, NDArray[np.generic]]] = [(arrays.SCORE, criterion.scores)]
        if form == "level":
            chunks.append((arrays.LEVEL, criterion.masks.sum(axis=0, dtype=np.uint8)))
        else:
            bits = np.packbits(criterion.masks, axis=1, bitorder="little")
            chunks.append((arrays.PACKED, bits))
        if criterion.image_scores is not None:
            codes, scale = quantise(criterion.image_scores)
            missing = self._header.top_images - len(codes)
            chunks.append((arrays.IMAGE_SCORE, np.pad(codes, ((0, missing), (0, 0)))))
            chunks.append((arrays.IMAGE_SCALE, np.pad(scale, (0, missing))))
        if criterion.stability is not None:
            chunks.append((arrays.STABILITY, criterion.stability))
        if criterion.group_levels is not None:
            most = arrays.GROUP_LEVEL.shape(self._header, self._layer, criterion.name)[2]
            missing = most - len(criterion.group_levels)
            chunks.append(
                (arrays.GROUP_LEVEL, np.pad(criterion.group_levels, ((0, missing), (0, 0))))
            )
        return chunks

    def _unit_chunks(self, record: CircuitRecord) -> list[tuple[ArraySpec, NDArray[np.generic]]]:
        """What the arrays hold that a unit has once."""
        if record.contribution is None or record.response_maps is None:
            return []
        missing = self._header.top_images - len(record.response_maps)
        padding = ((0, missing), (0, 0), (0, 0))
        maps = np.pad(record.response_maps, padding, constant_values=np.nan)
        return [(arrays.CONTRIBUTION, record.contribution), (arrays.RESPONSE_MAP, maps)]

    def _array(self, spec: ArraySpec, criterion: str | None) -> ChunkArray:
        path = layer_paths.array(self._layer.layer, spec.name, criterion)
        if path not in self._arrays:
            shape = spec.shape(self._header, self._layer, criterion)
            self._arrays[path] = ChunkArray(self._objects, path, shape=shape, dtype=spec.dtype)
        return self._arrays[path]


def form_of(masks: NDArray[np.bool_]) -> Form:
    """Return `level` where each circuit (a row, largest first) holds the next, else `packed`."""
    return "level" if bool((masks[1:] <= masks[:-1]).all()) else "packed"
