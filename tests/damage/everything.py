"""A tiny atlas of invented numbers that has every kind of file, some of them several times.

Layer `body.3`: units 0 to 3 are done and 4 is dead, all of them sealed; 5 is done since, 6 failed
twice. Layer `head`, with two directions from a file: 0 and the first direction are done, nothing is
sealed. Of units 0 and 1, an earlier attempt is left that no record names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from circuit_atlas.storage_schema import (
    heartbeat,
    layer_paths,
    layout,
    network,
    response_paths,
    responses,
    visualization_paths,
)
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.directions import Directions
from circuit_atlas.storage_schema.documents import seal, sha256
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex, UnitInfo
from circuit_atlas.storage_schema.heartbeat import Activity, Heartbeat
from circuit_atlas.storage_schema.image_table import IMAGES
from circuit_atlas.storage_schema.kernels import Convolution, KernelIndex
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.network_tables import CHANNELS
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.pixel_chunks import checksum, put_chunk
from circuit_atlas.storage_schema.pixels import PixelForm, PixelsRecord
from circuit_atlas.storage_schema.records import CircuitRecord, FailureRecord, GroupRow
from circuit_atlas.storage_schema.response_tables import CHUNK, DISTRIBUTIONS, STEPS
from circuit_atlas.storage_schema.sample import Drawn, Sample
from circuit_atlas.storage_schema.stability import DRAWS, bootstrap
from circuit_atlas.storage_schema.template import Plan, create
from circuit_atlas.storage_schema.unit_tables import IMAGE_SUMS
from circuit_atlas.storage_schema.visualization_plan import VisualizationPlan
from circuit_atlas.storage_schema.visualizations import FeatureWriter
from circuit_atlas.storage_schema.writer import Writer
from tests.service.conftest import NAMES, make_header, make_network, make_record
from tests.service.conftest import responses as rows
from tests.storage_schema.visualization_records import picture_record

CHUNK_IMAGES = 3
SIDE = 8
SEALED, OPEN = "body.3", "head"

_CONV1 = Convolution("conv1", "conv1.weight", 4, 3, 1, (1, 1), 1, one_row=False)
_BODY = Convolution(SEALED, f"{SEALED}.weight", 7, 4, 1, (1, 1), 2, one_row=True)
_HEAD = Convolution(OPEN, f"{OPEN}.weight", 3, 4, 1, (1, 1), 2, one_row=False)


@dataclass(frozen=True)
class Everything:
    """What was built.

    Attributes:
        folder: where it lies.
        left: paths of what an earlier attempt left, by the path of what counts.
    """

    folder: Path
    left: dict[str, str]


def build(folder: Path) -> Everything:
    """Write the atlas into a new folder."""
    objects = open_store(folder, create=True)
    header, body, head, directions = _header(), _body(), *_head()
    images, pixels = _images(objects)
    plan = Plan(((SEALED, tuple(range(7))), (OPEN, (0, 1))))
    parts = {"images": images, "pixels": pixels, "directions": {OPEN: directions}}
    labels = {OPEN: {0: "cat", 1: "dog"}}
    create(objects, header, [body, head], plan=plan, unit_labels=labels, **parts)
    more = Plan(((OPEN, (3,)),))
    labels = {OPEN: {0: "cat", 1: "wolf", 3: "edge"}, SEALED: {2: "bird"}}
    create(objects, header, [body, head], plan=more, unit_labels=labels, **parts)
    left: dict[str, str] = {}
    for layer, sets in ((body, [range(7)]), (head, [range(2), range(2, 5)])):
        network.store(objects, layer, partial(make_network, layer))
        for units in sets:
            _store_responses(objects, layer, units)
    writer = Writer(objects, header, head)
    for unit in (0, 3):
        left |= _commit_twice(objects, writer, _record(header, head, unit), unit=unit)
    writer = Writer(objects, header, body)
    for unit in range(4):
        left |= _commit_twice(objects, writer, _record(header, body, unit), unit=unit)
    key = UnitKey(header.model, SEALED, 4)
    writer.commit(CircuitRecord(key, "dead", 16, (), rows(), (), (), 0.5))
    compact(objects, header, body)
    compact(objects, header, body, anew=True)
    writer.commit(_record(header, body, 5))
    for message in ("NaN in its response to image 1", "NaN in its response to image 2"):
        key = UnitKey(header.model, SEALED, 6)
        writer.fail(FailureRecord(key, "non_finite", message, "trace"))
    left |= _visualize(objects, header)
    _note(objects)
    return Everything(folder, left)


def _header() -> AtlasHeader:
    return replace(
        make_header(),
        redrawn=(("actgrad", DRAWS),),
        grouped=("magnitude",),
        sample=Sample(Drawn(2, 1), None),
        input_height=SIDE,
        input_width=SIDE,
    )


def _body() -> LayerIndex:
    units = tuple(UnitInfo(n, str(n), None, (n,)) for n in range(7))
    return LayerIndex(SEALED, 7, 2, 2, KernelIndex((_CONV1, _BODY)), units)


def _head() -> tuple[LayerIndex, Directions]:
    vectors = np.array([[1, -1, 0.5], [0, 2, 1]], np.float32)
    directions = Directions(("edge", "spot"), vectors, np.array([0.5, 0], np.float32), "relu")
    units = tuple(UnitInfo(n, str(n), None, ()) for n in range(3))
    named = tuple(UnitInfo(3 + n, name, None, ()) for n, name in enumerate(directions.names))
    index = LayerIndex(OPEN, 3, 2, 2, KernelIndex((_CONV1, _HEAD)), units + named)
    return replace(index, directions=directions.record()), directions


def _images(objects: Objects) -> tuple[object, PixelsRecord]:
    """The table of images, and where their pixels lie: three images a chunk."""
    values = np.random.default_rng(0).integers(0, 256, (len(NAMES), 3, SIDE, SIDE), np.uint8)
    out = [name == "cut.jpg" for name in NAMES]
    chunks = tuple(
        put_chunk(objects, values[start : start + CHUNK_IMAGES])
        for start in range(0, len(values), CHUNK_IMAGES)
    )
    table = IMAGES.from_columns(
        {
            "id": range(len(NAMES)),
            "name": NAMES,
            "label": ["cat", None, "dog", "dog", "cat", None],
            "split": ["scoring"] * 4 + ["held_out", "left_out"],
            "sha256": [sha256(name.encode()) for name in NAMES],
            "width": [None if one else 40 for one in out],
            "height": [None if one else 50 for one in out],
            "mode": [None if one else "RGB" for one in out],
            "problem": ["it is cut" if one else None for one in out],
            "place": range(len(NAMES)),
            "pixels_crc32c": [
                None if one else checksum(value) for one, value in zip(out, values, strict=True)
            ],
        }
    )
    form = PixelForm("uint8", (3, SIDE, SIDE), False, 255)
    return table, PixelsRecord(form, (0.0,) * 3, (1.0,) * 3, CHUNK_IMAGES, chunks)


def _record(header: AtlasHeader, layer: LayerIndex, unit: int) -> CircuitRecord:
    """A unit's record with stability, circuits of groups, sums and images of its own."""
    made = make_record(header, layer, unit)
    groups = tuple(row for row in made.groups if row.criterion == "actgrad")
    count = max(row.group for row in groups) + 1
    criteria = []
    for one in made.criteria:
        if one.name == "actgrad":
            assert one.image_scores is not None
            counts = bootstrap(one.image_scores, header.fractions, seed=0)
            one = replace(one, stability=counts)
        if one.name == "magnitude" and count > 1:
            levels = np.stack([one.masks.sum(0, dtype=np.uint8)] * count)
            one = replace(one, group_levels=levels)
        criteria.append(one)
    grouped = tuple(
        GroupRow("magnitude", row.image, row.group, row.groups, row.silhouette) for row in groups
    )
    drawn = tuple(
        replace(row, drawn="random" if row.image == 1 else "top") if row.split == "scoring" else row
        for row in made.responses
    )
    sums = [
        {
            "criterion": criterion,
            "ablation": ablation,
            "split": row.split,
            "rung": level,
            "image": row.image,
            "positions": 4,
            **{name: float(unit + level + row.image) for name in _SUMS},
        }
        for criterion in header.criteria
        for ablation in header.ablations
        for level in range(len(header.fractions))
        for row in drawn
    ]
    return replace(
        made,
        criteria=tuple(criteria),
        groups=groups + grouped,
        responses=drawn,
        image_sums=IMAGE_SUMS.from_columns({name: [row[name] for row in sums] for name in sums[0]}),
    )


_SUMS = ("circuit", "full", "circuit_squares", "full_squares", "products")


def _commit_twice(
    objects: Objects, writer: Writer, record: CircuitRecord, *, unit: int
) -> dict[str, str]:
    """Commit a unit; of units 0 and 1 first by an attempt of which nothing counts any more. Paths
    of what that left, by the path of what counts."""
    layer, earlier = record.key.layer, ()
    path = layer_paths.commit(layer, unit)
    if unit < 2:
        assert record.contribution is not None
        assert record.response_maps is not None
        writer.commit(
            replace(
                record,
                contribution=-record.contribution,
                response_maps=-record.response_maps,
                criteria=tuple(replace(one, scores=one.scores * 2) for one in record.criteria),
                responses=tuple(replace(row, maximum=2.0) for row in record.responses),
                faithfulness=tuple(replace(row, pearson=0.25) for row in record.faithfulness),
                compute_s=2.5,
            )
        )
        earlier = _paths(objects, path)
        objects.delete([path])
    writer.commit(record)
    return dict(zip(_paths(objects, path), earlier, strict=False))


def _paths(objects: Objects, path: str) -> tuple[str, ...]:
    return tuple(
        stored.path for stored in Commit.stored_at(objects, path, objects.get(path)).objects
    )


def _store_responses(objects: Objects, layer: LayerIndex, units: Sequence[int]) -> None:
    """What all images do to some units: two chunks, the table, and crops of channels by chunk."""
    key = responses.key_of(units)
    rng = np.random.default_rng([len(units), units[0]])
    for chunk in range(2):
        table = CHUNK.from_columns(
            {
                "image": [3 * chunk + n for n in range(2)],
                "responses": [rng.random(len(units)).astype(np.float32) for _ in range(2)],
                "positions": [rng.integers(0, 4, len(units)).astype(np.int32) for _ in range(2)],
            }
        )
        responses.put_chunk(objects, layer.layer, key, chunk, CHUNK.to_parquet(table))
        crops = make_network(layer).channels.slice(chunk)
        data = CHANNELS.to_parquet(crops)
        responses.put_chunk(objects, layer.layer, response_paths.CHANNELS_OF_CHUNKS, chunk, data)
    top = {
        f"{split}_{what}": [[n] for n in range(len(units))]
        for split in ("scoring", "held_out")
        for what in ("images", "responses", "positions")
    }
    counts = [rng.integers(0, 3, STEPS).tolist() for _ in units]
    found = DISTRIBUTIONS.from_columns(
        {
            "unit": list(units),
            "images": [5] * len(units),
            "mean": rng.random(len(units)),
            "sd": rng.random(len(units)),
            "low": rng.random(len(units)),
            "high": 1 + rng.random(len(units)),
            "counts": counts,
            **top,
        }
    )
    responses.put_distributions(objects, layer.layer, list(units), found)


def _visualize(objects: Objects, header: AtlasHeader) -> dict[str, str]:
    """Visualizations of units of both layers and of channels; one unit's failed twice."""
    writer = FeatureWriter(objects)
    both = ("negative", "positive")
    writer.plan(VisualizationPlan.of([(SEALED, "unit", n, both) for n in (0, 1, 2)]))
    asked = [(OPEN, "unit", 1, both), ("conv1", "channel", 2, ("positive",))]
    writer.plan(VisualizationPlan.of(asked))
    left = {}
    for layer, unit in ((SEALED, 0), (SEALED, 1), (OPEN, 1), ("conv1", 2)):
        for variant in both if layer != "conv1" else ("positive",):
            record = replace(picture_record(layer, unit, variant=variant), model=header.model)
            path = visualization_paths.visualization(layer, unit, variant)
            other = writer.commit(record, f"earlier {layer} {unit} {variant}".encode())
            objects.delete([path])
            made = writer.commit(
                replace(record, response=3.0), f"{layer} {unit} {variant}".encode()
            )
            left[made.image.path] = other.image.path
    for message in ("it diverged", "it diverged again"):
        writer.fail(FailureRecord(UnitKey(header.model, SEALED, 2), "unit", message, "trace"))
    return left


def _note(objects: Objects) -> None:
    """What decides no number: records of prepared images, and heartbeats."""
    for source in (sha256(b"one"), sha256(b"two")):
        for chunk in range(2):
            image = {"sha256": sha256(b"image"), "width": 40, "height": 50, "mode": "RGB"}
            image |= {"problem": None, "pixels_crc32c": chunk}
            data = f"{source} {chunk}".encode()
            stored = {"path": layout.pixels(sha256(data)), "size_bytes": len(data)}
            record = {
                "source": source,
                "chunk": chunk,
                "images": [image],
                "low": [0.0] * 3,
                "high": [1.0] * 3,
                "objects": [stored | {"sha256": sha256(data)}],
            }
            objects.put(stored["path"], data)
            objects.put(layout.prepared_chunk(source, chunk), seal(record).encode())
        whole = {"source": source, "images_sha256": sha256(b"images"), "passed_over": {".txt": 2}}
        objects.put(layout.prepared_whole(source), seal(whole).encode())
    for worker in ("machine-1-abcd", "machine-2-efgh"):
        at = Activity(SEALED, "unit", (0, 1), "scores", 1, 2, "images")
        beat = Heartbeat(worker, "units", 1.0, 2.0, 3.0, units=2, ended=0, failed=0, activity=at)
        heartbeat.write(objects, beat)
