"""What `verify` found -> what is to be set aside, what can be made again here, what a build redoes.

A unit goes only where its commit record, or an object that the record names, is damaged and lies
nowhere else. What is whole stays where it is, but for what cannot be trusted or found without the
damaged one: with a record that names others with their digests, these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from circuit_atlas.storage_schema import (
    arrays,
    layer_paths,
    layout,
    response_paths,
    sealed,
    visualization_paths,
)
from circuit_atlas.storage_schema.commit import NamedObjects, StoredObject
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.errors import CorruptError, UnreadableError
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.lost_plan import lost_plan
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.sealed import Manifest
from circuit_atlas.storage_schema.sealed_layer import SealedLayer
from circuit_atlas.storage_schema.template import layer_document
from circuit_atlas.storage_schema.verify import Finding

Subject = Literal[
    "unit",
    "layer",
    "arrays",
    "network",
    "images",
    "pixels",
    "prepared",
    "responses",
    "response chunk",
    "sealed",
    "plan",
    "failure",
    "labels",
    "visualization",
    "visualization plan",
    "moved",
]


@dataclass(frozen=True)
class Step:
    """Puts one thing right.

    Attributes:
        subject: what it is.
        layer: the layer that it is of; empty where it is of none.
        number: of the unit; None where it is none.
        aside: paths of what is set aside, in this order, with the digest of what was found there;
            None where that could not be read.
        absent: paths where nothing was found.
        put: paths and bytes of what is made again.
        redone: whether a build, or `features`, has to do the rest.
    """

    subject: Subject
    layer: str
    number: int | None
    aside: tuple[tuple[str, str | None], ...]
    absent: tuple[str, ...]
    put: tuple[tuple[str, bytes], ...]
    redone: bool


def plan_repair(objects: Objects, findings: Iterable[Finding]) -> tuple[Step, ...]:
    """Plan what puts an atlas right, and change nothing.

    Args:
        objects: the store.
        findings: what `verify` found there.

    Raises:
        CorruptError: the header is damaged, without which nothing can be told.
        StoreError: the store cannot be read.
    """
    harmful = [finding for finding in findings if finding.harmful]
    return _Planner(objects, harmful).steps() if harmful else ()


@dataclass
class _Draft:
    """A step as its findings add to it."""

    aside: dict[str, str | None] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    put: dict[str, bytes] = field(default_factory=dict)
    redone: bool = False


class _Planner:
    """Goes through findings, and gathers those of one thing in one step."""

    def __init__(self, objects: Objects, findings: Sequence[Finding]) -> None:
        self._objects = objects
        self._findings = {finding.path: finding for finding in findings}
        self._paths = frozenset(entry.path for entry in objects.list())
        self._drafts: dict[tuple[Subject, str, int | str | None], _Draft] = {}
        for finding in findings:
            if finding.path == layout.HEADER and not finding.records:
                raise CorruptError(finding.message)
            self._add(finding)

    def steps(self) -> tuple[Step, ...]:
        """Return the steps, in the order of what was found."""
        return tuple(
            Step(
                subject,
                layer,
                number if isinstance(number, int) else None,
                tuple(draft.aside.items()),
                tuple(sorted(draft.absent)),
                tuple(draft.put.items()),
                draft.redone,
            )
            for (subject, layer, number), draft in self._drafts.items()
            if draft.aside or draft.put or draft.redone
        )

    def _draft(self, subject: Subject, layer: str, number: int | str | None = None) -> _Draft:
        return self._drafts.setdefault((subject, layer, number), _Draft())

    def _add(self, finding: Finding) -> None:
        path = finding.path
        if finding.kind == "unreadable":  # it may be whole: what lies there is nobody's to replace
            return
        moved = self._elsewhere(finding)
        if moved is not None:
            draft = self._draft("moved", layer_paths.layer_of(path) or "", path)
            draft.put[path] = moved
            self._take(draft, path)
            return
        for record in finding.records or (path,):
            if record == path or self._names(record, finding):
                self._of_record(record, path)

    def _of_record(self, record: str, path: str) -> None:
        """Plan for one damaged object, by the document that names it: itself of a document."""
        layer = layer_paths.layer_of(record) or ""
        unit = layer_paths.committed_unit(record)
        if unit is not None:
            self._unit(record, path, layer, unit)
        elif layer_paths.is_layer_index(record):
            self._layer(record, path, layer)
        elif layer_paths.is_network(record):
            # Without their record nothing says whether they are whole.
            files = (
                layer_paths.wiring(layer),
                layer_paths.weights(layer),
                layer_paths.channels(layer),
            )
            self._remove("network", layer, record, *files, redone=True)
        elif record == layout.IMAGES_RECORD and path in (record, layout.IMAGES):
            self._remove("images", "", record, layout.IMAGES, redone=True)
        elif path.startswith(layout.pixels("")):
            self._pixels(path)
        elif layout.is_prepared(path):
            self._remove("prepared", "", path)
        elif response_paths.is_responses(record):
            table = f"{record.removesuffix('.json')}.parquet"
            self._remove("responses", layer, record, table, redone=True)
        elif response_paths.chunk_of_responses(path) is not None:
            self._remove("response chunk", layer, path)
        elif layer_paths.is_manifest(record):
            self._remove("sealed", layer, record, path)
        elif layout.is_plan(path):
            self._plan(path)
        elif (
            layer_paths.failed_unit(path) is not None
            or visualization_paths.failed_visualization(path) is not None
        ):
            self._remove("failure", layer, path)
        elif layer_paths.labelling(path) is not None:
            self._remove("labels", layer, path, redone=True)
        elif (visualized := visualization_paths.visualized(record)) is not None:
            self._remove("visualization", visualized[0], record, path, redone=True)
        elif visualization_paths.is_visualization_plan(path):
            self._remove("visualization plan", "", path, redone=True)

    def _remove(self, subject: Subject, layer: str, *paths: str, redone: bool = False) -> None:
        """Set aside a document, and what goes with it."""
        draft = self._draft(subject, layer, paths[0])
        self._take(draft, *paths)
        draft.redone = redone

    def _unit(self, record: str, path: str, layer: str, unit: int) -> None:
        """A commit record that is sealed, or lies at another's path, comes back; else the unit
        goes."""
        draft = self._draft("unit", layer, unit)
        self._take(draft, record)
        if path == record:
            found = next(self._records(layer, unit), None)
            if found is not None:
                draft.put[record] = found
                return
        elif layer_paths.is_of_unit(path, layer, unit):  # whatever a record from elsewhere names
            self._take(draft, path)
        draft.redone = True

    def _layer(self, record: str, path: str, layer: str) -> None:
        """Metadata of arrays follow from the header and the layer; of the layer itself the spec
        alone tells."""
        if path.endswith("/zarr.json"):
            self._arrays(record, path, layer)
            return
        draft = self._draft("layer", layer)
        self._take(draft, record)
        if path == record:
            # Nothing else says whether they are whole.
            folder = f"{layer_paths.arrays(layer)}/"
            metadata = (p for p in self._paths if p.startswith(folder) and p.endswith("zarr.json"))
            self._take(draft, *sorted(metadata))
        self._take(draft, layer_paths.directions(layer))
        draft.redone = True

    def _arrays(self, record: str, path: str, layer: str) -> None:
        document = self._get(record)
        index = LayerIndex.from_json(document, location=self._objects.at(record))
        made = arrays.group(self._header, index).get(path)
        draft = self._draft("arrays", layer)
        if made is None:  # of an atlas that an older version built, to which no build adds
            draft.redone = True
            return
        draft.put[path] = made
        self._take(draft, path)
        if sha256(made) != self._findings[path].recorded_sha256:
            # Another version of Zarr wrote the same in other bytes.
            whole = draft.put.get(record, document)
            named = NamedObjects.from_json(whole, location=self._objects.at(record))
            stored = {one.path: one for one in named.objects}
            stored[path] = StoredObject(path, len(made), sha256(made))
            draft.put[record] = layer_document(index, stored.values())
            self._take(draft, record)

    def _pixels(self, path: str) -> None:
        """A build prepares images whose chunk has no record, and looks for those where no source is
        known to be whole."""
        draft = self._draft("pixels", "", path)
        prepared = sorted(filter(layout.is_prepared, self._paths))
        self._take(draft, *(p for p in prepared if layout.preparing(p) is None))
        for record in prepared:
            if path.encode() in self._get(record):
                self._take(draft, record)
        self._take(draft, path)
        draft.redone = True

    def _plan(self, path: str) -> None:
        draft = self._draft("plan", "", path)
        self._take(draft, path)
        found = lost_plan(self._objects, self._layers, path)
        if found is None:
            draft.redone = True
        else:
            draft.put[path] = found

    @cached_property
    def _header(self) -> AtlasHeader:
        data = self._get(layout.HEADER)
        return AtlasHeader.from_json(data, location=self._objects.at(layout.HEADER))

    @cached_property
    def _layers(self) -> tuple[LayerIndex, ...]:
        """The layers that can be read."""
        whole = sorted(set(filter(layer_paths.is_layer_index, self._paths)) - self._findings.keys())
        return tuple(
            LayerIndex.from_json(self._get(path), location=self._objects.at(path)) for path in whole
        )

    def _take(self, draft: _Draft, *paths: str) -> None:
        """Set objects aside that are there: each as it was found, so that what is written there
        meanwhile stays."""
        for path in paths:
            finding = self._findings.get(path)
            if finding is not None and finding.kind == "missing":
                draft.absent.add(path)
            elif path in self._paths and path not in draft.aside:
                found = None if finding is None else finding.found_sha256
                draft.aside[path] = found or self._digest(path)

    def _digest(self, path: str) -> str | None:
        """The digest of what lies at a path; None where it cannot be read."""
        try:
            return sha256(self._objects.get(path))
        except (FileNotFoundError, UnreadableError, CorruptError):
            return None

    def _names(self, record: str, finding: Finding) -> bool:
        """Whether a record, read again, names what was found damaged: else it was set aside since,
        and maybe written anew of other objects."""
        if record in self._findings:
            return True
        try:
            data = self._objects.get(record)
            named = NamedObjects.from_json(data, location=self._objects.at(record)).objects
        except FileNotFoundError:
            return False
        return finding.path in {stored.path for stored in named}

    def _elsewhere(self, finding: Finding) -> bytes | None:
        """What should lie at a path, where it lies at another's: files that changed places."""
        for other in self._findings.values():
            found = other.found_sha256
            if found is None or other is finding:
                continue
            if found == finding.recorded_sha256 or other.belongs == finding.path:
                data = self._get(other.path)
                named = found == finding.recorded_sha256
                if sha256(data) == found and (named or self._whole(data)):
                    return data
        return None

    def _records(self, layer: str, unit: int) -> Iterator[bytes]:
        """The commit records of a unit that sealed generations hold, the newest first, as far as
        what they name is whole."""
        for generation in reversed(sealed.generations(self._objects, layer)):
            path = layer_paths.manifest(layer, generation.name)
            commits = layer_paths.sealed_file(layer, generation.name, sealed.COMMITS.stored_name)
            if not generation.whole or path in self._findings or commits in self._findings:
                continue
            location = self._objects.at(path)
            manifest = Manifest.from_json(self._get(path), location=location)
            record = SealedLayer(self._objects, manifest).record(unit)
            if record is not None and self._whole(record):
                yield record

    def _whole(self, document: bytes) -> bool:
        """Whether all objects are whole that a document names."""
        try:
            named = NamedObjects.from_json(document, location="a record")
        except CorruptError:
            return False
        return all(self._is_there(stored) for stored in named.objects)

    def _is_there(self, stored: StoredObject) -> bool:
        return sha256(self._get(stored.path)) == stored.sha256

    def _get(self, path: str) -> bytes:
        """An object's bytes; nothing where it is gone since it was listed, or cannot be read."""
        try:
            return self._objects.get(path)
        except (FileNotFoundError, UnreadableError, CorruptError):
            return b""
