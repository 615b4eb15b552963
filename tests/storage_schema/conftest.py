"""A small atlas of invented numbers: two layers, one of them with a direction and an odd name."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from obstore.store import MemoryStore

from circuit_atlas.storage_schema import network
from circuit_atlas.storage_schema.documents import canonical, sha256
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex, UnitInfo
from circuit_atlas.storage_schema.kernels import Convolution, KernelIndex
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.network import NetworkRecord
from circuit_atlas.storage_schema.network_tables import CHANNELS
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.records import (
    CircuitRecord,
    ContrastRow,
    CriterionRecord,
    FaithfulnessRow,
    GroupRow,
    ResponseRow,
    SubfeatureRow,
)
from circuit_atlas.storage_schema.stability import DRAWS, bootstrap
from circuit_atlas.storage_schema.template import Plan, create
from circuit_atlas.storage_schema.version import SCHEMA_VERSION
from circuit_atlas.storage_schema.wiring import Stretch, Wiring
from tests.stored_images import store_images

FRACTIONS = (1.0, 0.5, 0.2, 0.05)
TOP = 3


def make_header() -> AtlasHeader:
    spec = canonical({"model": {"reference": "toy"}, "circuits": {"response": "sum_abs"}})
    return AtlasHeader(
        schema=SCHEMA_VERSION,
        model="toy",
        weights_sha256=sha256(b"weights"),
        images_sha256=sha256(b"images"),
        spec_sha256=sha256(spec.encode()),
        spec=spec,
        criteria=("actgrad", "force"),
        image_criteria=("actgrad",),
        fractions=FRACTIONS,
        ablations=("zero",),
        response="sum_abs",
        top_images=TOP,
        seed=0,
        versions=(("circuit-atlas", "0.1.0"), ("numpy", np.__version__)),
        input_height=32,
        input_width=32,
        redrawn=(("actgrad", DRAWS),),
    )


def make_layer(name: str, *, directions: int) -> LayerIndex:
    index = KernelIndex(
        (
            Convolution("first", "first.weight", 6, 3, 1, (3, 3), 1, one_row=False),
            Convolution(name, f"{name}.weight", 4, 6, 1, (1, 1), 2, one_row=True),
        )
    )
    channels = tuple(UnitInfo(n, str(n), None, (n,)) for n in range(4))
    named = tuple(
        UnitInfo(4 + n, f"d{n}", (0.1, -0.5, 1 / 3, 0.0), (0,)) for n in range(directions)
    )
    return LayerIndex(name, 4, 8, 8, index, channels + named)


def make_images(
    objects: Objects,
    names: tuple[str, ...] = ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "bad.jpg"),
) -> dict[str, Any]:
    """The images of an atlas, for `template.create`, and their pixels in its store."""
    bad = ["cut" if name == "bad.jpg" else None for name in names]
    return store_images(
        objects,
        {
            "id": range(len(names)),
            "name": names,
            "label": ["cat", None, "dog", "dog", None][: len(names)],
            "split": [
                "left_out" if b else ("scoring" if n % 4 < 3 else "held_out")
                for n, b in enumerate(bad)
            ],
            "sha256": [sha256(name.encode()) for name in names],
            "width": [None if b else 40 for b in bad],
            "height": [None if b else 50 for b in bad],
            "mode": [None if b else "RGB" for b in bad],
            "problem": bad,
        },
        [None if b else np.full((8, 8, 3), n, np.uint8) for n, b in enumerate(bad)],
    )


def make_record(
    header: AtlasHeader, layer: LayerIndex, unit: int, *, seed: int = 0, top: int = TOP
) -> CircuitRecord:
    """A record of invented numbers: `actgrad` nested, `force` not, two kernels out of reach."""
    rng = np.random.default_rng([seed, unit])
    size = layer.index.size
    reached = np.ones(size, dtype=bool)
    reached[[2, 7]] = False
    kernels = int(reached.sum())
    kept = [max(1, round(f * kernels)) for f in header.fractions]
    criteria = []
    contribution = rng.normal(size=size).astype(np.float32)
    contribution[~reached] = np.nan
    for name in header.criteria:
        scores = rng.random((header.runs(name), size), dtype=np.float32)
        scores[:, ~reached] = np.nan
        masks = np.zeros((len(kept), size), dtype=bool)
        for rung, k in enumerate(kept):
            order = np.argsort(-scores[rung % len(scores)], kind="stable")
            masks[rung, order[:k]] = True
        image_scores = stability = None
        if name in header.image_criteria:
            image_scores = rng.exponential(size=(top, size)).astype(np.float32)
            image_scores[:, ~reached] = np.nan
        if name in dict(header.redrawn):
            assert image_scores is not None
            stability = bootstrap(image_scores, header.fractions, seed=0)
        criteria.append(CriterionRecord(name, scores, masks, image_scores, stability=stability))
    responses = tuple(
        ResponseRow(
            image=image,
            split="scoring" if image < 3 else "held_out",
            response=float(rng.random()),
            maximum=1.0,
            position_y=1,
            position_x=2,
            box_top=0,
            box_left=0,
            box_bottom=7,
            box_right=7,
            rank=image if image < top else None,
        )
        for image in range(4)
    )
    faithfulness = tuple(
        FaithfulnessRow(name, "zero", "held_out", "sum_abs", 1, rung, f, k, None, 0.5, 0.25, -0.125)
        for name in header.criteria
        for rung, (f, k) in enumerate(zip(header.fractions, kept, strict=True))
    )
    subfeatures = tuple(
        SubfeatureRow("actgrad", "zero", "sum_abs", image, 0, 1.0, kernels, 0.75, 0.5, 0.25, None)
        for image in range(top)
    )
    groups = tuple(GroupRow("actgrad", image, image % 2, min(top, 2), 0.5) for image in range(top))
    contrast = tuple(
        ContrastRow("actgrad", "zero", group, 0, 1.0, kernels, image, image % 2 == group, 2.0, 2.5)
        for group in range(min(top, 2))
        for image in range(top)
    )
    return CircuitRecord(
        key=UnitKey(header.model, layer.layer, unit),
        state="done",
        kernels=kernels,
        criteria=tuple(criteria),
        responses=responses,
        faithfulness=faithfulness,
        subfeatures=subfeatures,
        compute_s=1.5,
        contribution=contribution,
        response_maps=rng.random((top, layer.height, layer.width), dtype=np.float32),
        groups=groups,
        contrast=contrast,
    )


def make_network(layer: LayerIndex, *, seed: int = 0) -> NetworkRecord:
    """Invented weights, those of the last convolution unknown, and a crop a channel."""
    rng = np.random.default_rng(seed)
    first, last = layer.index.convolutions
    weights = rng.normal(size=(6, 3, 3, 3)).astype(np.float32)
    channels = [(c.name, n) for c in (first, last) for n in range(c.out_channels)]
    count = len(channels)
    return NetworkRecord(
        wiring=Wiring(
            (
                Stretch(0, 0, 3, -1, 0, "alone"),
                Stretch(1, 0, 4, 0, 0, "sum"),
                Stretch(1, 0, 4, 0, 2, "sum"),
                Stretch(1, 4, 2, 0, 0, "mixed"),
                Stretch(2, 0, 4, 1, 0, "alone"),
            )
        ),
        weights=(weights, None),
        channels=CHANNELS.from_columns(
            {
                "convolution": [name for name, _ in channels],
                "channel": [number for _, number in channels],
                "rank": [0] * count,
                "image": [1] * count,
                "maximum": rng.normal(size=count),
                "position_y": [2] * count,
                "position_x": [3] * count,
                **{f"box_{side}": [4] * count for side in ("top", "left", "bottom", "right")},
            }
        ),
    )


@pytest.fixture
def header() -> AtlasHeader:
    return make_header()


@pytest.fixture
def layer() -> LayerIndex:
    return make_layer("features.3", directions=1)


@pytest.fixture
def odd_layer() -> LayerIndex:
    return make_layer("block/../ü x", directions=0)


@pytest.fixture
def images() -> pa.Table:
    objects = Objects(MemoryStore(), location="memory:")
    return make_images(objects)["images"]


@pytest.fixture
def plan() -> Plan:
    return Plan((("features.3", (0, 1, 4)),))


@pytest.fixture
def lay_out(
    header: AtlasHeader, layer: LayerIndex, images: pa.Table, plan: Plan
) -> Callable[..., None]:
    """Lay out the small atlas in a store, with any part of it replaced."""

    def create_with(objects: Objects, **changes: object) -> None:
        pixels = make_images(objects)["pixels"]
        parts = {
            "header": header,
            "layers": [layer],
            "images": images,
            "pixels": pixels,
            "plan": plan,
            **changes,
        }
        create(objects, parts.pop("header"), **parts)

    return create_with


@pytest.fixture
def laid_out(tmp_path: Path, lay_out: Callable[..., None]) -> Objects:
    """A store with the small atlas laid out, before any worker."""
    opened = open_store(tmp_path / "atlas", create=True)
    lay_out(opened)
    return opened


@pytest.fixture
def objects(laid_out: Objects, layer: LayerIndex) -> Objects:
    """The same with the layer's network, and nothing committed."""
    network.store(laid_out, layer, lambda: make_network(layer))
    return laid_out


@pytest.fixture
def record(header: AtlasHeader, layer: LayerIndex) -> Callable[..., CircuitRecord]:
    """`record(unit, seed=..., top=..., field=value)`: a record of the small atlas' first layer."""

    def make(unit: int, *, seed: int = 0, top: int = TOP, **changes: object) -> CircuitRecord:
        made = make_record(header, layer, unit, seed=seed, top=top)
        return dataclasses.replace(made, **changes)

    return make


@pytest.fixture
def network_record(layer: LayerIndex) -> Callable[..., NetworkRecord]:
    """`network_record(seed=...)`: a network of the small atlas' first layer."""
    return lambda *, seed=0: make_network(layer, seed=seed)


@pytest.fixture
def dead(record: Callable[..., CircuitRecord]) -> Callable[[int], CircuitRecord]:
    """`dead(unit)`: a record of a dead unit."""
    nothing = dict.fromkeys(("criteria", "faithfulness", "subfeatures", "groups", "contrast"), ())

    def make(unit: int) -> CircuitRecord:
        return record(unit, state="dead", contribution=None, response_maps=None, **nothing)

    return make


@pytest.fixture
def snapshot() -> Callable[[Objects], dict[str, bytes]]:
    """Every object of a store, by path."""

    def take(objects: Objects) -> dict[str, bytes]:
        return {entry.path: objects.get(entry.path) for entry in objects.list()}

    return take


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, small enough to fill: 512 KiB of tmpfs."""
    location = tmp_path / "disk"
    location.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", location], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")
    yield location
    subprocess.run(["umount", "--lazy", location], check=True)


@pytest.fixture
def remount(disk: Path) -> Callable[[str], None]:
    """`remount("ro")`: make the small disk read-only, or `"rw"` writable again."""

    def change(mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True)

    return change
