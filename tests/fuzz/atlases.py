"""A small atlas whose records say of altered files what these are, as a stranger would write it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from circuit_atlas.service import Atlas
from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema.commit import Commit, StoredObject
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.errors import AtlasError, QueryError
from circuit_atlas.storage_schema.verify import verify

LAYER = "conv3"


def commit_of(folder: Path, unit: int) -> Commit:
    """The commit record of a unit of `LAYER`."""
    path = folder / layer_paths.commit(LAYER, unit)
    return Commit.from_json(path.read_bytes(), location=str(path))


def put_altered(folder: Path, unit: int, stored: StoredObject, data: bytes) -> None:
    """Put other bytes in the place of an object of a unit, and into its record what they are."""
    (folder / stored.path).write_bytes(data)
    commit = commit_of(folder, unit)
    other = StoredObject(stored.path, len(data), sha256(data))
    objects = tuple(other if one.path == stored.path else one for one in commit.objects)
    record = folder / layer_paths.commit(LAYER, unit)
    record.write_text(replace(commit, objects=objects).to_json())


def read_all(folder: Path) -> None:
    """Read whatever there is in an atlas, as far as each part of it can be read.

    AtlasError where some part cannot; any other error is none of ours.
    """
    faults: list[AtlasError] = []
    atlas = Atlas.open(folder)
    reader = atlas.reader
    for read in (reader.plan, reader.listings, reader.images, reader.visualization_states):
        _tried(faults, read)
    _tried(faults, lambda: reader.jpegs(range(reader.images().num_rows)))
    for name in _tried(faults, reader.layers) or ():
        for of_layer in (
            reader.wiring,
            reader.weights,
            reader.channels,
            reader.labels,
            reader.failures,
        ):
            _tried(faults, lambda of_layer=of_layer, name=name: of_layer(name))
        index = _tried(faults, lambda name=name: reader.layer(name))
        for info in index.units if index is not None else ():
            unit = (name, info.number)
            commit = _tried(faults, lambda unit=unit: reader.commit(*unit))
            for record in _tried(faults, lambda u=unit: reader.feature_visualizations(*u)) or ():
                _tried(faults, lambda record=record: reader.visualization_image(record))
            if commit is not None:
                _read_unit(faults, atlas, commit)
    _tried(faults, lambda: list(verify(reader.objects)))
    if faults:
        raise faults[0]


def _read_unit(faults: list[AtlasError], atlas: Atlas, commit: Commit) -> None:
    reader = atlas.reader
    for table in (
        reader.responses,
        reader.faithfulness,
        reader.subfeatures,
        reader.groups,
        reader.selectivity,
        reader.contribution,
        reader.response_maps,
    ):
        _tried(faults, lambda table=table: table(commit))
    for criterion, _ in commit.forms:
        for of_criterion in (reader.scores, reader.levels, reader.image_scores):
            _tried(faults, lambda f=of_criterion, criterion=criterion: f(commit, criterion))
    with suppress(QueryError):
        unit = _tried(faults, lambda: atlas.layer(commit.layer).unit(commit.unit))
        if unit is not None:
            _tried(faults, lambda: unit.top_images().to_pylist())
            _tried(faults, lambda: unit.circuit(keep=0.3).by_convolution())


def _tried(faults, read):  # type: ignore[no-untyped-def]
    """What is read; None, and the error kept, where it is refused. A question that has no answer is
    no fault."""
    try:
        return read()
    except QueryError:
        return None
    except AtlasError as error:
        faults.append(error)
        return None
