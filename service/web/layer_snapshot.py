"""Which units of a layer are stored: looked at again after a while, as an atlas may be growing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

from circuit_atlas.service.analysis.units import LayerStates
from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.client.layer import Layer
from circuit_atlas.service.web.cache import FreshValue
from circuit_atlas.service.web.responses import digest
from circuit_atlas.storage_schema import layout, sealed
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import MismatchError, NotAnAtlasError
from circuit_atlas.storage_schema.header import AtlasHeader


def commit_version(commit: Commit) -> str:
    """Digest everything that is stored of a unit."""
    return digest(commit.state, *(stored.sha256 for stored in commit.objects))


@dataclass(frozen=True)
class LayerSnapshot(LayerStates):
    """Holds a layer as it was when it was looked at.

    Attributes:
        layer: the layer.
        generation: its newest sealed generation; None where it has none. What is sealed says more
            of a unit than what the unit stored.
    """

    layer: Layer
    generation: str | None

    @cached_property
    def version(self) -> str:
        """Digest the set of units that are stored, failed or planned, which are sealed, and what
        they stand for."""
        return digest(
            self.layer.name,
            self.generation or "",
            *(f"{unit} {commit_version(commit)}" for unit, commit in sorted(self.commits.items())),
            *(f"{unit} {f.kind} {f.message}" for unit, f in sorted(self.failures.items())),
            repr(sorted(self.planned)),
            repr(sorted(self.labels.items())),
        )


class LayerSnapshots:
    """Keeps snapshots of an atlas' layers, each good for a few seconds. Safe to share between
    threads."""

    def __init__(self, atlas: Atlas, *, fresh_s: float) -> None:
        self.atlas = atlas
        self.fresh_s = fresh_s
        self._names = FreshValue(self._read_names, fresh_s=fresh_s)
        self._planned = FreshValue(self._read_plan, fresh_s=fresh_s)
        self._layers: dict[str, FreshValue[LayerSnapshot]] = {}

    def names(self) -> tuple[str, ...]:
        """List the layers by name; StoreError where the atlas is gone or is another one now."""
        return self._names.get()

    def layer(self, name: str) -> Layer:
        """Return a layer by name; QueryError where there is none."""
        if name in self.names():
            return Layer(self.atlas.reader, self.atlas.reader.layer(name))
        return self.atlas.layer(name)

    def of(self, name: str) -> LayerSnapshot:
        """Return what is stored of a layer; QueryError where there is none."""
        layer = self.layer(name)
        # One thread's value stays where two come first, as `setdefault` is atomic.
        value = FreshValue(partial(self._read, layer), fresh_s=self.fresh_s)
        return self._layers.setdefault(name, value).get()

    def _read_names(self, last: tuple[str, ...] | None) -> tuple[str, ...]:
        """What was read of an atlas holds for no other one at its location."""
        del last
        objects = self.atlas.reader.objects
        try:
            header = objects.get(layout.HEADER)
        except FileNotFoundError:
            raise NotAnAtlasError(f"{objects.location} is gone: put it back where it was") from None
        if AtlasHeader.from_json(header, location=objects.at(layout.HEADER)) != self.atlas.header:
            raise MismatchError(
                f"{objects.location} is another atlas than when it was opened: start the server "
                "again"
            )
        return self.atlas.layers

    def _read_plan(self, last: dict[str, tuple[int, ...]] | None) -> dict[str, tuple[int, ...]]:
        del last
        return dict(self.atlas.reader.plan().units)

    def _read(self, layer: Layer, last: LayerSnapshot | None) -> LayerSnapshot:
        """Look at a layer: the last snapshot where nothing changed, with what it has worked out."""
        reader = self.atlas.reader
        snapshot = LayerSnapshot(
            layer.index,
            reader.commits(layer.name),
            reader.failures(layer.name),
            frozenset(self._planned.get().get(layer.name, ())),
            reader.labels(layer.name),
            layer,
            sealed.newest(reader.objects, layer.name),
        )
        return snapshot if last is None or last.version != snapshot.version else last
