"""A build's layers and units -> a store laid out for them, metadata only, before any work starts.

Everything is put if absent, in an order that leaves a started layout recognisable: the header
first (it claims the place), each layer's arrays before the layer's index, the plan last. So a
layout that was cut off is completed by running it again, and one that is there is left as it is.
"""

from __future__ import annotations

import dataclasses
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
    _check_place(objects)
    if not objects.put_if_absent(layout.HEADER, header.to_json().encode()):
        place = objects.at(layout.HEADER)
        stored = AtlasHeader.from_json(objects.get(layout.HEADER), place=place)
        same = stored.images_sha256 == header.images_sha256
        pictures = "" if same else _image_differences(objects, images)
        check_same(stored, header, place=objects.place, pictures=pictures)
    objects.put_if_absent(layout.IMAGES, IMAGES.to_parquet(images))
    if not objects.exists(layout.IMAGES_RECORD):
        data = objects.get(layout.IMAGES)
        record = StoredObject(layout.IMAGES, len(data), sha256(data))
        objects.put_if_absent(layout.IMAGES_RECORD, seal({"objects": [asdict(record)]}).encode())
    for layer in layers:
        _create_layer(objects, header, layer)
    text = plan.to_json()
    objects.put_if_absent(layout.plan(sha256(text.encode())), text.encode())


def _check_place(objects: Objects) -> None:
    names = objects.names()
    if names and layout.HEADER not in names:
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
    known = dataclasses.replace(stored, units=stored.units[: len(layer.units)])
    if known != layer:
        differences = _differences(stored.content(), layer.content())
        raise MismatchError(
            f"layer {layer.layer!r} of {objects.place} was laid out differently: "
            f"{_shown(differences)}; {_REMEDY}"
        )


def check_same(
    stored: AtlasHeader, given: AtlasHeader, *, place: str = "the store", pictures: str = ""
) -> None:
    """Raise MismatchError, with the difference, where a build may not go on with a stored atlas.

    Args:
        stored: the atlas' header.
        given: the build's. Package versions may differ.
        place: names the store in the message.
        pictures: which images differ, where that is known.
    """
    causes = []
    if stored.weights_sha256 != given.weights_sha256:
        causes.append(f"other weights ({_hashes(stored.weights_sha256, given.weights_sha256)})")
    if stored.images_sha256 != given.images_sha256:
        hashes = _hashes(stored.images_sha256, given.images_sha256)
        causes.append(f"other images ({hashes}{pictures and f': {pictures}'})")
    if stored.spec_sha256 != given.spec_sha256:
        differences = _differences(json.loads(stored.spec), json.loads(given.spec))
        hashes = _hashes(stored.spec_sha256, given.spec_sha256)
        causes.append(f"another spec ({_shown(differences) or hashes})")
    derived = _differences(_derived(stored), _derived(given))
    if derived and not causes:
        causes.append(f"the same in another way ({_shown(derived)})")
    if causes:
        raise MismatchError(
            f"the atlas at {place} was built from {' and '.join(causes)}, stored -> given; "
            f"{_REMEDY}"
        )


def _derived(header: AtlasHeader) -> dict[str, Any]:
    """What follows from the fingerprints; package versions may change between builds."""
    content = asdict(header)
    for key in ("schema", "versions", "spec", "spec_sha256", "weights_sha256", "images_sha256"):
        del content[key]
    return content


def _image_differences(objects: Objects, images: pa.Table) -> str:
    """Which images were added, removed, changed or moved to another split."""
    columns = ["name", "sha256", "split"]
    try:
        data = objects.get(layout.IMAGES)
    except FileNotFoundError:
        return ""
    table = IMAGES.from_parquet(data, place=objects.at(layout.IMAGES), columns=columns)
    old = {row["name"]: row for row in table.to_pylist()}
    new = {row["name"]: row for row in images.select(columns).to_pylist()}
    both = [(name, old[name], new[name]) for name in new if name in old]
    return _shown(
        [
            *(f"{name} removed" for name in old if name not in new),
            *(f"{name} added" for name in new if name not in old),
            *(f"{name} changed" for name, a, b in both if a["sha256"] != b["sha256"]),
            *(
                f"{name} {a['split']} -> {b['split']}"
                for name, a, b in both
                if a["split"] != b["split"]
            ),
        ]
    )


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


def _hashes(stored: str, given: str) -> str:
    return f"{stored[:12]} -> {given[:12]}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]}...{text[-15:]}"


def _shown(differences: Sequence[str]) -> str:
    more = len(differences) - _SHOWN
    return ", ".join(differences[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
