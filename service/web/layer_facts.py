"""The facts of layers' units as the server keeps them: within a bound of bytes."""

from __future__ import annotations

import threading

from circuit_atlas.service.analysis.facts import LayerFacts
from circuit_atlas.service.web.cache import ByteCache
from circuit_atlas.service.web.layer_snapshot import LayerSnapshot
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.measures import MEASURES

_SPLITS = 2


class LayerFactCache:
    """Facts of all layers within a bound of bytes: the layer asked for longest ago goes first. Safe
    to share between threads."""

    def __init__(self, header: AtlasHeader, *, size_bytes: int) -> None:
        self._layers: ByteCache[tuple[str | None, LayerFacts]] = ByteCache(size_bytes)
        self._locks: dict[str, threading.Lock] = {}
        rows = len(header.criteria) * len(header.ablations) * _SPLITS * len(header.fractions)
        # A row of faithfulness: its measures, the unit, level and kernels, and three short texts.
        self._row_bytes = 2048 + rows * (8 * len(MEASURES) + 64)

    def of(self, snapshot: LayerSnapshot, *, images: int) -> LayerFacts:
        """Return the facts of all stored units of a layer: what is new since it was last asked for
        is read now. `images`: of the atlas.

        StoreError where the store does not answer. A unit that is altered is among `problems`.
        """
        name = snapshot.layer.name
        with self._locks.setdefault(name, threading.Lock()):
            generation, facts = self._layers.get(name) or (None, None)
            # All units are read anew where one was deleted or built again, and where they were
            # sealed, which tells more of them.
            if (
                facts is None
                or generation != snapshot.generation
                or not facts.commits.items() <= snapshot.commits.items()
            ):
                facts = LayerFacts(snapshot.layer.reader, snapshot.index, images=images)
            taken = len(snapshot.commits) * (self._row_bytes + 8 * images)
            # Before they are read: what was read of a slow store is there when it is asked again.
            kept = (snapshot.generation, facts)
            self._layers.put(name, kept, size_bytes=min(taken, self._layers.size_bytes))
            facts.read_each(snapshot.commits)
        return facts
