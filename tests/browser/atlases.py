"""The atlases that the pages show, built as users build them, small and quickly."""

from __future__ import annotations

from pathlib import Path

from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.run import build
from circuit_atlas.cluster.visualizations import build_visualizations
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.storage_schema.header import LayerIndex, UnitInfo
from circuit_atlas.storage_schema.kernels import Convolution, KernelIndex
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.template import Plan, create
from circuit_atlas.storage_schema.writer import Writer
from tests.browser.networks import write_pictures
from tests.service.conftest import CONV1, make_header, make_images, make_record

LAYER = "features.4.expand3x3"
OTHER = "features.3.squeeze"
UNITS = (0, 7, 13, 21, 30, 38, 44, 58)


def build_photos(location: Path) -> None:
    """Eight units of one layer of the demo's network and two of another, on the demo's photos."""
    spec = BuildSpec.from_values(
        {
            "model": {"reference": "demo:squeezenet1_1"},
            "preprocessing": {"resize": [96, 96]},
            "images": {"source": "demo:photos", "held_out": "odd"},
            "layers": [
                {"name": LAYER, "units": list(UNITS)},
                {"name": OTHER, "units": [0, 9]},
            ],
            "circuits": {
                "criteria": ["actgrad", "random"],
                "fractions": [1.0, 0.5, 0.2, 0.1, 0.05, 0.01],
            },
            "run": {"store": str(location)},
        }
    )
    build(spec, executor=LocalExecutor())


def build_two_ways(location: Path, pictures: Path) -> None:
    """All units of `head`, with a direction, of the network of two ways, on pictures of its own."""
    write_pictures(pictures)
    spec = BuildSpec.from_values(
        {
            "model": {"reference": "tests.browser.networks:two_ways"},
            "preprocessing": {"resize": [48, 48]},
            "images": {"source": str(pictures), "held_out": 0.25},
            "layers": [
                {"name": "head", "units": "all", "directions": {"both": [0, 1, 1, 0, 0, 0]}}
            ],
            "circuits": {
                "criteria": ["actgrad", "random"],
                "fractions": [1.0, 0.5, 0.2, 0.1, 0.05],
                "ablation": ["zero", "mean"],
                "top_images": 16,
            },
            "features": {"size": 32, "steps": 24, "tries": 1, "nodes": False},
            "run": {"store": str(location)},
        }
    )
    build(spec, executor=LocalExecutor())
    build_visualizations(spec, executor=LocalExecutor())


def write_many(location: Path) -> Path:
    """130 units of invented numbers in a layer `wide`, more than two pages of them."""
    wide = Convolution("wide", "wide.weight", 130, 8, 1, (1, 1), 2, one_row=True)
    units = tuple(UnitInfo(n, str(n), None, (n,)) for n in range(130))
    layer = LayerIndex("wide", 130, 6, 6, KernelIndex((CONV1, wide)), units)
    header, objects = make_header(), open_store(location, create=True)
    plan = Plan((("wide", tuple(range(130))),))
    create(objects, header, [layer], plan=plan, **make_images(objects))
    writer = Writer(objects, header, layer)
    for unit in range(130):
        writer.commit(make_record(header, layer, unit))
    return location
