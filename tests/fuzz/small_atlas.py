"""A small atlas that has every kind of document, and what programs do that read each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.storage_schema import (
    heartbeat,
    labels,
    layer_paths,
    layout,
    network,
    response_paths,
    responses,
    row_groups,
    sealed,
    visualization_paths,
)
from circuit_atlas.storage_schema.claim import Claim
from circuit_atlas.storage_schema.commit import Commit, Failure, NamedObjects
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.errors import AtlasError, CorruptError, QueryError
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.heartbeat import Activity, Heartbeat
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.labels import UnitLabels
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.pixels import ImagesRecord
from circuit_atlas.storage_schema.prepared import PreparedChunk, PreparedImage, PreparedSource
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.response_tables import DISTRIBUTIONS, STEPS
from circuit_atlas.storage_schema.responses import ResponsesRecord
from circuit_atlas.storage_schema.row_groups import Block
from circuit_atlas.storage_schema.sealed import Manifest
from circuit_atlas.storage_schema.template import Plan, check_same, create
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.visualization_plan import VisualizationPlan
from circuit_atlas.storage_schema.visualizations import FeatureRecord, FeatureWriter
from circuit_atlas.storage_schema.wiring import Wiring
from circuit_atlas.storage_schema.writer import Writer
from tests.storage_schema.conftest import (
    make_header,
    make_images,
    make_layer,
    make_network,
    make_record,
)
from tests.storage_schema.sealing import LAYER, widened
from tests.storage_schema.visualization_records import picture_record

SEALED_COMMIT = "commit record, sealed"
_UNITS = 6
_SEALED_UNIT = 2
_SOURCE = "ab" * 32


@dataclass(frozen=True)
class Kind:
    """Describes one kind of document.

    Attributes:
        path: where the small atlas has one.
        dataclass: what it is read as.
        read: what a program does that reads it.
        own_checksum: whether the checksum that it carries is looked at.
    """

    path: str
    dataclass: type[Any]
    read: Callable[[Objects], None]
    own_checksum: bool = True


def small_atlas(objects: Objects) -> dict[str, Kind]:
    """Make the atlas: its kinds of documents by their names."""
    header, layer = make_header(), widened(make_layer(LAYER, directions=0))
    plan = Plan(((LAYER, tuple(range(_UNITS))),))
    create(objects, header, [layer], plan=plan, **make_images(objects))
    network.store(objects, layer, lambda: make_network(layer))
    writer = Writer(objects, header, layer)
    for unit in range(_UNITS):
        writer.commit(make_record(header, layer, unit))
    failure = FailureRecord(UnitKey(header.model, LAYER, _UNITS), "unit", "message", "trace")
    writer.fail(failure)
    compact(objects, header, layer)
    labels.store(objects, LAYER, {0: "cat", 2: "dog"})
    responses.put_distributions(objects, LAYER, [0, 1], _distributions())
    features = FeatureWriter(objects)
    features.plan(VisualizationPlan.of([(LAYER, "unit", 0, ("positive",))]))
    features.commit(picture_record(LAYER, 0), b"an image")
    features.fail(failure)
    activity = Activity(LAYER, "unit", (1, 2), "scores", 1, 2)
    heartbeat.write(objects, Heartbeat("w", "units", 1.0, 2.0, 3.0, 8, 4, 1, activity))
    pixels = Reader(objects).pixels()
    image = PreparedImage(_SOURCE, 8, 8, "RGB", None, 5)
    prepared = PreparedChunk((image,), pixels.low, pixels.high, pixels.chunks)
    objects.put(layout.prepared_chunk(_SOURCE, 0), prepared.to_json().encode())
    objects.put(_claim(), Claim("b", "host", 5, 1.0).to_json().encode())
    source = PreparedSource(header.images_sha256, {".txt": 1})
    objects.put(layout.prepared_whole(_SOURCE), source.to_json().encode())
    return _kinds([entry.path for entry in objects.list()])


def sealed_commit(objects: Objects, record: bytes) -> dict[str, bytes]:
    """The files of a sealed generation in which a unit's commit record is another, as a hostile
    writer would make them."""
    newest = sealed.newest(objects, LAYER)
    assert newest is not None
    path = layer_paths.manifest(LAYER, newest)
    manifest = Manifest.from_json(objects.get(path), location=path)
    file = manifest.file(sealed.COMMITS.stored_name)
    schema = sealed.COMMITS.stored_schema
    rows = row_groups.read(objects, file, sealed.COMMITS, groups=[0])
    records = rows["record"].to_pylist()
    records[_SEALED_UNIT] = record
    column = rows.schema.get_field_index("record")
    rows = rows.set_column(column, schema.field("record"), pa.array(records, pa.binary()))
    data, new = row_groups.write(
        iter([Block(rows, 0, _UNITS - 1)]), schema, path=file.path, plain=["etag", "record"]
    )
    others = tuple(new if one.path == file.path else one for one in manifest.objects)
    return {file.path: data, path: replace(manifest, objects=others).to_json().encode()}


def _claim() -> str:
    return layout.claim("units", LAYER, "unit", 0)


def _distributions() -> pa.Table:
    lists = {
        f"{split}_{what}": [[0], [0]]
        for split in ("scoring", "held_out")
        for what in ("images", "responses", "positions")
    }
    numbers = {name: [1.0, 2.0] for name in ("mean", "sd", "low", "high")}
    return DISTRIBUTIONS.from_columns(
        {"unit": [0, 1], "images": [4, 4], **numbers, "counts": [[4] * STEPS] * 2, **lists}
    )


def _kinds(paths: list[str]) -> dict[str, Kind]:
    def one(is_one: Callable[[str], object]) -> str:
        return next(path for path in paths if is_one(path))

    def alone(parse: Callable[..., Any], path: str) -> Callable[[Objects], None]:
        return lambda objects: parse(objects.get(path), location=objects.at(path))

    failure = one(lambda path: layer_paths.failed_unit(path) is not None)
    labelling = one(lambda path: layer_paths.labelling(path) is not None)
    beating, whole = layout.heartbeat("w"), layout.prepared_whole(_SOURCE)
    chunk, asked = layout.prepared_chunk(_SOURCE, 0), one(visualization_paths.is_visualization_plan)
    sealed_at = layer_paths.commit(LAYER, _SEALED_UNIT)
    return {
        "header": Kind(layout.HEADER, AtlasHeader, _read_header),
        "layer index": Kind(layer_paths.layer_index(LAYER), LayerIndex, _read_index),
        "commit record": Kind(layer_paths.commit(LAYER, 1), Commit, _read_unit),
        SEALED_COMMIT: Kind(sealed_at, Commit, _read_layer, own_checksum=False),
        "failure record": Kind(failure, Failure, _read_build),
        "plan": Kind(one(layout.is_plan), Plan, _read_build),
        "labels": Kind(labelling, UnitLabels, _read_build),
        "images": Kind(layout.IMAGES_RECORD, ImagesRecord, _read_images),
        "network": Kind(layer_paths.network(LAYER), NamedObjects, _read_network),
        "wiring": Kind(layer_paths.wiring(LAYER), Wiring, _read_network),
        "responses": Kind(one(response_paths.is_responses), ResponsesRecord, _read_responses),
        "manifest": Kind(one(layer_paths.is_manifest), Manifest, _read_layer),
        "visualization": Kind(one(visualization_paths.visualized), FeatureRecord, _read_features),
        "visualization plan": Kind(asked, VisualizationPlan, _read_features),
        "heartbeat": Kind(beating, Heartbeat, alone(Heartbeat.from_json, beating)),
        "claim": Kind(_claim(), Claim, _read_claim),
        "prepared chunk": Kind(chunk, PreparedChunk, alone(PreparedChunk.from_json, chunk)),
        "prepared source": Kind(whole, PreparedSource, alone(PreparedSource.from_json, whole)),
    }


def _ask(*questions: Callable[[], object]) -> None:
    """Ask all, whatever becomes of the others; raise the first error of ours, but for what says
    that a question has no answer."""
    first: AtlasError | None = None
    for question in questions:
        try:
            question()
        except QueryError:
            continue
        except AtlasError as error:
            # Without what it was raised from, which holds the document each time.
            first = first or type(error)(str(error))
    if first is not None:
        raise first


def _verify(objects: Objects) -> None:
    for finding in verify(objects):
        if finding.harmful:
            raise CorruptError(finding.message)


def _read_claim(objects: Objects) -> None:
    # `str` tells a date; what cannot be read is passed over by builds.
    str(Claim.from_json(objects.get(_claim()), location=objects.at(_claim())))


def _read_header(objects: Objects) -> None:
    reader = Reader(objects)
    _ask(
        lambda: reader.header.spec_content["model"],
        lambda: check_same(reader.header, make_header()),
        lambda: Atlas(Reader(objects)).status(),
        lambda: _read_unit(objects),
        lambda: _read_layer(objects),
        lambda: _verify(objects),
    )


def _read_index(objects: Objects) -> None:
    _ask(
        lambda: Atlas(Reader(objects)).layer(LAYER).units(),
        lambda: _read_unit(objects),
        lambda: _read_layer(objects),
        lambda: _read_network(objects),
        lambda: _verify(objects),
    )


def _read_unit(objects: Objects) -> None:
    reader = Reader(objects)
    unit = Atlas(Reader(objects)).layer(LAYER).unit(1)
    commit = reader.commit(LAYER, 1)
    if commit is None:
        return
    _ask(
        lambda: unit.circuit(keep=0.2).by_convolution(),
        unit.top_images,
        unit.faithfulness,
        *(lambda name=name: reader.scores(commit, name) for name, _ in commit.forms),
        *(lambda name=name: reader.levels(commit, name) for name, _ in commit.forms),
        *(lambda name=name: reader.mask(commit, name, 0) for name, _ in commit.forms),
        *(lambda name=name: reader.image_scores(commit, name) for name, _ in commit.forms),
        *(lambda name=name: reader.stability(commit, name) for name, _ in commit.forms),
        lambda: reader.responses(commit),
        lambda: reader.subfeatures(commit),
        lambda: reader.groups(commit),
        lambda: reader.selectivity(commit),
        lambda: reader.contribution(commit),
        lambda: reader.response_maps(commit),
        commit.receipt,
    )


def _read_layer(objects: Objects) -> None:
    reader = Reader(objects)
    _ask(
        lambda: reader.commits(LAYER),
        lambda: reader.table(LAYER, "faithfulness"),
        lambda: reader.table(LAYER, "responses"),
        lambda: list(reader.masks(LAYER, "actgrad", 1)),
        lambda: reader.polysemanticity(LAYER, reader.commits(LAYER)),
        lambda: Atlas(Reader(objects)).layer(LAYER).units(),
    )


def _read_build(objects: Objects) -> None:
    reader = Reader(objects)
    _ask(
        reader.plan,
        reader.listings,
        lambda: reader.failures(LAYER),
        lambda: reader.labels(LAYER),
        lambda: Atlas(Reader(objects)).status(),
        lambda: Atlas(Reader(objects)).layer(LAYER).units(),
    )


def _read_images(objects: Objects) -> None:
    reader = Reader(objects)
    _ask(reader.images, reader.pixels, lambda: reader.jpegs([0, 1]), lambda: reader.jpegs([3]))


def _read_network(objects: Objects) -> None:
    reader = Reader(objects)
    _ask(
        lambda: reader.wiring(LAYER),
        lambda: reader.weights(LAYER),
        lambda: reader.channels(LAYER),
        lambda: Atlas(Reader(objects)).layer(LAYER).unit(1).circuit(keep=0.2).diagram(),
    )


def _read_responses(objects: Objects) -> None:
    reader = Reader(objects)
    _ask(lambda: reader.distribution(LAYER, 0), lambda: reader.distribution(LAYER, 5))


def _read_features(objects: Objects) -> None:
    reader = Reader(objects)
    _ask(
        lambda: reader.feature_variants(LAYER),
        lambda: [reader.visualization_image(r) for r in reader.feature_visualizations(LAYER, 0)],
        lambda: reader.feature_visualization(LAYER, 0, "positive"),
        reader.visualization_states,
    )
