"""The header of an atlas that lost it, made again from the spec and held against all that is left.

Nothing else in an atlas has all that its header says. So what a spec gives is compared with what
the torn header still says, and with layers, arrays, images, tables and weights that are stored:
units of two specs in one atlas would be worse than none.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.compute as pc

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.layer_patterns import settle_layers
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.plan import Build, resolve_opened
from circuit_atlas.storage_schema import arrays, image_table, layer_paths, layout, unit_tables
from circuit_atlas.storage_schema.commit import Commit, NamedObjects
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.errors import CorruptError, MismatchError, QueryError
from circuit_atlas.storage_schema.fragments import read as read_fragments
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.layer_listing import list_committed
from circuit_atlas.storage_schema.network import network_object, weights_of
from circuit_atlas.storage_schema.network_tables import WEIGHTS
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.template import is_laid_out

# A digest with a damaged character is no other digest.
_FEW = 2


def header_again(spec: BuildSpec, objects: Objects) -> AtlasHeader:
    """Makes the header of the atlas in a store that has none, or a damaged one.

    Args:
        spec: what the atlas was built from.
        objects: the store.

    Raises:
        InputError: the spec, the model or the images cannot be used.
        MismatchError: the atlas was built from something else, or nothing is left that tells.
    """
    with tempfile.TemporaryDirectory() as nowhere:
        run = spec.run.model_copy(update={"store": nowhere})
        opened = OpenedSpec(spec.model_copy(update={"run": run}))
        settle_layers(opened)
        build = resolve_opened(opened)
        said = _said(objects)
        header = _with_versions(build.header, said)
        if said.get("sha256") != json.loads(header.to_json())["sha256"]:
            differences = list(_differences(objects, opened, build, said))
            if differences:
                raise MismatchError(
                    f"the header of the atlas at {objects.location} is damaged, and the spec is "
                    f"not what it was built from: other {', '.join(differences)}; give the spec it "
                    f"was built from, or restore {layout.HEADER} from a copy"
                )
    return header


def _said(objects: Objects) -> dict[str, Any]:
    """What a torn header still says: each key has a line of its own."""
    try:
        text = objects.get(layout.HEADER).decode(errors="replace")
    except FileNotFoundError:
        return {}
    said: dict[str, Any] = {}
    for line in text.splitlines():
        try:
            said.update(json.loads(f"{{{line.strip().rstrip(',')}}}"))
        except (ValueError, TypeError):
            continue
    return said


def _with_versions(header: AtlasHeader, said: Mapping[str, Any]) -> AtlasHeader:
    """The header with the versions of its first build, where the torn one still says them."""
    try:
        versions = tuple((str(name), str(number)) for name, number in said["versions"])
    except (KeyError, TypeError, ValueError):
        return header
    return replace(header, versions=versions)


def _differences(
    objects: Objects, opened: OpenedSpec, build: Build, said: Mapping[str, Any]
) -> Iterator[str]:
    """Names what is otherwise in the store than the spec gives."""
    header = build.header
    for what in ("weights", "images", "spec"):
        key = f"{what}_sha256"
        stored, given = str(said.get(key)), str(getattr(header, key))
        told = len(stored) == len(given)
        if told and sum(a != b for a, b in zip(stored, given, strict=True)) > _FEW:
            yield what
    if _images_differ(objects, build):
        yield "images"
    there = [index for index in build.layers if _is_there(objects, index)]
    if not there:
        yield "layers: none of the spec's is there, whole"
    for index in there:
        if not _has_arrays(objects, header, index):
            yield f"criteria, fractions or top_images: the arrays of layer {index.layer!r} differ"
        if not _has_weights(objects, opened, index):
            yield f"weights of layer {index.layer!r}"
        yield from _of_units(objects, header, index)


def _is_there(objects: Objects, index: LayerIndex) -> bool:
    """Whether a layer is laid out and can be read; MismatchError where it is another."""
    try:
        return is_laid_out(objects, index)
    except CorruptError:
        return False


def _images_differ(objects: Objects, build: Build) -> bool:
    """Whether the atlas has other images, where its table of them is whole."""
    data = _named(objects, layout.IMAGES_RECORD).get(layout.IMAGES)
    if data is None:
        return False
    columns = ["name", "sha256", "label", "split"]
    table = image_table.read(data, columns=columns, location=objects.at(layout.IMAGES))
    return bool(table.to_pylist() != build.images.select(columns).to_pylist())


def _has_arrays(objects: Objects, header: AtlasHeader, index: LayerIndex) -> bool:
    """Whether the arrays that are laid out are those that the header has."""
    made = {path: json.loads(data) for path, data in arrays.group(header, index).items()}
    return all(
        path in made and made[path].get("shape") == json.loads(data).get("shape")
        for path, data in _named(objects, layer_paths.layer_index(index.layer)).items()
        if path.endswith("/zarr.json")
    )


def _named(objects: Objects, record: str) -> dict[str, bytes]:
    """The objects that a document names, by path, as far as they are whole."""
    found = {}
    try:
        named = NamedObjects.from_json(objects.get(record), location=objects.at(record))
        for stored in named.objects:
            with contextlib.suppress(FileNotFoundError):
                data = objects.get(stored.path)
                if sha256(data) == stored.sha256:
                    found[stored.path] = data
    except (FileNotFoundError, CorruptError):
        return {}
    return found


def _has_weights(objects: Objects, opened: OpenedSpec, index: LayerIndex) -> bool:
    """Whether the stored weights of a layer's convolutions are the model's."""
    path = layer_paths.weights(index.layer)
    try:
        data = network_object(objects, index, path)
        table = WEIGHTS.from_parquet(data, location=objects.at(path))
        weights = weights_of(table, index, location=objects.at(path))
    except (QueryError, CorruptError):
        return True
    pieces = opened.layer(index.layer).pieces()
    own = [site.weight.detach().cpu().numpy().astype(np.float32) for _, _, site in pieces]
    return all(
        stored is None or np.array_equal(stored, weight)
        for stored, weight in zip(weights, own, strict=True)
    )


def _of_units(objects: Objects, header: AtlasHeader, index: LayerIndex) -> Iterator[str]:
    """What the first unit that can be read was measured at, where that is otherwise."""
    for entry in list_committed(objects, index.layer).values():
        try:
            location = objects.at(entry.path)
            commit = Commit.from_json(objects.get(entry.path), location=location)
            if commit.state == "dead":
                continue
            (rows,) = read_fragments(objects, [commit], unit_tables.FAITHFULNESS)
        except (FileNotFoundError, CorruptError):
            continue
        if commit.model != header.model:
            yield "model"
        wanted = {
            "fraction": set(header.fractions),
            "criterion": set(header.criteria),
            "ablation": set(header.ablations),
            "response": {header.response},
        }
        for column, values in wanted.items():
            if set(pc.unique(rows[column]).to_pylist()) != values:
                yield f"{column}s of unit {commit.unit} of layer {index.layer!r}"
        return
