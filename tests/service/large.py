"""An atlas of a thousand units, for speed: `python -m tests.service.large FOLDER [UNITS]`.

Invented numbers of realistic shapes, written through the store's own writer: 19,744 kernels that
can reach each unit, twelve fractions, two criteria, ten top images out of sixty, real pictures.
Units come in families of like circuits, and every second one has two groups of images.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from circuit_atlas.jobs.circuits.masks import nested_masks
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
    Split,
    SubfeatureRow,
)
from circuit_atlas.storage_schema.template import Plan, create
from circuit_atlas.storage_schema.version import SCHEMA_VERSION
from circuit_atlas.storage_schema.wiring import IMAGE, Stretch, Wiring
from circuit_atlas.storage_schema.writer import Writer
from tests.stored_images import store_images

LAYER = "head"
FRACTIONS = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002, 0.001)
SIDE = 96
MAP = 12
IMAGE_COUNT, SCORING, TOP = 60, 48, 10
FAMILIES = 40

# Name, output and input channels, kernel size, depth; three fire modules between stem and head.
_PARTS = (
    ("stem", 64, 3, 3, 1),
    ("fire1.squeeze", 16, 64, 1, 2),
    ("fire1.expand1x1", 64, 16, 1, 3),
    ("fire1.expand3x3", 64, 16, 3, 3),
    ("fire2.squeeze", 32, 128, 1, 4),
    ("fire2.expand1x1", 128, 32, 1, 5),
    ("fire2.expand3x3", 128, 32, 3, 5),
    ("fire3.squeeze", 16, 256, 1, 6),
)
_WIRES = (
    (0, 0, 3, IMAGE),
    (1, 0, 64, 0),
    (2, 0, 16, 1),
    (3, 0, 16, 1),
    (4, 0, 64, 2),
    (4, 64, 64, 3),
    (5, 0, 32, 4),
    (6, 0, 32, 4),
    (7, 0, 128, 5),
    (7, 128, 128, 6),
    (8, 0, 16, 7),
)


def write_large(folder: Path, units: int = 1000, *, processes: int = 2) -> None:
    """Write the atlas: its layout in this process, and its units in several or, where `processes`
    is 1, in this one as well."""
    objects = open_store(folder, create=True)
    layer = _layer(units)
    plan = Plan(((LAYER, tuple(range(units))),))
    create(objects, _header(), [layer], plan=plan, **_images(objects))
    network.store(objects, layer, partial(_network, layer))
    if processes == 1:
        _write_units(folder, units, range(units))
        return
    blocks = [range(first, units, processes) for first in range(processes)]
    # zarr runs a thread of its own, so a forked process could wait for ever.
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        list(pool.map(partial(_write_units, folder, units), blocks))


def _write_units(folder: Path, units: int, numbers: range) -> None:
    header, layer = _header(), _layer(units)
    writer = Writer(open_store(folder), header, layer)
    families = np.random.default_rng(0).gamma(0.3, size=(FAMILIES, layer.index.size))
    for number in numbers:
        writer.commit(_record(header, layer, number, families))


def _header() -> AtlasHeader:
    spec = canonical({"model": {"reference": "large"}, "circuits": {"response": "sum_abs"}})
    return AtlasHeader(
        schema=SCHEMA_VERSION,
        model="large.models:invented",
        weights_sha256=sha256(b"weights"),
        images_sha256=sha256(b"images"),
        spec_sha256=sha256(spec.encode()),
        spec=spec,
        criteria=("actgrad", "random"),
        image_criteria=("actgrad",),
        fractions=FRACTIONS,
        ablations=("zero",),
        response="sum_abs",
        top_images=TOP,
        seed=0,
        versions=(("circuit-atlas", "0.1.0"),),
        input_height=SIDE,
        input_width=SIDE,
    )


def _layer(units: int) -> LayerIndex:
    parts = [
        Convolution(name, f"{name}.weight", out, into, 1, (size, size), depth, one_row=False)
        for name, out, into, size, depth in _PARTS
    ]
    parts.append(Convolution(LAYER, f"{LAYER}.weight", units, 16, 1, (3, 3), 7, one_row=True))
    infos = tuple(UnitInfo(number, str(number), None, (number,)) for number in range(units))
    return LayerIndex(LAYER, units, MAP, MAP, KernelIndex(tuple(parts)), infos)


def _network(layer: LayerIndex) -> NetworkRecord:
    generator = np.random.default_rng(1)
    stretches = [Stretch(*wire, 0, "alone") for wire in (*_WIRES, (9, 0, layer.channels, 8))]
    weights = tuple(
        generator.normal(size=(c.out_channels, c.in_channels, *c.kernel_size)).astype(np.float32)
        for c in layer.index.convolutions
    )
    crops = [
        (convolution, channel, rank)
        for convolution in layer.index.convolutions
        for channel in range(convolution.out_channels)
        for rank in range(network.TOP_CROPS)
    ]
    reach = [min(SIDE, 8 * convolution.depth) for convolution, _, _ in crops]
    tops, lefts = ([int(generator.integers(0, SIDE - r + 1)) for r in reach] for _ in range(2))
    return NetworkRecord(
        wiring=Wiring(tuple(stretches)),
        weights=weights,
        channels=CHANNELS.from_columns(
            {
                "convolution": [convolution.name for convolution, _, _ in crops],
                "channel": [channel for _, channel, _ in crops],
                "rank": [rank for _, _, rank in crops],
                "image": generator.integers(0, SCORING, len(crops)),
                "maximum": [4.0 - rank for _, _, rank in crops],
                "position_y": generator.integers(0, MAP, len(crops)),
                "position_x": generator.integers(0, MAP, len(crops)),
                "box_top": tops,
                "box_left": lefts,
                "box_bottom": [top + r for top, r in zip(tops, reach, strict=True)],
                "box_right": [left + r for left, r in zip(lefts, reach, strict=True)],
            }
        ),
    )


def _images(objects: Objects) -> dict[str, Any]:
    pictures = [_picture(number) for number in range(IMAGE_COUNT)]
    return store_images(
        objects,
        {
            "id": range(IMAGE_COUNT),
            "name": [f"picture_{number:02}.jpg" for number in range(IMAGE_COUNT)],
            "label": [
                ("cat", "dog", "tower", "coral", "bridge")[n % 5] for n in range(IMAGE_COUNT)
            ],
            "split": ["scoring" if n < SCORING else "held_out" for n in range(IMAGE_COUNT)],
            "sha256": [sha256(picture) for picture in pictures],
            "width": [SIDE] * IMAGE_COUNT,
            "height": [SIDE] * IMAGE_COUNT,
            "mode": ["RGB"] * IMAGE_COUNT,
            "problem": [None] * IMAGE_COUNT,
        },
        pictures,
    )


def _picture(number: int) -> bytes:
    """Stripes and a disc: of other colours, directions and places for each number."""
    generator = np.random.default_rng(number)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    angle, width = generator.uniform(0, np.pi), generator.uniform(3, 12)
    wave = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) / width)
    ends = generator.integers(0, 256, (3, 3))
    pixels = ends[0] + (ends[1] - ends[0]) * (wave[..., None] + 1) / 2
    y, x = generator.integers(20, SIDE - 20, 2)
    pixels[(rows - y) ** 2 + (columns - x) ** 2 < 300] = ends[2]
    data = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(data, "JPEG")
    return data.getvalue()


def _record(
    header: AtlasHeader, layer: LayerIndex, number: int, families: NDArray[np.float64]
) -> CircuitRecord:
    generator = np.random.default_rng([2, number])
    size = layer.index.size
    # A family's profile, and another one's that half of its images share where there are two.
    several = 1 + number % 2
    profiles = families[[number % FAMILIES, (7 * number + 3) % FAMILIES]]
    groups = [min(n // 6, several - 1) for n in range(TOP)]
    noise = np.exp(0.4 * generator.standard_normal((TOP, size), dtype=np.float32))
    image_scores = (profiles[groups] * noise).astype(np.float32)
    scores = image_scores.mean(axis=0, dtype=np.float64).astype(np.float32)
    floor = generator.random(size, dtype=np.float32)
    criteria = (
        CriterionRecord("actgrad", scores[None], nested_masks(scores, FRACTIONS), image_scores),
        CriterionRecord("random", floor[None], nested_masks(floor, FRACTIONS), None),
    )
    responses = _responses(generator)
    top = [row.image for row in sorted(responses, key=_rank) if row.rank is not None]
    kept = [kernels_kept(fraction, size) for fraction in FRACTIONS]
    share = generator.uniform(-1, 1, size).astype(np.float32)
    full = {row.image: row.response for row in responses}
    rungs = list(enumerate(zip(FRACTIONS, kept, strict=True)))
    faithful = generator.uniform(0.5, 3)
    return CircuitRecord(
        key=UnitKey(header.model, LAYER, number),
        state="done",
        kernels=size,
        criteria=criteria,
        responses=responses,
        faithfulness=tuple(_faithfulness(faithful, kept)),
        subfeatures=tuple(
            SubfeatureRow(
                "actgrad", "zero", "sum_abs", image, rung, f, k, f**0.2, f**0.3, 1 - f, -f
            )
            for image in top
            for rung, (f, k) in rungs
        ),
        compute_s=1.0,
        contribution=scores * share,
        response_maps=generator.standard_normal((TOP, MAP, MAP), dtype=np.float32),
        groups=tuple(
            GroupRow("actgrad", image, group, several, 0.5 if several > 1 else None)
            for image, group in zip(top, groups, strict=True)
        ),
        contrast=tuple(
            ContrastRow(
                "actgrad",
                "zero",
                group,
                rung,
                f,
                k,
                image,
                groups[n] == group,
                full[image] * f ** (0.1 if groups[n] == group else 0.5),
                full[image],
            )
            for group in range(several if several > 1 else 0)
            for rung, (f, k) in rungs
            for n, image in enumerate(top)
        ),
    )


def _rank(row: ResponseRow) -> int:
    return TOP if row.rank is None else row.rank


def _responses(generator: np.random.Generator) -> tuple[ResponseRow, ...]:
    strength = generator.gamma(2, 50, IMAGE_COUNT)
    order = np.argsort(-strength[:SCORING])[:TOP].tolist()
    places = generator.integers(0, MAP, (IMAGE_COUNT, 2)).tolist()
    return tuple(
        ResponseRow(
            image=image,
            split=_split(image),
            response=float(strength[image]),
            maximum=float(strength[image]) / 20,
            position_y=y,
            position_x=x,
            box_top=max(0, 8 * y - 24),
            box_left=max(0, 8 * x - 24),
            box_bottom=min(SIDE, 8 * y + 32),
            box_right=min(SIDE, 8 * x + 32),
            rank=order.index(image) if image in order else None,
        )
        for image, (y, x) in enumerate(places)
    )


def _split(image: int) -> Split:
    return "scoring" if image < SCORING else "held_out"


def _faithfulness(strength: float, kept: Sequence[int]) -> Iterator[FaithfulnessRow]:
    """r falls with the fraction: slowly for `actgrad`, at once for `random`."""
    splits: tuple[tuple[Split, int], ...] = (
        ("scoring", SCORING),
        ("held_out", IMAGE_COUNT - SCORING),
    )
    for criterion, fall in (("actgrad", 0.2 / strength), ("random", 2.0)):
        for split, images in splits:
            for rung, (f, k) in enumerate(zip(FRACTIONS, kept, strict=True)):
                r = f ** (fall * (1 if split == "scoring" else 1.2))
                yield FaithfulnessRow(
                    criterion, "zero", split, "sum_abs", images, rung, f, k, r, r, 1 - r, r - 1
                )


if __name__ == "__main__":
    write_large(Path(sys.argv[1]), *(int(units) for units in sys.argv[2:]))
