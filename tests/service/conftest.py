"""A small atlas of invented numbers, written through the store's own writer; no torch, no Ray.

Layer `conv3` (one row a unit): units 0, 1 and 2 are done, 3 is dead, 4 failed. Layer `conv2`, which
has a direction `edge` (unit 4) and so all its rows on the axis: 0, 1 and `edge` are done, 2 is
planned, 3 was never asked for. `conv2` is grouped: unit 0 reaches the first half of `conv1` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

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
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import (
    CircuitRecord,
    ContrastRow,
    CriterionRecord,
    FailureRecord,
    FaithfulnessRow,
    GroupRow,
    ResponseRow,
    SubfeatureRow,
)
from circuit_atlas.storage_schema.template import Plan, create
from circuit_atlas.storage_schema.version import SCHEMA_VERSION
from circuit_atlas.storage_schema.wiring import Stretch, Wiring
from circuit_atlas.storage_schema.writer import Writer
from tests.service.stores import object_store, served
from tests.stored_images import store_images

FRACTIONS = (1.0, 0.5, 0.1)
TOP = 3
NAMES = ("a.jpg", "b.jpg", "<b>.jpg", "d.jpg", "e.jpg", "cut.jpg")

CONV1 = Convolution("conv1", "conv1.weight", 8, 3, 1, (3, 3), 1, one_row=False)
CONV2 = Convolution("conv2", "conv2.weight", 4, 4, 2, (3, 3), 2, one_row=False)
CONV3 = Convolution("conv3", "conv3.weight", 5, 4, 1, (1, 1), 3, one_row=True)


def layer_conv3() -> LayerIndex:
    units = tuple(UnitInfo(n, str(n), None, (n,)) for n in range(5))
    return LayerIndex("conv3", 5, 6, 6, KernelIndex((CONV1, CONV2, CONV3)), units)


def layer_conv2() -> LayerIndex:
    channels = tuple(UnitInfo(n, str(n), None, ()) for n in range(4))
    edge = UnitInfo(4, "edge", (1.0, -1.0, 0.5, 0.0), ())
    return LayerIndex("conv2", 4, 8, 8, KernelIndex((CONV1, CONV2)), (*channels, edge))


def make_header(
    model: str = "toy.models:small", weights: bytes = b"weights", images: bytes = b"images"
) -> AtlasHeader:
    spec = canonical({"model": {"reference": model}, "circuits": {"response": "sum_abs"}})
    return AtlasHeader(
        schema=SCHEMA_VERSION,
        model=model,
        weights_sha256=sha256(weights),
        images_sha256=sha256(images),
        spec_sha256=sha256(spec.encode()),
        spec=spec,
        criteria=("actgrad", "force", "magnitude"),
        image_criteria=("actgrad",),
        fractions=FRACTIONS,
        ablations=("zero",),
        response="sum_abs",
        top_images=TOP,
        seed=0,
        versions=(("circuit-atlas", "0.1.0"), ("numpy", np.__version__)),
        input_height=32,
        input_width=32,
    )


def make_images(objects: Objects) -> dict[str, Any]:
    """The images of an atlas, for `template.create`, and their pixels in its store."""
    left_out = [name == "cut.jpg" for name in NAMES]
    return store_images(
        objects,
        {
            "id": range(len(NAMES)),
            "name": NAMES,
            "label": ["cat", None, "dog <small>", "dog", "cat", None],
            "split": ["scoring", "scoring", "scoring", "scoring", "held_out", "left_out"],
            "sha256": [sha256(name.encode()) for name in NAMES],
            "width": [None if out else 40 for out in left_out],
            "height": [None if out else 50 for out in left_out],
            "mode": [None if out else "RGB" for out in left_out],
            "problem": ["it is cut" if out else None for out in left_out],
        },
        [None if out else picture(n) for n, out in enumerate(left_out)],
    )


def picture(number: int) -> NDArray[np.uint8]:
    """32 x 32 pixels: a disc, elsewhere and of another colour for each number."""
    rows, columns = np.mgrid[:32, :32]
    centre = 8 + 4 * (number % 5)
    disc = (rows - centre) ** 2 + (columns - centre) ** 2 < 49
    pixels = np.full((32, 32, 3), 40 * number, dtype=np.uint8)
    pixels[disc] = np.random.default_rng(number).integers(64, 256, 3, dtype=np.uint8)
    return pixels


def make_network(layer: LayerIndex) -> NetworkRecord:
    """One convolution after the other; three crops of every channel."""
    rng = np.random.default_rng(layer.index.size)
    convolutions = layer.index.convolutions
    stretches = [Stretch(0, 0, 3, -1, 0, "alone")]
    for ordinal, convolution in enumerate(convolutions):
        width = convolution.out_channels
        stretches.append(Stretch(ordinal + 1, 0, width, ordinal, 0, "alone"))
    weights = tuple(
        rng.normal(size=(c.out_channels, c.in_channels, *c.kernel_size)).astype(np.float32)
        for c in convolutions
    )
    crops = [
        {
            "convolution": convolution.name,
            "channel": channel,
            "rank": rank,
            "image": image,
            "maximum": 3.0 - rank,
            "position_y": 2,
            "position_x": channel % 6,
            "box_top": 2,
            "box_left": 3 * (channel % 6),
            "box_bottom": 2 + 4 * convolution.depth,
            "box_right": 3 * (channel % 6) + 4 * convolution.depth,
        }
        for convolution in convolutions
        for channel in range(convolution.out_channels)
        for rank, image in enumerate((channel % 4, (channel + 1) % 4, (channel + 2) % 4))
    ]
    columns = {name: [crop[name] for crop in crops] for name in crops[0]}
    return NetworkRecord(Wiring(tuple(stretches)), weights, CHANNELS.from_columns(columns))


def groups_of(unit: int) -> dict[int, int]:
    """Image -> group: unit 1 has one group, each other the images 2 and 3, and image 0."""
    return dict.fromkeys((2, 0, 3), 0) if unit == 1 else {2: 0, 0: 1, 3: 0}


def contrast(
    header: AtlasHeader, unit: int, kept: Sequence[int], full: Mapping[int, float]
) -> tuple[ContrastRow, ...]:
    """A group's circuit keeps nine tenths of its own images' responses and a fifth of others'."""
    groups = groups_of(unit)
    count = max(groups.values()) + 1
    return tuple(
        ContrastRow(
            criterion="actgrad",
            ablation="zero",
            group=group,
            rung=rung,
            fraction=fraction,
            kernels=kernels,
            image=image,
            inside=groups[image] == group,
            response=full[image] * (1 if rung == 0 else 0.9 if groups[image] == group else 0.2),
            full=full[image],
        )
        for group in range(count if count > 1 else 0)
        for rung, (fraction, kernels) in enumerate(zip(header.fractions, kept, strict=True))
        for image in groups
    )


def responses(*, ranked: bool = True) -> tuple[ResponseRow, ...]:
    """Images 2, 0 and 3 are the top ones, in this order, or none; 4 is held out."""
    rank = {2: 0, 0: 1, 3: 2} if ranked else {}
    return tuple(
        ResponseRow(
            image=image,
            split="held_out" if image == 4 else "scoring",
            response=10.0 - rank.get(image, 9),
            maximum=1.0,
            position_y=1,
            position_x=2,
            box_top=0,
            box_left=3,
            box_bottom=7,
            box_right=9,
            rank=rank.get(image),
        )
        for image in range(5)
    )


def make_record(header: AtlasHeader, layer: LayerIndex, unit: int) -> CircuitRecord:
    """Scores with many ties; `force` has other circuits at each rung, not nested."""
    rng = np.random.default_rng([unit, layer.index.size])
    size = layer.index.size
    reach = np.ones(size, dtype=bool)
    if layer.layer == "conv2" and unit < 2:
        reach[4 * CONV1.in_channels : CONV1.size] = False
    count = int(reach.sum())

    def scores(runs: int) -> np.ndarray:
        values = rng.integers(0, 6, size=(runs, size)).astype(np.float32)
        values[:, ~reach] = np.nan
        return values

    criteria = []
    for name in header.criteria:
        found = scores(header.runs(name))
        masks = np.stack(
            [
                nested_masks(found[rung if name == "force" else 0], (fraction,))[0]
                for rung, fraction in enumerate(header.fractions)
            ]
        )
        top = scores(TOP) if name in header.image_criteria else None
        criteria.append(CriterionRecord(name, found, masks, top))
    kept = [kernels_kept(fraction, count) for fraction in header.fractions]
    r = {0: 0.9, 1: 0.4, 2: None}.get(unit, 0.1)
    faithfulness = tuple(
        FaithfulnessRow(
            name,
            "zero",
            split,
            "sum_abs",
            images,
            rung,
            fraction,
            k,
            r,
            0.5,
            0.25,
            -0.1,
            0.0 if r is None else 0.125,
            0.25,
            acting=k - rung,
        )
        for name in header.criteria
        for split, images in (("scoring", 4), ("held_out", 1))
        for rung, (fraction, k) in enumerate(zip(header.fractions, kept, strict=True))
    )
    subfeatures = tuple(
        SubfeatureRow("actgrad", "zero", "sum_abs", image, 0, 1.0, count, 0.75, 0.5, 0.25, None)
        for image in (2, 0, 3)
    )
    sign = np.where(np.arange(size) % 3 == 0, -1, 1)
    share = rng.random(size)
    found_groups = groups_of(unit)
    several = max(found_groups.values()) + 1
    rows = responses()
    return CircuitRecord(
        key=UnitKey(header.model, layer.layer, unit),
        state="done",
        kernels=count,
        criteria=tuple(criteria),
        responses=rows,
        faithfulness=faithfulness,
        subfeatures=subfeatures,
        compute_s=1.5,
        contribution=(criteria[0].scores[0] * sign * share).astype(np.float32),
        response_maps=rng.normal(size=(TOP, layer.height, layer.width)).astype(np.float32),
        groups=tuple(
            GroupRow("actgrad", image, group, several, 0.6 if several > 1 else None)
            for image, group in found_groups.items()
        ),
        contrast=contrast(header, unit, kept, {row.image: row.response for row in rows}),
    )


def write_atlas(
    location: Path | str, header: AtlasHeader | None = None, *, ranked: bool = True
) -> None:
    """`ranked`: whether the dead unit has top images."""
    header = header or make_header()
    conv2, conv3 = layer_conv2(), layer_conv3()
    objects = open_store(location, create=True)
    plan = Plan((("conv3", (0, 1, 2, 3, 4)), ("conv2", (0, 1, 2, 4))))
    create(objects, header, [conv2, conv3], plan=plan, **make_images(objects))
    for layer, units in ((conv3, (0, 1, 2)), (conv2, (0, 1, 4))):
        network.store(objects, layer, partial(make_network, layer))
        writer = Writer(objects, header, layer)
        for unit in units:
            writer.commit(make_record(header, layer, unit))
    writer = Writer(objects, header, conv3)
    key, rows = UnitKey(header.model, "conv3", 3), responses(ranked=ranked)
    writer.commit(CircuitRecord(key, "dead", 52, (), rows, (), (), 0.5))
    key = UnitKey(header.model, "conv3", 4)
    writer.fail(FailureRecord(key, "non_finite", "NaN in its response to image 1", "trace"))


@pytest.fixture(scope="session")
def location(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the small atlas lies; read only."""
    folder = tmp_path_factory.mktemp("service") / "atlas"
    write_atlas(folder)
    return folder


@pytest.fixture(scope="session")
def address(location: Path) -> Iterator[str]:
    """Where the small atlas is served."""
    from circuit_atlas.service.web.app import create_app

    with served(create_app(location)) as found:
        yield found


@pytest.fixture(scope="session")
def on_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    """The small atlas, written to an object store and opened there."""
    with (
        object_store(tmp_path_factory.mktemp("s3") / "log") as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        write_atlas("s3://bucket/atlas")
        yield Atlas.open("s3://bucket/atlas")


@pytest.fixture(params=["folder", "s3", "http"])
def atlas(request: pytest.FixtureRequest) -> Atlas:
    """The small atlas, wherever it can be opened from: it answers the same."""
    if request.param == "s3":
        opened: Atlas = request.getfixturevalue("on_s3")
        return Atlas(Reader(opened.reader.objects))
    return Atlas.open(
        request.getfixturevalue("location" if request.param == "folder" else "address")
    )


@pytest.fixture
def write() -> Callable[..., None]:
    """`write(folder, model=..., weights=..., images=..., ranked=...)`: another atlas of the same
    shape."""

    def make(folder: Path, *, ranked: bool = True, **changes: str | bytes) -> None:
        write_atlas(folder, make_header(**changes), ranked=ranked)

    return make


@pytest.fixture(scope="session")
def record() -> Callable[[str, int], CircuitRecord]:
    """`record(layer, unit)`: what was written of a unit."""
    layers = {"conv2": layer_conv2(), "conv3": layer_conv3()}
    return lambda layer, unit: make_record(make_header(), layers[layer], unit)
