"""Atlases of one layer with a wiring and scores that a test chooses, written by the real writer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from circuit_atlas.jobs.circuits.masks import nested_masks
from circuit_atlas.service import Atlas
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.storage_schema import network
from circuit_atlas.storage_schema.documents import canonical, sha256
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex, UnitInfo
from circuit_atlas.storage_schema.kernels import Convolution, KernelIndex
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.network_tables import CHANNELS
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.records import (
    CircuitRecord,
    CriterionRecord,
    FaithfulnessRow,
    GroupRow,
    ResponseRow,
)
from circuit_atlas.storage_schema.template import Plan, create
from circuit_atlas.storage_schema.version import SCHEMA_VERSION
from circuit_atlas.storage_schema.wiring import Stretch, Wiring
from circuit_atlas.storage_schema.writer import Writer
from tests.stored_images import store_images

IMAGE_COUNT = 4
SIZE = 32


@dataclass(frozen=True)
class Planted:
    """One layer, and the scores of each of its units on the layer's kernel axis.

    `stretches` are rows of (into, start, channels, source, source_start, joined).
    """

    convolutions: tuple[Convolution, ...]
    stretches: tuple[tuple[int, int, int, int, int, str], ...]
    scores: dict[int, np.ndarray]
    layer: str = "target"
    channels: int = 1
    directions: tuple[tuple[str, tuple[float, ...]], ...] = ()
    fractions: tuple[float, ...] = (1.0, 0.5, 0.25, 0.1)
    criteria: tuple[str, ...] = ("actgrad",)
    rows: tuple[int, ...] | None = None
    contribution: dict[int, np.ndarray] = field(default_factory=dict)
    pictures: tuple[bytes, ...] = ()


def conv(name: str, out: int, inputs: int, depth: int, **more: object) -> Convolution:
    """A convolution of 3 x 3 kernels, one group, all rows on the axis."""
    settings = {"groups": 1, "kernel_size": (3, 3), "one_row": False, **more}
    return Convolution(
        name,
        f"{name}.weight",
        out,
        inputs,
        depth=depth,
        **settings,  # type: ignore[arg-type]
    )


def picture(number: int) -> bytes:
    """A JPEG of SIZE x SIZE pixels in a colour of its own."""
    colours = [(200, 60, 60), (60, 160, 60), (60, 80, 200), (190, 170, 40)]
    data = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), colours[number % 4]).save(data, "JPEG")
    return data.getvalue()


def plant(location: Path, planted: Planted) -> Atlas:
    """Write the atlas, and open it."""
    pictures = planted.pictures or tuple(picture(n) for n in range(IMAGE_COUNT))
    index = KernelIndex(planted.convolutions)
    owned = sum(c.one_row for c in planted.convolutions)
    units = [UnitInfo(n, str(n), None, (n,) * owned) for n in range(planted.channels)]
    units += [
        UnitInfo(planted.channels + n, name, direction, ())
        for n, (name, direction) in enumerate(planted.directions)
    ]
    layer = LayerIndex(planted.layer, planted.channels, 6, 6, index, tuple(units))
    spec = canonical({"model": {"reference": "planted"}})
    with Image.open(io.BytesIO(pictures[0])) as first:
        width, height = first.size
    header = AtlasHeader(
        schema=SCHEMA_VERSION,
        model="toy.models:planted",
        weights_sha256=sha256(b"weights"),
        images_sha256=sha256(b"images"),
        spec_sha256=sha256(spec.encode()),
        spec=spec,
        criteria=planted.criteria,
        image_criteria=tuple(c for c in planted.criteria if c == "actgrad"),
        fractions=planted.fractions,
        ablations=("zero",),
        response="sum_abs",
        top_images=3,
        seed=0,
        versions=(("numpy", np.__version__),),
        input_height=height,
        input_width=width,
    )
    objects = open_store(location, create=True)
    plan = Plan(((planted.layer, tuple(planted.scores)),))
    create(objects, header, [layer], plan=plan, **_images(objects, pictures, width, height))
    network.store(objects, layer, lambda: _network(planted, len(pictures), (height, width)))
    writer = Writer(objects, header, layer)
    for unit in planted.scores:
        writer.commit(_record(planted, header, layer, unit))
    return Atlas.open(location)


def unit_of(location: Path, planted: Planted, which: int | str = 0) -> Unit:
    """A unit of a planted atlas."""
    return plant(location, planted).layer(planted.layer).unit(which)


def _images(objects: Objects, pictures: Sequence[bytes], width: int, height: int) -> dict[str, Any]:
    count = len(pictures)
    return store_images(
        objects,
        {
            "id": range(count),
            "name": [f"{n}.jpg" for n in range(count)],
            "label": [f"thing <{n}>" for n in range(count)],
            "split": ["scoring"] * count,
            "sha256": [sha256(data) for data in pictures],
            "width": [width] * count,
            "height": [height] * count,
            "mode": ["RGB"] * count,
            "problem": [None] * count,
        },
        pictures,
    )


def weights_of(planted: Planted) -> tuple[np.ndarray, ...]:
    """The weights that are stored of each convolution."""
    rng = np.random.default_rng(7)
    return tuple(
        rng.normal(size=(c.out_channels, c.in_channels, *c.kernel_size)).astype(np.float32)
        for c in planted.convolutions
    )


def _network(planted: Planted, images: int, size: tuple[int, int]) -> network.NetworkRecord:
    rows = []
    for convolution in planted.convolutions:
        reach = min(size[0], 3 + 12 * convolution.depth)
        for channel in range(convolution.out_channels):
            for rank in range(min(4, images)):
                top = (7 * channel + 3 * rank) % (size[0] - reach + 1)
                left = (5 * channel + 11 * rank) % (size[1] - reach + 1)
                rows.append(
                    {
                        "convolution": convolution.name,
                        "channel": channel,
                        "rank": rank,
                        "image": (channel + rank) % images,
                        "maximum": 3.0 - rank,
                        "position_y": 0,
                        "position_x": 0,
                        "box_top": top,
                        "box_left": left,
                        "box_bottom": top + reach,
                        "box_right": left + reach,
                    }
                )
    table = CHANNELS.from_columns({name: [row[name] for row in rows] for name in rows[0]})
    wiring = Wiring(tuple(Stretch(*row) for row in planted.stretches))
    return network.NetworkRecord(wiring, weights_of(planted), table)


def _record(planted: Planted, header: AtlasHeader, layer: LayerIndex, unit: int) -> CircuitRecord:
    scores = planted.scores[unit].astype(np.float32)
    count = int((~np.isnan(scores)).sum())
    rng = np.random.default_rng(unit)
    top = np.stack([scores * rng.uniform(0.5, 1.5, len(scores)).astype(np.float32)] * 3)
    criteria = []
    for name in header.criteria:
        runs = header.runs(name)
        found = np.stack([np.roll(scores, run if name == "force" else 0) for run in range(runs)])
        found[:, np.isnan(scores)] = np.nan
        masks = np.stack(
            [nested_masks(found[n % runs], (f,))[0] for n, f in enumerate(header.fractions)]
        )
        given = top if name in header.image_criteria else None
        criteria.append(CriterionRecord(name, found, masks, given))
    rows = tuple(
        ResponseRow(image, "scoring", 9.0 - rank, 1.0, 1, 1, 2, 3, SIZE - 4, SIZE - 2, rank)
        for rank, image in enumerate((2, 0, 1))
    )
    faithfulness = tuple(
        FaithfulnessRow(
            name, "zero", "scoring", "sum_abs", 3, rung, f, int(masks.sum()), 0.5, 0.5, 0.5, 0.0
        )
        for name, record in ((c.name, c) for c in criteria)
        for rung, (f, masks) in enumerate(zip(header.fractions, record.masks, strict=True))
    )
    signed = planted.contribution.get(unit, np.where(np.arange(len(scores)) % 3, 1, -1) * scores)
    return CircuitRecord(
        UnitKey(header.model, layer.layer, unit),
        "done",
        count,
        tuple(criteria),
        rows,
        faithfulness,
        (),
        1.0,
        contribution=signed.astype(np.float32),
        response_maps=np.ones((3, 6, 6), np.float32),
        groups=tuple(
            GroupRow(name, image, 0, 1, None)
            for name in header.image_criteria
            for image in (2, 0, 1)
        ),
    )
