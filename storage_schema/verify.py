"""Finds what is missing, torn or altered in an atlas, and what nothing names.

Every byte is read and held against the checksum recorded for it: chunks and fragments against the
unit's commit record, a layer's array metadata against its index, its network, its responses and the
visualizations against their records, a chunk of responses against its name, and each JSON document
against the checksum it carries. The files of a sealed generation are held against its manifest, and
what they say against what the units stored. What a local writer had half written when it was killed
lies under a name with `#`, which obstore never lists; it is not reported, nor are the
heartbeats of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, TypeAlias, TypeVar

from circuit_atlas.storage_schema import (
    layer_paths,
    layout,
    response_paths,
    verify_sealed,
    visualization_paths,
)
from circuit_atlas.storage_schema.commit import Commit, Failure, NamedObjects, StoredObject
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.errors import (
    CorruptError,
    NotAnAtlasError,
    SchemaError,
    UnreadableError,
)
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.labels import UnitLabels
from circuit_atlas.storage_schema.network import named_objects
from circuit_atlas.storage_schema.objects import Entry, Objects
from circuit_atlas.storage_schema.own_path import MovedError
from circuit_atlas.storage_schema.prepared import PreparedChunk, PreparedSource
from circuit_atlas.storage_schema.responses import ResponsesRecord
from circuit_atlas.storage_schema.sealed import Manifest
from circuit_atlas.storage_schema.template import Plan
from circuit_atlas.storage_schema.version import NETWORK_SINCE
from circuit_atlas.storage_schema.visualization_plan import VisualizationPlan
from circuit_atlas.storage_schema.visualizations import FeatureRecord

Kind = Literal["missing", "torn", "altered", "unreadable", "unreferenced"]
T = TypeVar("T")
_THREADS = 8
_COPY = "restore it from a copy"


@dataclass(frozen=True, order=True)
class Finding:
    """Names one object that is not as it must be.

    Attributes:
        kind: `missing`; `torn`, shorter than recorded; `altered`; `unreadable`, of which the disk
            or its permissions give nothing, or nothing is read, as of a link; or `unreferenced`,
            which no record names: harmless, left by an attempt that was cut off, failed or lost a
            race, by a generation that was never whole, or written by a build that is running now.
        path: from the atlas' root.
        message: one line.
        records: paths of the documents that name it: the commit record of a unit's chunk, say.
            None for a document, which none names.
        recorded_sha256: the digest that they record; None for a document.
        found_sha256: the digest of what lies there; None where nothing does.
        belongs: the path that a document has in an atlas, where it is whole and lies at another's.
    """

    kind: Kind
    path: str
    message: str
    records: tuple[str, ...] = field(default=(), compare=False)
    recorded_sha256: str | None = field(default=None, compare=False)
    found_sha256: str | None = field(default=None, compare=False)
    belongs: str | None = field(default=None, compare=False)

    @property
    def harmful(self) -> bool:
        """Tell whether something committed cannot be trusted."""
        return self.kind != "unreferenced"


Parse: TypeAlias = Callable[[Objects, str, bytes], T]
"""Reads one kind of document, by the store, its path and its bytes, or raises CorruptError."""


def verify(objects: Objects) -> tuple[Finding, ...]:
    """Return every finding, by kind and path; empty where the atlas is whole.

    Raises:
        NotAnAtlasError: there is no atlas.
        SchemaError: the atlas, or a document of it, is of a newer schema.
        StoreError: the store cannot be read.
    """
    if not objects.exists(layout.HEADER):
        raise NotAnAtlasError(f"{objects.location} holds no atlas: give the store of a build")
    check = _Check(objects)
    check.read_documents()
    check.compare_named()
    check.compare_sealed()
    check.find_unreferenced()
    return tuple(sorted(check.findings))


class _Check:
    """One pass over a store: what is listed, what is named, what was found."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.entries = {
            entry.path: entry
            for entry in objects.list()
            if not layout.is_of_run(entry.path) and layout.repair_of(entry.path) is None
        }
        self.documents: set[str] = set()
        self.named: dict[StoredObject, list[str]] = {}
        self.findings: list[Finding] = []
        self.header: AtlasHeader | None = None
        self.layers: dict[str, LayerIndex] = {}
        self.commits: list[tuple[Entry, Commit]] = []
        self.manifests: dict[str, Manifest] = {}
        self.responses: list[tuple[str, ResponsesRecord]] = []

    def read_documents(self) -> None:
        """Read every JSON document, and collect the objects that they name."""
        header = self.header = self._document(layout.HEADER, _header)
        if layout.IMAGES_RECORD in self.entries or any(map(_after_images, self.entries)):
            self._name(self._document(layout.IMAGES_RECORD, _images) or (), layout.IMAGES_RECORD)
        indices: set[str] = set()
        networks: set[str] = set()
        for path in self.entries:
            if layout.is_plan(path):
                plan = self._document(path, Plan.stored_at)
                asked = plan.units if plan else ()
                indices.update(layer_paths.layer_index(layer) for layer, _ in asked)
            elif (
                layer_paths.failed_unit(path) is not None
                or visualization_paths.failed_visualization(path) is not None
            ):
                self._document(path, Failure.stored_at)
            elif layout.preparing(path) is not None:
                chunk_record = self._document(path, PreparedChunk.stored_at)
                self._name(chunk_record.objects if chunk_record else (), path)
            elif layout.is_prepared(path):
                self._document(path, PreparedSource.stored_at)
            elif visualization_paths.is_visualization_plan(path):
                self._document(path, VisualizationPlan.stored_at)
            elif layer_paths.labelling(path) is not None:
                self._document(path, UnitLabels.stored_at)
            elif visualization_paths.visualized(path) is not None:
                record = self._document(path, FeatureRecord.stored_at)
                self._name(record.objects if record else (), path)
            elif layer_paths.committed_unit(path) is not None:
                indices.add(layer_paths.index_of_commit(path))
                if header is None or header.schema >= NETWORK_SINCE:
                    networks.add(layer_paths.network_of_commit(path))
                commit = self._document(path, Commit.stored_at)
                if commit:
                    self._name(commit.objects, path)
                    self.commits.append((self.entries[path], commit))
            elif layer_paths.is_manifest(path):
                manifest = self._document(path, Manifest.stored_at)
                if manifest:
                    self.manifests[path] = manifest
                    self._name((file.stored for file in manifest.objects), path)
            elif layer_paths.is_layer_index(path):
                indices.add(path)
            elif layer_paths.is_network(path):
                networks.add(path)
            elif response_paths.is_responses(path):
                responses = self._document(path, ResponsesRecord.stored_at)
                if responses:
                    self.responses.append((response_paths.responses_layer(path), responses))
                    self._name(responses.objects, path)
            elif (chunk := response_paths.chunk_of_responses(path)) is not None:
                self._name((StoredObject(path, self.entries[path].size_bytes, chunk[1]),))
        for path in sorted(indices):
            index = self._document(path, LayerIndex.stored_at)
            if index:
                self.layers[index.layer] = index
                self._name(self._document(path, _objects) or (), path)
        for path in sorted(networks):
            self._name(self._document(path, named_objects) or (), path)
        self._find_other_atlas()
        self._find_lost_responses()

    def _find_other_atlas(self) -> None:
        """Find indices of another atlas; where all of them are of one, it is the header that is."""
        if self.header is None:
            return
        own = self.header.fingerprint
        named = {index.layer: index.atlas for index in self.layers.values() if index.atlas}
        others = sorted(layer for layer, atlas in named.items() if atlas != own)
        if others and len(others) == len(named) and len(set(named.values())) == 1:
            self._find("altered", layout.HEADER, "is of another atlas than the layers: " + _COPY)
            return
        for layer in others:
            path = layer_paths.layer_index(layer)
            self._find("altered", path, "is of another atlas than the header: " + _COPY)

    def _find_lost_responses(self) -> None:
        """Where units have images of their own, each was committed after its responses were
        recorded: a table without a record is of those that have none."""
        if self.header is None or self.header.sample is None:
            return
        known = {(layer, unit) for layer, found in self.responses for unit in found.units}
        lost = {c.layer for _, c in self.commits if (c.layer, c.unit) not in known}
        for path in self.entries:
            record = response_paths.record_of_distributions(path)
            if (
                record
                and record not in self.entries
                and response_paths.responses_layer(path) in lost
                # A build may have put it since that was listed.
                and not self.objects.exists(record)
            ):
                self._find("missing", record, "is missing, and units were computed after it")

    def compare_named(self) -> None:
        """Hold every named object against its record."""
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(self._compare, self.named):
                pass

    def compare_sealed(self) -> None:
        """Hold what each whole generation says against what its units stored, as far as both can
        be read."""
        spoiled = {finding.path for finding in self.findings}
        whole = [
            (entry, commit)
            for entry, commit in self.commits
            if spoiled.isdisjoint(stored.path for stored in commit.objects)
        ]
        for path, manifest in self.manifests.items():
            index = self.layers.get(manifest.layer)
            if not self.header or not index or any(f.path in spoiled for f in manifest.objects):
                continue
            metadata = f"{layer_paths.arrays(manifest.layer)}/"
            if any(p.startswith(metadata) and p.endswith("/zarr.json") for p in spoiled):
                continue
            commits = {c.unit: (e, c) for e, c in whole if c.layer == manifest.layer}
            try:
                for file, message in verify_sealed.differences(
                    self.objects, self.header, index, manifest, commits
                ):
                    self.findings.append(Finding("altered", file, message, (path,)))
            except CorruptError as error:
                self.findings.append(Finding("altered", path, str(error)))

    def find_unreferenced(self) -> None:
        """Find what is there and named by nothing."""
        named = {stored.path for stored in self.named}
        for path in self.entries:
            if path not in self.documents and path not in named:
                self._find("unreferenced", path, "is named by no record")

    def _document(self, path: str, parse: Parse[T]) -> T | None:
        """The parsed document, or None and a finding."""
        self.documents.add(path)
        try:
            data = self.objects.get(path)
        except FileNotFoundError:
            self._find("missing", path, "is missing")
            return None
        except UnreadableError as error:
            self.findings.append(Finding("unreadable", path, str(error)))
            return None
        except CorruptError as error:  # too long, or a link, of which nothing is read
            kind: Kind = "altered" if self.objects.is_own(path) else "unreadable"
            self.findings.append(Finding(kind, path, str(error)))
            return None
        try:
            return parse(self.objects, path, data)
        except (CorruptError, SchemaError) as error:
            # No build adds a document of a newer schema to an atlas of this one.
            if isinstance(error, SchemaError) and path == layout.HEADER:
                raise
            torn = not data.rstrip().endswith(b"}")
            belongs = error.own if isinstance(error, MovedError) else None
            finding = Finding("torn" if torn else "altered", path, str(error))
            self.findings.append(replace(finding, found_sha256=sha256(data), belongs=belongs))
            return None

    def _compare(self, stored: StoredObject) -> None:
        records = tuple(self.named[stored])
        find = partial(self._find, records=records, recorded=stored.sha256)
        try:
            data = self.objects.get(stored.path)
        except FileNotFoundError:
            find("missing", stored.path, "is committed and missing")
            return
        except (UnreadableError, CorruptError) as error:
            finding = Finding("unreadable", stored.path, str(error), records, stored.sha256)
            self.findings.append(finding)
            return
        found = sha256(data)
        if len(data) < stored.size_bytes:
            size = f"{len(data)} of {stored.size_bytes} bytes"
            find("torn", stored.path, f"is cut: it has {size}", found=found)
        elif found != stored.sha256:
            find("altered", stored.path, "does not match its recorded checksum", found=found)

    def _name(self, objects: Iterable[StoredObject], *record: str) -> None:
        for stored in objects:
            self.named.setdefault(stored, []).extend(record)

    def _find(
        self,
        kind: Kind,
        path: str,
        what: str,
        *,
        records: tuple[str, ...] = (),
        recorded: str | None = None,
        found: str | None = None,
    ) -> None:
        message = f"{self.objects.at(path)} {what}"
        self.findings.append(Finding(kind, path, message, records, recorded, found))


def _after_images(path: str) -> bool:
    """Whether an object is put after the record of the images: before, a build is laying the atlas
    out, or was cut off at that."""
    return layer_paths.is_layer_index(path) or layer_paths.committed_unit(path) is not None


def _header(objects: Objects, path: str, data: bytes) -> AtlasHeader:
    return AtlasHeader.from_json(data, location=objects.at(path))


def _images(objects: Objects, path: str, data: bytes) -> tuple[StoredObject, ...]:
    """The table of images, and the chunks of their pixels."""
    named = _objects(objects, path, data)
    if not any(stored.path == layout.IMAGES for stored in named):
        raise CorruptError(f"{objects.at(path)} names no {layout.IMAGES}")
    return named


def _objects(objects: Objects, path: str, data: bytes) -> tuple[StoredObject, ...]:
    """The objects that a document names, beside what else it says."""
    return NamedObjects.from_json(data, location=objects.at(path)).objects
