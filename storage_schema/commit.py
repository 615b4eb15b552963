"""The commit record: what makes a unit done, and names every object that holds it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.documents import seal, unseal
from circuit_atlas.storage_schema.errors import CorruptError, QueryError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.own_path import require_own
from circuit_atlas.storage_schema.records import FailureRecord, Receipt

Form = Literal["level", "packed"]


@dataclass(frozen=True)
class StoredObject:
    """Names an immutable object of the store."""

    path: Annotated[str, "Path from the atlas' root."]
    size_bytes: Annotated[int, "Size in bytes."]
    sha256: Annotated[str, "SHA-256 of the bytes, in hex."]

    @classmethod
    def of(cls, content: dict[str, Any]) -> StoredObject:
        """Make one from a document's keys; KeyError where one is missing."""
        return cls(content["path"], content["size_bytes"], content["sha256"])


@dataclass(frozen=True)
class Commit:
    """Makes a unit done, or dead, and names what holds it."""

    model: Annotated[str, "Model reference, as in the header."]
    layer: Annotated[str, "Layer."]
    unit: Annotated[int, "Unit."]
    attempt: Annotated[int, "The attempt whose chunks and fragments hold the unit."]
    state: Annotated[
        Literal["done", "dead"],
        "`done`, or `dead`: the response is one constant, and only `responses` is stored.",
    ]
    kernels: Annotated[int, "N: how many kernels can reach the unit."]
    top_images: Annotated[int, "How many top images the unit has."]
    forms: Annotated[
        tuple[tuple[str, Form], ...],
        "Per criterion, which array holds its circuits: `level` if nested, else `packed`.",
    ]
    objects: Annotated[tuple[StoredObject, ...], "Every chunk and fragment of the unit."]
    compute_s: Annotated[float, "Time the unit took its worker, in seconds."]
    criteria_s: Annotated[
        tuple[tuple[str, float], ...],
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
        return cls.of(unseal(text, location=location), location=location)

    @classmethod
    def stored_at(cls, objects: Objects, path: str, data: bytes) -> Commit:
        """Do the same for what lies at a path; CorruptError where it is another unit's."""
        commit = cls.from_json(data, location=objects.at(path))
        own = layout.commit(commit.layer, commit.unit)
        require_own(objects, path, own, what=f"the record of {commit.key}")
        return commit

    @classmethod
    def of(cls, content: dict[str, Any], *, location: str) -> Commit:
        """Make one from a record's keys; CorruptError where they are those of no commit."""
        try:
            return cls(
                model=content["model"],
                layer=content["layer"],
                unit=content["unit"],
                attempt=content["attempt"],
                state=content["state"],
                kernels=content["kernels"],
                top_images=content["top_images"],
                forms=tuple((name, form) for name, form in content["forms"]),
                objects=tuple(StoredObject.of(stored) for stored in content["objects"]),
                compute_s=content["compute_s"],
                criteria_s=tuple((name, time_s) for name, time_s in content.get("criteria_s", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptError(f"{location} is no commit record: {error!r}") from error


@dataclass(frozen=True)
class Failure:
    """Holds a failure record with the time it was written."""

    time_s: Annotated[float, "When it was written, in seconds since 1970 UTC."]
    record: Annotated[FailureRecord, "The unit's key, and kind, message and trace of its error."]
    attempt: Annotated[
        int | None, "Number in the record's name; null where it was written before that was kept."
    ] = None

    def to_json(self) -> str:
        """Return the text of the record."""
        return seal(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> Failure:
        """Read what `to_json` wrote; CorruptError or SchemaError where that cannot be read."""
        content = unseal(text, location=location)
        try:
            record = content["record"]
            key = UnitKey(**record["key"])
            return cls(
                content["time_s"],
                FailureRecord(key, record["kind"], record["message"], record["trace"]),
                content.get("attempt"),
            )
        except (KeyError, TypeError) as error:
            raise CorruptError(f"{location} is no failure record: {error!r}") from error

    @classmethod
    def stored_at(cls, objects: Objects, path: str, data: bytes) -> Failure:
        """Do the same for what lies at a path, among those of units or of visualizations;
        CorruptError where it is another unit's or attempt's."""
        failure = cls.from_json(data, location=objects.at(path))
        key = failure.record.key
        attempt = layout.failed_attempt(path) if failure.attempt is None else failure.attempt
        visualized = layout.failed_visualization(path) is not None
        own = (layout.visualization_failure if visualized else layout.failure)(
            key.layer, key.unit, attempt
        )
        require_own(objects, path, own, what=f"the record of a failure of {key}")
        return failure
