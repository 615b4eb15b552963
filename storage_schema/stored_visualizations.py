"""The feature visualizations of an atlas, read."""

from __future__ import annotations

from circuit_atlas.storage_schema import visualization_paths
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.visualizations import FeatureRecord
from circuit_atlas.storage_schema.wording import REPAIR


class StoredVisualizations:
    """Reads records of visualizations, and their images. Nothing is kept: more may come."""

    def __init__(self, objects: Objects) -> None:
        """Read nothing yet."""
        self._objects = objects

    def variants(self, layer: str) -> dict[int, tuple[str, ...]]:
        """Return the names of the visualizations that units of a layer have, or channels of a
        convolution of that name, by unit: one listing."""
        by_unit: dict[int, list[str]] = {}
        for entry in self._objects.list(visualization_paths.visualizations(layer)):
            if (named := visualization_paths.visualized(entry.path)) is not None:
                _, unit, variant = named
                by_unit.setdefault(unit, []).append(variant)
        return {unit: tuple(sorted(names)) for unit, names in sorted(by_unit.items())}

    def of_unit(self, layer: str, unit: int) -> tuple[FeatureRecord, ...]:
        """Return every visualization of a unit, or of a channel where `layer` names a convolution:
        those of the whole network first. Empty where there is none.

        CorruptError where a record is altered, or another's.
        """
        paths = [
            entry.path
            for entry in self._objects.list(visualization_paths.visualizations(layer, unit))
            if visualization_paths.visualized(entry.path)
        ]
        found = [
            FeatureRecord.stored_at(self._objects, path, data)
            for path, data in zip(paths, self._objects.get_listed(paths), strict=True)
        ]
        return tuple(sorted(found, key=_rank))

    def one(self, layer: str, unit: int, variant: str) -> FeatureRecord | None:
        """Return one visualization by its name, such as `positive`, or None; CorruptError as of
        `of_unit`."""
        path = visualization_paths.visualization(layer, unit, variant)
        try:
            data = self._objects.get(path)
        except FileNotFoundError:
            return None
        return FeatureRecord.stored_at(self._objects, path, data)

    def image(self, record: FeatureRecord) -> bytes:
        """Return the image, a PNG; CorruptError where it is missing or altered."""
        location = self._objects.at(record.image.path)
        try:
            data = self._objects.get(record.image.path)
        except FileNotFoundError as error:
            raise CorruptError(f"{error}, and it is recorded: {REPAIR}") from error
        if sha256(data) != record.image.sha256:
            raise CorruptError(f"{location} is cut or altered: {REPAIR}")
        return data


def _rank(record: FeatureRecord) -> tuple[object, ...]:
    """The whole network first, then circuits from the largest on, groups after all images."""
    circuit, negative = record.circuit, record.sign == "negative"
    if circuit is None:
        return (0, negative)
    group = -1 if circuit.group is None else circuit.group
    return (1, circuit.criterion, -circuit.fraction, group, negative)
