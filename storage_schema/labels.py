"""What the units of a layer stand for, in words: the classes of class scores, as a rule.

Labels change no number, so a later build may bring them, or others. Each set is an object of its
own, numbered upwards, and the one with the largest number counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from circuit_atlas.storage_schema import documents, layer_paths
from circuit_atlas.storage_schema.bounds import Name, UnitNumber, ascend
from circuit_atlas.storage_schema.documents import seal
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.own_path import require_own


@dataclass(frozen=True)
class UnitLabels:
    """Holds the labels of a layer's units."""

    layer: Annotated[Name, "Layer."]
    labels: Annotated[
        tuple[tuple[UnitNumber, str], ...],
        "Number of a unit and its label, ascending; not all have one.",
    ]
    number: Annotated[
        UnitNumber | None, "Number of the set; null where it was written before that was kept."
    ] = None

    def to_json(self) -> str:
        """Return the document's text."""
        return seal({"layer": self.layer, "labels": self.labels, "number": self.number})

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> UnitLabels:
        """Read what `to_json` wrote; CorruptError or SchemaError where that cannot be read."""
        return documents.read(
            cls,
            text,
            location=location,
            what="set of labels of units",
            remedy="delete it, and run the build again",
        )

    def inconsistency(self) -> str | None:
        """Say what does not go together; None where all does."""
        ascending = ascend([unit for unit, _ in self.labels])
        return None if ascending else "has units that do not ascend"

    @classmethod
    def stored_at(cls, objects: Objects, path: str, data: bytes) -> UnitLabels:
        """Do the same for what lies at a path; CorruptError where it is another set."""
        found = cls.from_json(data, location=objects.at(path))
        number = layer_paths.labelling(path) if found.number is None else found.number
        own = layer_paths.labels(found.layer, number or 0)
        require_own(objects, path, own, what=f"labels of {found.layer} by number {number}")
        return found


def read(objects: Objects, layer: str) -> dict[int, str]:
    """Return the labels of a layer's units by number, by one listing; empty where there are
    none."""
    path = _newest(objects, layer)
    if path is None:
        return {}
    return dict(UnitLabels.stored_at(objects, path, objects.get(path)).labels)


def store(objects: Objects, layer: str, labels: Mapping[int, str]) -> None:
    """Store labels, unless the newest are the same; WriteError where the store refuses."""
    given = tuple(sorted(labels.items()))
    while True:
        path = _newest(objects, layer)
        if path is not None and _hold(objects, path, given):
            return
        number = 0 if path is None else 1 + (layer_paths.labelling(path) or 0)
        # Of builds that race the last counts, and each sees what the others put.
        text = UnitLabels(layer, given, number).to_json()
        if objects.put_if_absent(layer_paths.labels(layer, number), text.encode()):
            return


def _hold(objects: Objects, path: str, labels: tuple[tuple[int, str], ...]) -> bool:
    """Whether a set is of these labels; one that is altered is not."""
    try:
        return UnitLabels.stored_at(objects, path, objects.get(path)).labels == labels
    except CorruptError:
        return False


def _newest(objects: Objects, layer: str) -> str | None:
    numbers = {
        number: entry.path
        for entry in objects.list(layer_paths.all_labels(layer))
        if (number := layer_paths.labelling(entry.path)) is not None
    }
    return numbers[max(numbers)] if numbers else None
