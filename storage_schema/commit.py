"""The commit record: what makes a unit done, and names every object that holds it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Literal

from msgspec import Meta

from circuit_atlas.storage_schema import documents, layer_paths, visualization_paths
from circuit_atlas.storage_schema.bounds import (
    Count,
    Name,
    Seconds,
    Sha256,
    SizeBytes,
    StorePath,
    UnitNumber,
    repeated,
)
from circuit_atlas.storage_schema.documents import seal
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.own_path import require_own
from circuit_atlas.storage_schema.records import FailureRecord, Receipt

Form = Literal["level", "packed"]
ONE = Meta(min_length=1, max_length=1)
"""Bounds what a document names where it names one object."""
COMMIT_RECORD = "commit record"
"""What messages call one."""


@dataclass(frozen=True)
class StoredObject:
    """Names an immutable object of the store."""

    path: Annotated[StorePath, "Path from the atlas' root."]
    size_bytes: Annotated[SizeBytes, "Size in bytes."]
    sha256: Annotated[Sha256, "SHA-256 of the bytes, in hex."]


@dataclass(frozen=True)
class NamedObjects:
    """Names objects of the store, beside what else its document says."""

    objects: Annotated[tuple[StoredObject, ...], "The objects."]

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> NamedObjects:
        """Read the key of a document; CorruptError or SchemaError where that cannot be read."""
        return documents.read(cls, text, location=location, what="record of objects")


@dataclass(frozen=True)
class Commit:
    """Makes a unit done, or dead, and names what holds it."""

    model: Annotated[Name, "Model reference, as in the header."]
    layer: Annotated[Name, "Layer."]
    unit: Annotated[UnitNumber, "Unit."]
    attempt: Annotated[UnitNumber, "The attempt whose chunks and fragments hold the unit."]
    state: Annotated[
        Literal["done", "dead"],
        "`done`, or `dead`: the response is one constant, and only `responses` is stored.",
    ]
    kernels: Annotated[Count, "N: how many kernels can reach the unit."]
    top_images: Annotated[Count, "How many top images the unit has."]
    forms: Annotated[
        tuple[tuple[Name, Form], ...],
        "Per criterion, which array holds its circuits: `level` if nested, else `packed`.",
    ]
    objects: Annotated[tuple[StoredObject, ...], "Every chunk and fragment of the unit."]
    compute_s: Annotated[Seconds, "Time the unit took its worker, in seconds."]
    criteria_s: Annotated[
        tuple[tuple[Name, Seconds], ...],
        "Per criterion, the time in seconds that choosing its circuits took: of work that units "
        "share the unit's share, of work that criteria share all. Empty where nobody looked.",
    ] = ()

    @property
    def key(self) -> UnitKey:
        """Return the unit's key."""
        return UnitKey(self.model, self.layer, self.unit)

    @property
    def size_bytes(self) -> int:
        """Return the size in bytes of the unit's objects, the commit record aside."""
        return sum(stored.size_bytes for stored in self.objects)

    def find(self, path: str) -> StoredObject | None:
        """Return the unit's object at a path; None where it has none there."""
        return next((stored for stored in self.objects if stored.path == path), None)

    def form(self, criterion: str) -> Form:
        """Tell which array holds the criterion's circuits; QueryError where the unit has none."""
        for name, form in self.forms:
            if name == criterion:
                return form
        self.require_circuit()
        raise QueryError(
            f"unit {self.layer}/{self.unit} has no criterion {criterion!r}: it has "
            + ", ".join(name for name, _ in self.forms)
        )

    def require_circuit(self) -> None:
        """Raise QueryError where the unit is dead."""
        if self.state == "dead":
            raise QueryError(
                f"unit {self.layer}/{self.unit} is dead: its response is the same on every image, "
                "so it has responses and no circuit"
            )

    def receipt(self) -> Receipt:
        """Tell what a worker sends back for this unit."""
        return Receipt(self.key, self.state, self.attempt, self.size_bytes, self.compute_s)

    def to_json(self) -> str:
        """Return the text of the record."""
        return seal(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> Commit:
        """Read what `to_json` wrote; CorruptError or SchemaError where that cannot be read."""
        return documents.read(cls, text, location=location, what=COMMIT_RECORD)

    @classmethod
    def stored_at(cls, objects: Objects, path: str, data: bytes) -> Commit:
        """Do the same for what lies at a path; CorruptError where it is another unit's."""
        commit = cls.from_json(data, location=objects.at(path))
        own = layer_paths.commit(commit.layer, commit.unit)
        require_own(objects, path, own, what=f"the record of {commit.key}")
        return commit

    def inconsistency(self) -> str | None:
        """Say what does not go together; None where all does."""
        if self.state == "dead" and self.forms:
            return "is of a dead unit, and has circuits"
        if len(dict(self.forms)) < len(self.forms):
            return f"has circuits of {repeated(name for name, _ in self.forms)!r} twice"
        paths = [stored.path for stored in self.objects]
        foreign = layer_paths.outside_unit(paths, self.layer, self.unit, self.attempt)
        return None if foreign is None else f"names `{foreign}`, which is no object of the unit"


@dataclass(frozen=True)
class Failure:
    """Holds a failure record with the time it was written."""

    time_s: Annotated[Seconds, "When it was written, in seconds since 1970 UTC."]
    record: Annotated[FailureRecord, "The unit's key, and kind, message and trace of its error."]
    attempt: Annotated[
        UnitNumber | None,
        "Number in the record's name; null where it was written before that was kept.",
    ] = None

    def to_json(self) -> str:
        """Return the text of the record; half characters, as of odd names of files, become `?`."""
        texts = {
            name: getattr(self.record, name).encode(errors="replace").decode()
            for name in ("message", "trace")
        }
        return seal(asdict(replace(self, record=replace(self.record, **texts))))

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> Failure:
        """Read what `to_json` wrote; CorruptError or SchemaError where that cannot be read."""
        return documents.read(cls, text, location=location, what="failure record")

    @classmethod
    def stored_at(cls, objects: Objects, path: str, data: bytes) -> Failure:
        """Do the same for what lies at a path, among those of units or of visualizations;
        CorruptError where it is another unit's or attempt's."""
        failure = cls.from_json(data, location=objects.at(path))
        key = failure.record.key
        attempt = layer_paths.failed_attempt(path) if failure.attempt is None else failure.attempt
        visualized = visualization_paths.failed_visualization(path) is not None
        own = (visualization_paths.visualization_failure if visualized else layer_paths.failure)(
            key.layer, key.unit, attempt
        )
        require_own(objects, path, own, what=f"the record of a failure of {key}")
        return failure
