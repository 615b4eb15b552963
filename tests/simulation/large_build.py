"""A build of any size whose model nobody has to load: its spec, and that resolved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.plan import Build
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex, UnitInfo
from circuit_atlas.storage_schema.image_table import IMAGES
from circuit_atlas.storage_schema.kernels import Convolution, KernelIndex
from circuit_atlas.storage_schema.pixels import CHUNK_IMAGES, PixelForm, PixelsRecord
from circuit_atlas.storage_schema.template import Plan
from circuit_atlas.storage_schema.version import SCHEMA_VERSION

SIDE = 7
TOP = 4
_MODEL = "simulation:network"
# As many as in a layer in the middle of a ResNet-50.
_CONVOLUTIONS = 20


@dataclass(frozen=True)
class Size:
    """How much there is.

    Attributes:
        units: in all layers.
        per_layer: units of a layer; the last one has the rest.
        images: of the set.
        workers: of the cluster.
    """

    units: int
    per_layer: int = 512
    images: int = 100_000
    workers: int = 1000

    @property
    def layers(self) -> list[tuple[str, int]]:
        """The layers by name, and how many units each has."""
        starts = range(0, self.units, self.per_layer)
        return [
            (f"stage{number:04}.conv", min(self.per_layer, self.units - start))
            for number, start in enumerate(starts)
        ]


def large_spec(store: str | Path, size: Size) -> BuildSpec:
    """The spec of a build of that size."""
    return BuildSpec.from_values(
        {
            "model": {"reference": _MODEL},
            "images": {"source": "images"},
            "layers": [{"name": name} for name, _ in size.layers],
            "circuits": {"criteria": ["magnitude"], "fractions": [1, 0.3, 0.1], "top_images": TOP},
            "run": {"store": str(store), "workers": size.workers},
        }
    )


def large_build(spec: BuildSpec, size: Size) -> Build:
    """The same resolved."""
    images = size.images
    form = PixelForm("uint8", (3, 224, 224), opacity=False, divisor=255.0)
    pixels = PixelsRecord(form, (0.0,) * 3, (1.0,) * 3, CHUNK_IMAGES, ())
    header = AtlasHeader(
        schema=SCHEMA_VERSION,
        model=_MODEL,
        weights_sha256=sha256(b"weights"),
        images_sha256=sha256(b"images"),
        spec_sha256=spec.sha256(),
        spec=spec.canonical(),
        criteria=spec.circuits.criteria,
        image_criteria=(),
        fractions=spec.circuits.fractions,
        ablations=spec.circuits.ablation,
        response="sum_abs",
        top_images=TOP,
        seed=0,
        versions=(("circuit-atlas", "0.1.0"),),
        input_height=224,
        input_width=224,
    )
    return Build(
        header=header,
        layers=tuple(_index(name, count) for name, count in size.layers),
        spec=spec,
        plan=Plan(tuple((name, tuple(range(count))) for name, count in size.layers)),
        images=IMAGES.from_columns(
            {
                "id": range(images),
                "name": [f"class/image_{number:06}.jpg" for number in range(images)],
                "label": ["class"] * images,
                "split": ["held_out" if number % 2 else "scoring" for number in range(images)],
                "sha256": [sha256(str(number).encode()) for number in range(images)],
                "width": [500] * images,
                "height": [375] * images,
                "mode": ["RGB"] * images,
                "problem": [None] * images,
                "place": range(images),
                "pixels_crc32c": [0] * images,
            }
        ),
        remarks=(),
        directions={},
        unit_labels={},
        passed_over={},
        channels=3,
        trace=None,
        store_pixels=lambda _: pixels,
    )


def _index(layer: str, units: int) -> LayerIndex:
    upstream = [
        Convolution(f"stem{depth}", f"stem{depth}.weight", 2, 2, 1, (3, 3), depth, one_row=False)
        for depth in range(1, _CONVOLUTIONS)
    ]
    own = Convolution(layer, f"{layer}.weight", units, 2, 1, (3, 3), _CONVOLUTIONS, one_row=True)
    infos = tuple(UnitInfo(number, str(number), None, (number,)) for number in range(units))
    return LayerIndex(layer, units, SIDE, SIDE, KernelIndex((*upstream, own)), infos)
