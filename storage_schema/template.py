"""A build's layers and units -> a store laid out for them, metadata only, before any work starts.

Everything is put if absent, in an order that leaves a started layout recognisable: the header
first (it claims the location), each layer's arrays before the layer's index, the plan last. So a
layout that was cut off is completed by running it again, and one that is there is left as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Annotated, Any

import pyarrow as pa

from circuit_atlas.storage_schema import arrays, documents, image_table, labels, layer_paths, layout
from circuit_atlas.storage_schema.at_once import at_once
from circuit_atlas.storage_schema.bounds import Name, UnitNumber
from circuit_atlas.storage_schema.commit import StoredObject
from circuit_atlas.storage_schema.directions import Directions
from circuit_atlas.storage_schema.documents import canonical, seal, sha256
from circuit_atlas.storage_schema.errors import (
    CorruptError,
    MismatchError,
    NotAnAtlasError,
    RecordError,
)
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.image_table import IMAGES
from circuit_atlas.storage_schema.layer_listing import list_committed
from circuit_atlas.storage_schema.network_tables import DIRECTIONS
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.own_path import require_own
from circuit_atlas.storage_schema.pixels import PixelsRecord

_REMEDY = "give the same as stored, or build into another store"
_SHOWN = 8
_WIDTH = 60


@dataclass(frozen=True)
class Plan:
    """Says which layers and units a build asks for."""

    units: Annotated[
        tuple[tuple[Name, tuple[UnitNumber, ...]], ...], "Layers, and unit numbers of each."
    ]

    def to_json(self) -> str:
        """Return the text of the plan."""
        return seal(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> Plan:
        """Read what `to_json` wrote; CorruptError or SchemaError where that cannot be read."""
        return documents.read(cls, text, location=location, what="plan")

    @classmethod
    def stored_at(cls, objects: Objects, path: str, data: bytes) -> Plan:
        """Do the same for what lies at a path; CorruptError where it is another plan."""
        plan = cls.from_json(data, location=objects.at(path))
        require_own(objects, path, layout.plan(sha256(data)), what="another plan")
        return plan

    @classmethod
    def union(cls, plans: Sequence[Plan]) -> Plan:
        """Tell what any of the plans asks for, layers in order of appearance, units ascending."""
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
    *,
    pixels: PixelsRecord,
    directions: Mapping[str, Directions] | None = None,
    unit_labels: Mapping[str, Mapping[int, str]] | None = None,
) -> None:
    """Lay out what is not there yet, and compare with what is.

    Args:
        objects: the store.
        header: the build's.
        layers: those that it names.
        images: `image_table.IMAGES`.
        plan: which units it asks for.
        pixels: where the images' values lie, which are stored already.
        directions: those of each layer that came from a file.
        unit_labels: what units of each layer stand for, by number, in place of what was stored.

    Raises:
        NotAnAtlasError: the location holds other things and no atlas.
        MismatchError: another spec, weights, images or layer; the message shows the difference.
        CorruptError: what is there is damaged.
        SchemaError: the atlas there is of a newer schema.
        WriteError: the store refused; what was stored is as it was.
    """
    check_location(objects)
    if not objects.put_if_absent(layout.HEADER, header.to_json().encode()):
        location = objects.at(layout.HEADER)
        stored = AtlasHeader.from_json(objects.get(layout.HEADER), location=location)
        same = stored.images_sha256 == header.images_sha256
        image_changes = "" if same else _image_differences(objects, images)
        check_same(stored, header, location=objects.location, image_changes=image_changes)
    # All of them before any is laid out: a build that is refused alters nothing.
    there = at_once(partial(is_laid_out, objects), layers)
    new = [layer for layer, laid_out in zip(layers, there, strict=True) if not laid_out]
    at_once(partial(_check_units, objects), new)
    table = IMAGES.to_parquet(images)
    objects.put_if_absent(layout.IMAGES, table)
    if not objects.exists(layout.IMAGES_RECORD):
        data = objects.get(layout.IMAGES)
        _check_table(data, table, location=objects.at(layout.IMAGES))
        record = StoredObject(layout.IMAGES, len(data), sha256(data))
        named = [asdict(stored) for stored in (record, *pixels.chunks)]
        document = seal({"objects": named, "pixels": pixels.content()})
        objects.put_if_absent(layout.IMAGES_RECORD, document.encode())
    known = directions or {}
    at_once(lambda layer: _lay_out(objects, header, layer, known.get(layer.layer)), new)
    for name, texts in (unit_labels or {}).items():
        labels.store(objects, name, texts)
    text = plan.to_json()
    objects.put_if_absent(layout.plan(sha256(text.encode())), text.encode())


def _check_table(stored: bytes, given: bytes, *, location: str) -> None:
    """Raise CorruptError where a table of images that no record vouches for is not this one, be it
    in other bytes, as another version writes it."""
    if stored == given:
        return
    found, expected = (IMAGES.from_parquet(data, location=location) for data in (stored, given))
    if not found.equals(expected):
        raise CorruptError(
            f"{location} differs from the images that it is of, and its record is gone: run "
            "`circuit-atlas repair` on the atlas"
        )


def _check_units(objects: Objects, layer: LayerIndex) -> None:
    """Raise MismatchError where units of a layer whose index was lost are none of this one's."""
    stored = max(list_committed(objects, layer.layer), default=-1)
    if stored >= len(layer.units):
        raise MismatchError(
            f"layer {layer.layer!r} of {objects.location} has lost its index and holds unit "
            f"{stored}; given: {len(layer.units)} units; give the directions that it was built with"
        )


def check_location(objects: Objects) -> None:
    """Raise NotAnAtlasError where a store holds other things and no atlas."""
    names = [name for name in objects.names() if name != layout.PREPARED]
    if layout.RUNS in names and layout.HEADER not in names:
        # Of a build that is at the images, unless a folder of that name is somebody else's.
        listed = objects.list(layout.RUNS)
        if all(layout.is_of_run(entry.path) for entry in listed):
            names.remove(layout.RUNS)
    if names and layout.HEADER not in names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise NotAnAtlasError(
            f"{objects.location} holds other things ({shown}) and no atlas: choose a new or empty "
            "folder"
        )


def _lay_out(
    objects: Objects, header: AtlasHeader, layer: LayerIndex, directions: Directions | None
) -> None:
    records = []
    laid_out = arrays.group(header, layer)
    if layer.directions is not None:
        if directions is None or directions.record() != layer.directions:
            raise RecordError(f"other directions than those that layer {layer.layer!r} names")
        laid_out[layer_paths.directions(layer.layer)] = DIRECTIONS.to_parquet(directions.table())
    for metadata, text in laid_out.items():
        objects.put_if_absent(metadata, text)
        # Read back: a racing build of another Zarr version may have written other bytes.
        data = objects.get(metadata)
        records.append(StoredObject(metadata, len(data), sha256(data)))
    document = layer_document(replace(layer, atlas=header.fingerprint), records)
    if not objects.put_if_absent(layer_paths.layer_index(layer.layer), document):
        is_laid_out(objects, layer)


def layer_document(layer: LayerIndex, stored: Iterable[StoredObject]) -> bytes:
    """Return `layer.json`, which names the metadata of the layer's arrays, and its directions."""
    return seal({**layer.content(), "objects": [asdict(one) for one in stored]}).encode()


def is_laid_out(objects: Objects, layer: LayerIndex) -> bool:
    """Tell whether the layer is there; MismatchError where it is there and another."""
    path = layer_paths.layer_index(layer.layer)
    if not objects.exists(path):
        return False
    stored = LayerIndex.stored_at(objects, path, objects.get(path))
    what = f"layer {layer.layer!r} of {objects.location}"
    same_size = stored.channels == layer.channels
    if same_size and (_directions(stored), stored.directions) != (
        _directions(layer),
        layer.directions,
    ):
        raise MismatchError(f"{what} {_other_directions(stored, layer)}")
    if stored != layer:
        differences = _differences(_compared(stored), _compared(layer))
        raise MismatchError(f"{what} was laid out differently: {_shown(differences)}; {_REMEDY}")
    return True


def _compared(layer: LayerIndex) -> dict[str, Any]:
    """What must be the same; a self-check may round otherwise on another machine."""
    content = layer.content()
    del content["self_check"], content["atlas"]
    return content


def _directions(layer: LayerIndex) -> list[tuple[str, tuple[float, ...] | None]]:
    return [(unit.name, unit.direction) for unit in layer.units if layer.is_direction(unit)]


def _other_directions(stored: LayerIndex, given: LayerIndex) -> str:
    """What directions a layer has, what was given, and what differs."""
    old, new = dict(_directions(stored)), dict(_directions(given))
    changes = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [name for name in new if name in old and new[name] != old[name]],
    }
    told = [f"{what} {_names(names)}" for what, names in changes.items() if names]
    if old.keys() == new.keys() and stored.directions != given.directions:
        told = ["of other numbers, or with another activation"]
    return (
        f"has {f'the directions {_names(old)}' if old else 'no directions'}; given: "
        f"{_names(new) or 'none'} ({'; '.join(told) or 'in another order'}); a layer's directions "
        "are fixed by its first build: give the same or none, or build into another store"
    )


def _names(names: Collection[str]) -> str:
    return _shown([repr(name) for name in names])


def check_same(
    stored: AtlasHeader, given: AtlasHeader, *, location: str = "the store", image_changes: str = ""
) -> None:
    """Raise MismatchError, with the difference, where a build may not go on with a stored atlas.

    Args:
        stored: the atlas' header.
        given: the build's. Package versions may differ.
        location: names the store in the message.
        image_changes: which images differ, where that is known.
    """
    if stored.schema < given.schema:
        raise MismatchError(
            f"the atlas at {location} was built by an older circuit-atlas (schema version "
            f"{stored.schema}, not {given.schema}): it can be read and not added to; build into "
            "another store"
        )
    causes = []
    if stored.weights_sha256 != given.weights_sha256:
        causes.append(f"other weights ({_hashes(stored.weights_sha256, given.weights_sha256)})")
    if stored.images_sha256 != given.images_sha256:
        hashes = _hashes(stored.images_sha256, given.images_sha256)
        causes.append(f"other images ({hashes}{image_changes and f': {image_changes}'})")
    if stored.spec_sha256 != given.spec_sha256:
        differences = _differences(stored.spec_content, given.spec_content)
        hashes = _hashes(stored.spec_sha256, given.spec_sha256)
        causes.append(f"another spec ({_shown(differences) or hashes})")
    derived = _differences(_derived(stored), _derived(given))
    if derived and not causes:
        causes.append(f"the same in another way ({_shown(derived)})")
    if causes:
        raise MismatchError(
            f"the atlas at {location} was built from {' and '.join(causes)}, stored -> given; "
            f"{_REMEDY}"
        )


def check_names(objects: Objects, names: Collection[str]) -> None:
    """Raise MismatchError where an atlas has images of other names: so much can be told before
    any image is read."""
    try:
        data = objects.get(layout.IMAGES)
    except FileNotFoundError:  # a layout that was cut off
        return
    table = image_table.read(data, columns=["name"], location=objects.at(layout.IMAGES))
    stored, given = set(table["name"].to_pylist()), set(names)
    changes = [
        *(f"{name} removed" for name in sorted(stored - given)),
        *(f"{name} added" for name in sorted(given - stored)),
    ]
    if changes:
        raise MismatchError(
            f"the atlas at {objects.location} was built from other images ({_shown(changes)}), "
            f"stored -> given; {_REMEDY}"
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
    table = image_table.read(data, columns=columns, location=objects.at(layout.IMAGES))
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
    """Each key whose value differs, as `path old -> new`; items of long lists one by one."""
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
    if before == after:
        return []
    lists = isinstance(old, list | tuple) and isinstance(new, list | tuple)
    if lists and max(len(before), len(after)) > _WIDTH:
        return [
            line
            for at, (a, b) in enumerate(itertools.zip_longest(old, new))
            for line in _differences(a, b, f"{path}[{at}]")
        ]
    pairs = enumerate(zip(before, after, strict=False))
    same = next((n for n, (a, b) in pairs if a != b), min(len(before), len(after)))
    return [f"{path} {_short(before, same)} -> {_short(after, same)}"]


def _hashes(stored: str, given: str) -> str:
    return f"{stored[:12]} -> {given[:12]}"


def _short(text: str, same: int) -> str:
    """A text, or the part of a long one that begins to differ after `same` characters."""
    if len(text) <= _WIDTH:
        return text
    start = max(0, same - 10)
    end = start + _WIDTH
    return f"{'...' * (start > 0)}{text[start:end]}{'...' * (end < len(text))}"


def _shown(differences: Sequence[str]) -> str:
    more = len(differences) - _SHOWN
    return ", ".join(differences[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
