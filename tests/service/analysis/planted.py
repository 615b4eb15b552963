"""Atlases whose circuits, scores and tables are chosen by a test, through the store's own writer.

The axis of layer `top` has 132 kernels of `wide` (more than a word of bits), then the unit's row of
a depthwise convolution and of the layer itself, which are one row to each unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from circuit_atlas.jobs.circuits.masks import nested_masks
from circuit_atlas.service import Atlas
from circuit_atlas.storage_schema import network
from circuit_atlas.storage_schema.documents import canonical, sha256
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex, UnitInfo
from circuit_atlas.storage_schema.kernels import Convolution, KernelIndex
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.network import NetworkRecord
from circuit_atlas.storage_schema.network_tables import CHANNELS
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.ranking import kernels_kept
from circuit_atlas.storage_schema.records import (
    CircuitRecord,
    ContrastRow,
    CriterionRecord,
    FaithfulnessRow,
    GroupRow,
    ResponseRow,
)
from circuit_atlas.storage_schema.template import Plan, create
from circuit_atlas.storage_schema.version import SCHEMA_VERSION
from circuit_atlas.storage_schema.wiring import Wiring
from circuit_atlas.storage_schema.writer import Writer
from tests.stored_images import store_images

FRACTIONS = (1.0, 0.5, 0.2, 0.1)
UNITS = 6
WIDE = Convolution("wide", "wide.weight", 12, 11, 1, (3, 3), 1, one_row=False)
DEPTHWISE = Convolution("deep", "deep.weight", 8, 1, 8, (3, 3), 2, one_row=True)
TOP = Convolution("top", "top.weight", UNITS, 9, 1, (1, 1), 3, one_row=True)
# Units 4 and 5 stand on the same rows, as two directions over the channels of one row would.
ROWS = ((0, 0), (1, 1), (2, 2), (3, 3), (7, 5), (7, 5))
SIZE = WIDE.size + DEPTHWISE.size + TOP.size


@dataclass(frozen=True)
class Planted:
    """One unit.

    Attributes:
        scores: per criterion (runs, SIZE).
        image_scores: per criterion (top images, SIZE), images 0, 1, ... by rank.
        responses: of the images 0, 1, ..., of which the first `len(image_scores)` are top images.
        r: per criterion, one value a rung, on both splits.
        groups: the group of each top image, by rank; one for all where not given.
        silhouette: of the groups.
        contrast: rows as they are stored.
    """

    scores: Mapping[str, np.ndarray]
    image_scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    responses: Sequence[float] = (1.0,)
    r: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    groups: Sequence[int] = ()
    silhouette: float | None = None
    contrast: Sequence[ContrastRow] = ()


def plant(
    location: Path,
    units: Mapping[int, Planted],
    *,
    images: int = 4,
    labels: Sequence[str | None] | None = None,
    top: int = 3,
    dead: Sequence[int] = (),
    schema: int = SCHEMA_VERSION,
) -> Atlas:
    """Write an atlas of one layer, `top`, with these units; the last image is held out."""
    first = next(iter(units.values()))
    header = _header(tuple(first.scores), tuple(first.image_scores), top=top, schema=schema)
    # Six more that no build asked for.
    infos = tuple(UnitInfo(n, str(n), None, rows) for n, rows in enumerate(ROWS * 2))
    layer = LayerIndex("top", len(infos), 4, 4, KernelIndex((WIDE, DEPTHWISE, TOP)), infos)
    objects = open_store(location, create=True)
    plan = Plan((("top", tuple(range(UNITS))),))
    create(objects, header, [layer], plan=plan, **_images(objects, images, labels))
    network.store(objects, layer, _network)
    writer = Writer(objects, header, layer)
    for number, unit in units.items():
        writer.commit(_record(header, number, unit, images=images))
    for number in dead:
        key = UnitKey(header.model, "top", number)
        rows = _responses((1.0,) * images, images=images, top=0)
        writer.commit(CircuitRecord(key, "dead", SIZE, (), rows, (), (), 0.5))
    return Atlas.open(location)


def random_scores(seed: int, *, runs: int = 1) -> np.ndarray:
    """Scores with ties, as real ones have where a kernel does nothing."""
    return np.random.default_rng(seed).integers(0, 40, (runs, SIZE)).astype(np.float32)


def _header(
    criteria: tuple[str, ...], image_criteria: tuple[str, ...], *, top: int, schema: int
) -> AtlasHeader:
    spec = canonical({"model": {"reference": "planted"}})
    return AtlasHeader(
        schema=schema,
        model="planted",
        weights_sha256=sha256(b"weights"),
        images_sha256=sha256(b"images"),
        spec_sha256=sha256(spec.encode()),
        spec=spec,
        criteria=criteria,
        image_criteria=image_criteria,
        fractions=FRACTIONS,
        ablations=("zero", "mean"),
        response="sum_abs",
        top_images=top,
        seed=0,
        versions=(),
        input_height=16,
        input_width=16,
    )


def _network() -> NetworkRecord:
    """No wiring and no crops; each weight is 1."""
    weights = tuple(
        np.ones((c.out_channels, c.in_channels, *c.kernel_size), np.float32)
        for c in (WIDE, DEPTHWISE, TOP)
    )
    none = {field.name: [] for field in CHANNELS.schema}
    return NetworkRecord(Wiring(()), weights, CHANNELS.from_columns(none))


def _images(objects: Objects, count: int, labels: Sequence[str | None] | None) -> dict[str, Any]:
    names = [f"image {n}.jpg" for n in range(count)]
    return store_images(
        objects,
        {
            "id": range(count),
            "name": names,
            "label": labels or [None] * count,
            "split": [_split(n, count) for n in range(count)],
            "sha256": [sha256(name.encode()) for name in names],
            "width": [16] * count,
            "height": [16] * count,
            "mode": ["RGB"] * count,
            "problem": [None] * count,
        },
        [np.zeros((16, 16, 3), np.uint8)] * count,
    )


def _split(image: int, count: int) -> str:
    return "held_out" if image == count - 1 else "scoring"


def _responses(values: Sequence[float], *, images: int, top: int) -> tuple[ResponseRow, ...]:
    return tuple(
        ResponseRow(
            n,
            _split(n, images),
            value,
            value / 2,
            1,
            2,
            n,
            0,
            n + 5,
            5,
            rank=n if n < top else None,
        )
        for n, value in enumerate(values)
    )


def _record(header: AtlasHeader, number: int, unit: Planted, *, images: int) -> CircuitRecord:
    criteria = []
    for name, scores in unit.scores.items():
        count = int((~np.isnan(scores[0])).sum())
        runs = [scores[rung if len(scores) > 1 else 0] for rung in range(len(FRACTIONS))]
        masks = np.stack(
            [nested_masks(run, (f,))[0] for run, f in zip(runs, FRACTIONS, strict=True)]
        )
        own = unit.image_scores.get(name)
        criteria.append(CriterionRecord(name, scores.astype(np.float32), masks, own))
    top = max((len(scores) for scores in unit.image_scores.values()), default=1)
    faithfulness = tuple(
        FaithfulnessRow(
            name,
            ablation,
            split,
            "sum_abs",
            1,
            rung,
            fraction,
            kernels_kept(fraction, count),
            None
            if value is None
            else value - (ablation == "mean") * 0.25 - (split == "scoring") * 0.125,
            0.5,
            0.25,
            -0.1,
            0.0 if value is None else 0.125,
            0.25,
        )
        for name, values in unit.r.items()
        for ablation in header.ablations
        for split in ("scoring", "held_out")
        for rung, (fraction, value) in enumerate(zip(FRACTIONS, values, strict=True))
    )
    of_group = unit.groups or (0,) * top
    groups = tuple(
        GroupRow(name, image, group, max(of_group) + 1, unit.silhouette)
        for name in unit.image_scores
        for image, group in reversed(list(enumerate(of_group)))
    )
    reach = np.where(np.isnan(scores[0]), np.nan, 0).astype(np.float32)
    return CircuitRecord(
        key=UnitKey(header.model, "top", number),
        state="done",
        kernels=count,
        criteria=tuple(criteria),
        responses=_responses(unit.responses, images=images, top=top),
        faithfulness=faithfulness,
        subfeatures=(),
        compute_s=1.0,
        contribution=reach,
        response_maps=np.zeros((top, 4, 4), np.float32),
        groups=groups,
        contrast=tuple(unit.contrast),
    )
