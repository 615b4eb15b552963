"""A build's layers and units -> a store laid out for them, metadata only, before any work starts.

Everything is put if absent, in an order that leaves a started layout recognisable: the header
first (it claims the place), each layer's arrays before the layer's index, the plan last. So a
layout that was cut off is completed by running it again, and one that is there is left as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import pyarrow as pa

from circuit_atlas.storage_schema import arrays, layout
from circuit_atlas.storage_schema.commit import StoredObject
from circuit_atlas.storage_schema.documents import canonical, seal, sha256, unseal
from circuit_atlas.storage_schema.errors import CorruptError, MismatchError, NotAnAtlasError
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.tables import IMAGES

_REMEDY = "give the same as stored, or build into another store"
_SHOWN = 8


@dataclass(frozen=True)
class Plan:
    """Which layers and units a build asks for."""

    units: Annotated[tuple[tuple[str, tuple[int, ...]], ...], "Layers, and unit numbers of each."]

    def to_json(self) -> str:
        """The text of the plan."""
        return seal(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes, *, place: str) -> Plan:
        """The inverse of `to_json`; CorruptError or SchemaError where it cannot be read."""
        content = unseal(text, place=place)
        try:
            return cls(tuple((layer, tuple(units)) for layer, units in content["units"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptError(f"{place} is no plan: {error!r}") from error

    @classmethod
    def union(cls, plans: Sequence[Plan]) -> Plan:
        """What any of the plans asks for, layers in order of appearance, units ascending."""
        units: dict[str, set[int]] = {}
        for plan in plans:
            for layer, numbers in plan.units:
                units.setdefault(layer, set()).update(numbers)
        return cls(tuple((layer, tuple(sorted(numbers))) for layer, numbers in units.items()))


def create(
    objects: Objects,
    header: AtlasHeader,
    layers: Sequence[LayerIndex],
    images: pa.Table,
    plan: Plan,
) -> None:
    """Lay out what is not there yet, and compare with what is.

    Raises:
        NotAnAtlasError: the place holds other things and no atlas.
        MismatchError: another spec, weights, images or layer; the message shows the difference.
        SchemaError: the atlas there is of a newer schema.
        WriteError: the store refused; what was stored is as it was.
    """
    if not objects.exists(layout.HEADER):
        _check_empty(objects)
    if not objects.put_if_absent(layout.HEADER, header.to_json().encode()):
        place = objects.at(layout.HEADER)
        stored = AtlasHeader.from_json(objects.get(layout.HEADER), place=place)
        _check_header(objects, stored, header, images)
    objects.put_if_absent(layout.IMAGES, IMAGES.to_parquet(images))
    if not objects.exists(layout.IMAGES_RECORD):
        data = objects.get(layout.IMAGES)
        record = StoredObject(layout.IMAGES, len(data), sha256(data))
        objects.put_if_absent(layout.IMAGES_RECORD, seal({"objects": [asdict(record)]}).encode())
    for layer in layers:
        _create_layer(objects, header, layer)
    text = plan.to_json()
    objects.put_if_absent(layout.plan(sha256(text.encode())), text.encode())


def _check_empty(objects: Objects) -> None:
    names = objects.names()
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise NotAnAtlasError(
            f"{objects.place} holds other things ({shown}) and no atlas: choose a new or empty "
            "folder"
        )


def _create_layer(objects: Objects, header: AtlasHeader, layer: LayerIndex) -> None:
    path = layout.layer_index(layer.layer)
    if not objects.exists(path):
        records = []
        for metadata, text in arrays.group(header, layer).items():
            objects.put_if_absent(metadata, text)
            # Read back: a racing build of another Zarr version may have written other bytes.
            data = objects.get(metadata)
            records.append(asdict(StoredObject(metadata, len(data), sha256(data))))
        document = seal({**layer.content(), "objects": records})
        objects.put_if_absent(path, document.encode())
    stored = LayerIndex.from_json(objects.get(path), place=objects.at(path))
    if stored != layer:
        differences = _differences(stored.content(), layer.content())
        raise MismatchError(
            f"layer {layer.layer!r} of {objects.place} was laid out differently: "
            f"{_shown(differences)}; {_REMEDY}"
        )


def _check_header(
    objects: Objects, stored: AtlasHeader, given: AtlasHeader, images: pa.Table
) -> None:
    causes = []
    if stored.weights_sha256 != given.weights_sha256:
        causes.append(
            f"other weights ({stored.weights_sha256[:12]} -> {given.weights_sha256[:12]})"
        )
    if stored.images_sha256 != given.images_sha256:
        causes.append(f"other images ({_image_differences(objects, stored, given, images)})")
    if stored.spec_sha256 != given.spec_sha256:
        differences = _differences(json.loads(stored.spec), json.loads(given.spec))
        causes.append(f"another spec ({_shown(differences)})")
    if not causes:
        derived = _differences(_derived(stored), _derived(given))
        if derived:
            causes.append(f"another version of circuit-atlas ({_shown(derived)})")
    if causes:
        raise MismatchError(
            f"the atlas at {objects.place} was built from {' and '.join(causes)}; {_REMEDY}"
        )


def _derived(header: AtlasHeader) -> dict[str, Any]:
    """What follows from the fingerprints; package versions may change between builds."""
    content = asdict(header)
    for key in ("schema", "versions", "spec", "spec_sha256", "weights_sha256", "images_sha256"):
        del content[key]
    return content


def _image_differences(
    objects: Objects, stored: AtlasHeader, given: AtlasHeader, images: pa.Table
) -> str:
    short = f"{stored.images_sha256[:12]} -> {given.images_sha256[:12]}"
    columns = ["name", "sha256", "split"]
    try:
        table = IMAGES.from_parquet(
            objects.get(layout.IMAGES), place=objects.at(layout.IMAGES), columns=columns
        )
    except FileNotFoundError:
        return short
    old = {row["name"]: row for row in table.to_pylist()}
    new = {row["name"]: row for row in images.select(columns).to_pylist()}
    differences = [
        *(f"{name} removed" for name in old if name not in new),
        *(f"{name} added" for name in new if name not in old),
        *(
            f"{name} changed"
            for name, row in new.items()
            if name in old and row["sha256"] != old[name]["sha256"]
        ),
        *(
            f"{name} {old[name]['split']} -> {row['split']}"
            for name, row in new.items()
            if name in old and row["split"] != old[name]["split"]
        ),
    ]
    return f"{short}; {_shown(differences)}" if differences else short


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Each key whose value differs, as `path old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            line
            for key in keys
            for line in _differences(
                old.get(key), new.get(key), f"{path}.{key}" if path else str(key)
            )
        ]
    before, after = canonical(old), canonical(new)
    return [] if before == after else [f"{path} {_short(before)} -> {_short(after)}"]


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]}...{text[-15:]}"


def _shown(differences: Sequence[str]) -> str:
    more = len(differences) - _SHOWN
    return ", ".join(differences[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
