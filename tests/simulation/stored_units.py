"""Work that is none: a unit computed once, and stored for every other as if it were theirs.

The unit's objects are those that the real writer wrote. Of another unit, its own commit record and
the chunks that a reader of whole layers looks at are put; rows are shared by the units of a layer.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from time import process_time

import numpy as np
from obstore.store import MemoryStore

from circuit_atlas.jobs.tasks.plan import Build
from circuit_atlas.storage_schema import arrays, layer_paths
from circuit_atlas.storage_schema.arrays import ATTEMPTS
from circuit_atlas.storage_schema.commit import Commit, StoredObject
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.records import (
    CircuitRecord,
    CriterionRecord,
    FailureRecord,
    FaithfulnessRow,
    Receipt,
    ResponseRow,
)
from circuit_atlas.storage_schema.template import create
from circuit_atlas.storage_schema.writer import Writer
from tests.simulation.large_build import SIDE, TOP

_DEAD_EVERY = 50
# The unit that fails in every fourth layer.
_FAILED, _LAYERS = 100, 4
_PUT = (arrays.SCORE.name, arrays.LEVEL.name)


def is_dead(unit: int) -> bool:
    """Whether the response of a unit is to be a constant."""
    return unit % _DEAD_EVERY == _DEAD_EVERY - 1


class StoredUnits:
    """Stores units of a build, the real writer's objects under their names; some are dead, and some
    fail. `spent_s`: the processor's seconds that this took."""

    def __init__(self, objects: Objects, build: Build) -> None:
        self._objects = objects
        self._writers = {i.layer: Writer(objects, build.header, i) for i in build.layers}
        first = build.layers[0]
        memory = Objects(MemoryStore(), location="memory://")
        pixels = build.store_pixels(memory)
        create(memory, build.header, [first], build.images.slice(0, TOP), build.plan, pixels=pixels)
        writer = Writer(memory, build.header, first)
        writer.commit(unit_record(build.header, first, 0))
        record = memory.get(layer_paths.commit(first.layer, 0))
        self._commit = Commit.from_json(record, location="memory://")
        self._data = {stored.path: memory.get(stored.path) for stored in self._commit.objects}
        self._order = {index.layer: number for number, index in enumerate(build.layers)}
        self._shared: set[str] = set()
        self.spent_s = 0.0

    def store(self, key: UnitKey) -> Receipt:
        """Commit or fail a unit, as a worker does; the receipt of whoever was before."""
        started_s = process_time()
        try:
            return self._store(key)
        finally:
            self.spent_s += process_time() - started_s

    def _store(self, key: UnitKey) -> Receipt:
        if key.unit == _FAILED and self._order[key.layer] % _LAYERS == _LAYERS - 1:
            record = FailureRecord(key, "non_finite", "its response is NaN", "where it arose\n" * 9)
            return self._writers[key.layer].fail(record)
        attempt, dead = secrets.randbelow(ATTEMPTS), is_dead(key.unit)
        stored = []
        for one in self._commit.objects:
            path = one.path.replace(
                layer_paths.layer(self._commit.layer), layer_paths.layer(key.layer)
            )
            _, is_chunk, array = path.partition("/arrays.zarr/")
            if is_chunk:
                path = path.replace(f"/c.0.{self._commit.attempt}", f"/c.{key.unit}.{attempt}")
            if dead and not path.endswith("/responses.parquet"):
                continue
            if (not is_chunk or array.startswith(_PUT)) and path not in self._shared:
                self._objects.put(path, self._data[one.path])
                self._shared.update([] if is_chunk else [path])
            stored.append(StoredObject(path, one.size_bytes, one.sha256))
        commit = replace(
            self._commit,
            layer=key.layer,
            unit=key.unit,
            attempt=attempt,
            state="dead" if dead else "done",
            forms=() if dead else self._commit.forms,
            objects=tuple(stored),
        )
        path = layer_paths.commit(key.layer, key.unit)
        self._objects.put_if_absent(path, commit.to_json().encode())
        return commit.receipt()


def unit_record(header: AtlasHeader, layer: LayerIndex, unit: int) -> CircuitRecord:
    """A unit that is done, of invented numbers."""
    generator = np.random.default_rng(unit)
    size = layer.index.size
    kept = [max(1, round(fraction * size)) for fraction in header.fractions]
    order = generator.permutation(size)
    masks = np.zeros((len(kept), size), np.bool_)
    for level, count in enumerate(kept):
        masks[level, order[:count]] = True
    scores = generator.random((1, size), np.float32)
    levels = list(enumerate(zip(header.fractions, kept, strict=True)))
    return CircuitRecord(
        key=UnitKey(header.model, layer.layer, unit),
        state="done",
        kernels=size,
        criteria=tuple(CriterionRecord(n, scores, masks, None, 0.1) for n in header.criteria),
        responses=tuple(
            ResponseRow(n, "scoring", 1.0, 1.0, 0, 0, 0, 0, 7, 7, n if n < TOP else None)
            for n in range(TOP)
        ),
        faithfulness=tuple(
            FaithfulnessRow(
                name, "zero", "held_out", "sum_abs", 8, level, f, k, 0.5, 0.5, 0.5, 0.0, 0.5, 0.5
            )
            for name in header.criteria
            for level, (f, k) in levels
        ),
        subfeatures=(),
        compute_s=1.0,
        contribution=scores[0],
        response_maps=np.zeros((TOP, SIDE, SIDE), np.float32),
    )
