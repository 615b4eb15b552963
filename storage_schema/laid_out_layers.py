"""The layers of an atlas: which are laid out, and what a missing index means."""

from __future__ import annotations

import contextlib

from circuit_atlas.storage_schema import layer_paths, layout, segments
from circuit_atlas.storage_schema.at_once import at_once
from circuit_atlas.storage_schema.errors import CorruptError, QueryError
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.module_paths import number_order
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.template import Plan


class LaidOutLayers:
    """Reads the indices of layers, and keeps them, as they never change. A layer is laid out when
    its index is there; where something says that it was and is not, that is an error, and not one
    layer less."""

    def __init__(self, objects: Objects, header: AtlasHeader) -> None:
        """Read nothing yet; `header` is the atlas'."""
        self._objects, self._header = objects, header
        self._indices: dict[str, LayerIndex] = {}
        self._seen: set[str] = set()

    def names(self) -> tuple[str, ...]:
        """Return the names of the layers that are laid out, sorted, numbers in them as numbers.

        CorruptError where a layer has no index and should.
        """
        names = [segments.unescape(name) for name in self._objects.names(layout.LAYERS)]
        new = [name for name in names if name not in self._seen]
        there = at_once(lambda name: self._objects.exists(layer_paths.layer_index(name)), new)
        self._seen.update(name for name, laid_out in zip(new, there, strict=True) if laid_out)
        for name in names:
            if name not in self._seen:
                self._require_unfinished(name)
        for name in self._seen.difference(names):
            raise self._missing(name)
        return tuple(sorted(self._seen, key=number_order))

    def index(self, name: str) -> LayerIndex:
        """Return a layer's units and kernel axis; QueryError where the atlas has no such layer.

        CorruptError where its index is missing, altered, another layer's or of another atlas.
        """
        if name not in self._indices:
            path = layer_paths.layer_index(name)
            try:
                data = self._objects.get(path)
            except FileNotFoundError:
                known = ", ".join(self.names()) or "none"
                self._require_unfinished(name)
                raise QueryError(
                    f"{self._objects.location} has no layer {name!r}: it has {known}"
                ) from None
            index = LayerIndex.stored_at(self._objects, path, data)
            self._header.require_own(index, location=self._objects.at(path))
            self._indices[name] = index
        return self._indices[name]

    def plan(self) -> Plan:
        """Return all layers and units that any build asked for.

        CorruptError where a plan is altered, or all are gone.
        """
        paths = [entry.path for entry in self._objects.list(layout.PLANS)]
        plans = [
            Plan.stored_at(self._objects, path, data)
            for path, data in zip(paths, self._objects.get_listed(paths), strict=True)
        ]
        if not plans and any(map(self._has_work, self.names())):
            raise CorruptError(
                f"{self._objects.at(layout.PLANS)} holds no plan, and the atlas has units: restore "
                "it from a copy, or run the build again"
            )
        return Plan.union(plans)

    def _require_unfinished(self, name: str) -> None:
        """CorruptError where a layer without an index was laid out once."""
        if self._has_work(name) or name in self._planned():
            raise self._missing(name)

    def _planned(self) -> set[str]:
        """The layers that plans name, as far as they can be read."""
        names: set[str] = set()
        for entry in self._objects.list(layout.PLANS):
            with contextlib.suppress(CorruptError, FileNotFoundError):
                data = self._objects.get(entry.path)
                units = Plan.stored_at(self._objects, entry.path, data).units
                names.update(layer for layer, _ in units)
        return names

    def _has_work(self, name: str) -> bool:
        """Whether a layer has anything that is put after its index."""
        there = self._objects.names(layer_paths.layer(name))
        return any(one in layer_paths.AFTER_INDEX for one in there)

    def _missing(self, name: str) -> CorruptError:
        return CorruptError(
            f"{self._objects.at(layer_paths.layer_index(name))} is missing, and the layer was laid "
            "out: restore it from a copy, or run the build again"
        )
