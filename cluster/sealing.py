"""Layers sealed while others are computed: each once it has every unit that any build asked for.

It is done in a thread, one layer after the other, so that nobody who waits for a task is held up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Self

from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.layer_listing import committed_units
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import Receipt
from circuit_atlas.storage_schema.sealed import Manifest

# A large layer takes minutes. One that is sealed in part is as if nothing were: the next run seals
# it anew.
_STOPPED_S = 0.5


class Sealing:
    """Seals the layers of a run. Entered around it; on the way out it waits for the layer under
    way, but after Ctrl-C, and begins no other."""

    def __init__(
        self,
        objects: Objects,
        layers: Sequence[LayerIndex],
        *,
        committed: Mapping[str, Collection[int]],
    ) -> None:
        """Takes the layers.

        Args:
            objects: the store of the atlas.
            layers: those of the run.
            committed: the units that are stored before the run, by layer.
        """
        self._objects = objects
        reader = Reader(objects)
        self._header = reader.header
        self._layers = {index.layer: index for index in layers}
        self._planned = {name: set(n) for name, n in reader.plan().units if name in self._layers}
        self._missing = {
            name: numbers.difference(committed[name]) for name, numbers in self._planned.items()
        }
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="seal")
        self._sealed: dict[str, Future[Manifest | None]] = {}

    def __enter__(self) -> Self:
        for layer, missing in self._missing.items():
            if not missing:
                self._seal(layer)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        del error, traceback
        self._pool.shutdown(wait=False, cancel_futures=True)
        under_way = [sealed for sealed in self._sealed.values() if not sealed.cancelled()]
        wait(under_way, timeout=_STOPPED_S if kind is KeyboardInterrupt else None)

    def note(self, receipt: Receipt) -> None:
        """Counts a unit, and has its layer sealed where it was the last one."""
        layer = receipt.key.layer
        if receipt.state == "failed":
            return
        self._missing[layer].discard(receipt.key.unit)
        if not self._missing[layer]:
            self._seal(layer)

    def finish(self) -> None:
        """Has layers sealed that other builds completed, and waits for all.

        Raises:
            StoreError: a layer could not be sealed. What is committed stays, and can be read.
        """
        others = [layer for layer in self._planned if layer not in self._sealed]
        for layer, committed in committed_units(self._objects, others).items():
            if committed.issuperset(self._planned[layer]):
                self._seal(layer)
        for sealed in self._sealed.values():
            sealed.result()

    def _seal(self, layer: str) -> None:
        if layer not in self._sealed:
            self._sealed[layer] = self._pool.submit(
                compact, self._objects, self._header, self._layers[layer]
            )
