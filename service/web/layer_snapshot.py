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
from circuit_atlas.storage_schema.at_once import at_once
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import MismatchError, NotAnAtlasError
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.layer_listing import LayerListing, list_layer
from circuit_atlas.storage_schema.objects import Entry


def commit_version(commit: Commit) -> str:
    """Digest everything that is stored of a unit."""
    return digest(commit.state, *(stored.sha256 for stored in commit.objects))


@dataclass(frozen=True)
class LayerOverview:
    """Holds what listings show of a layer, as it was when it was looked at: no unit's record is
    read for it.

    Attributes:
        layer: the layer.
        listing: which units are done, dead and failed.
        planned: numbers of the units that were asked for.
        labels: what units stand for, by unit.
        generation: its newest sealed generation; None where it has none. What is sealed says more
            of a unit than what the unit stored.
    """

    layer: Layer
    listing: LayerListing
    planned: frozenset[int]
    labels: dict[int, str]
    generation: str | None

    @cached_property
    def version(self) -> str:
        """Digest the set of units that are stored, failed or planned, which are sealed, and what
        they stand for."""
        failures = (entry for entries in self.listing.failures.values() for entry in entries)
        return digest(
            self.layer.name,
            self.generation or "",
            *map(_written, self.listing.committed.values()),
            *map(_written, failures),
            repr(sorted(self.planned)),
            repr(sorted(self.labels.items())),
        )

    def counts(self) -> dict[str, int]:
        """Count the units that were planned, are done, dead, failed and missing."""
        listing = self.listing
        return {
            "planned": len(self.planned),
            "done": listing.done,
            "dead": listing.dead,
            "failed": len(listing.failures),
            "missing": len(self.planned - listing.committed.keys() - listing.failures.keys()),
        }


@dataclass(frozen=True)
class LayerSnapshot(LayerStates):
    """Holds the records of a layer's units, as they were when it was looked at.

    Attributes:
        overview: what listings showed just before.
    """

    overview: LayerOverview

    @property
    def layer(self) -> Layer:
        """Return the layer."""
        return self.overview.layer

    @property
    def generation(self) -> str | None:
        """Return its newest sealed generation; None where it has none."""
        return self.overview.generation

    @property
    def version(self) -> str:
        """Digest the set of units, see `LayerOverview.version`."""
        return self.overview.version


class LayerSnapshots:
    """Keeps snapshots of an atlas' layers, each good for a few seconds. Safe to share between
    threads."""

    def __init__(self, atlas: Atlas, *, fresh_s: float) -> None:
        self.atlas = atlas
        self.fresh_s = fresh_s
        self._names = FreshValue(self._read_names, fresh_s=fresh_s)
        self._planned = FreshValue(self._read_plan, fresh_s=fresh_s)
        self._overviews: dict[str, FreshValue[LayerOverview]] = {}
        self._snapshots: dict[str, FreshValue[LayerSnapshot]] = {}

    def names(self) -> tuple[str, ...]:
        """List the layers by name; StoreError where the atlas is gone or is another one now."""
        return self._names.get()

    def layer(self, name: str) -> Layer:
        """Return a layer by name; QueryError where there is none."""
        if name in self.names():
            return Layer(self.atlas.reader, self.atlas.reader.layer(name))
        return self.atlas.layer(name)

    def overview(self, name: str) -> LayerOverview:
        """Return what listings show of a layer; QueryError where there is none."""
        layer = self.layer(name)
        # One thread's value stays where two come first, as `setdefault` is atomic.
        value = FreshValue(partial(self._look, layer), fresh_s=self.fresh_s)
        return self._overviews.setdefault(name, value).get()

    def overviews(self) -> list[LayerOverview]:
        """Return what listings show of every layer, several asked for at once."""
        return at_once(self.overview, self.names())

    def of(self, name: str) -> LayerSnapshot:
        """Return what is stored of a layer; QueryError where there is none."""
        layer = self.layer(name)
        value = FreshValue(partial(self._read, layer), fresh_s=self.fresh_s)
        return self._snapshots.setdefault(name, value).get()

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

    def _look(self, layer: Layer, last: LayerOverview | None) -> LayerOverview:
        """List a layer: the last overview where nothing changed, with what it has worked out."""
        reader = self.atlas.reader
        overview = LayerOverview(
            layer,
            list_layer(reader.objects, reader.header, layer.name),
            frozenset(self._planned.get().get(layer.name, ())),
            reader.labels(layer.name),
            sealed.newest(reader.objects, layer.name),
        )
        return overview if last is None or last.version != overview.version else last

    def _read(self, layer: Layer, last: LayerSnapshot | None) -> LayerSnapshot:
        """Read a layer's records, unless its overview is the last snapshot's."""
        overview = self.overview(layer.name)
        if last is not None and last.version == overview.version:
            return last
        reader = self.atlas.reader
        return LayerSnapshot(
            layer.index,
            reader.commits(layer.name),
            reader.failures(layer.name, overview.listing),
            overview.planned,
            overview.labels,
            overview,
        )


def _written(entry: Entry) -> str:
    """What a listing says of how an object was written: another text where it was written anew, as
    far as the store tells."""
    return f"{entry.path} {entry.size_bytes} {entry.etag} {entry.modified_s}"
