"""The documentation's three pictures of the pages: a unit, two groups compared, and its map.

    python -m tests.browser.screenshots FOLDER

The atlas is built in FOLDER, or taken from there: SqueezeNet 1.1 with its ImageNet weights, on
patterns that `patterns.py` draws. Takes some minutes where FOLDER is empty.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image

from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.run import build
from circuit_atlas.cluster.visualizations import build_visualizations
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from tests.browser.patterns import write_patterns

LAYER = "features.7.expand3x3"
UNIT = "100"
UNITS = [0, 12, 28, 40, 44, 60, 100, 112, 120]
MOST_BYTES = 400_000
SIDES = {
    "left.layer": LAYER,
    "left.unit": UNIT,
    "left.group": "0",
    "right.layer": LAYER,
    "right.unit": UNIT,
    "right.group": "1",
}
WIDTH, HEIGHT = 1600, 900
SHOWN = 1280
VIEWS = {
    "unit": {"page": "unit", "layer": LAYER, "unit": UNIT, "keep": "0.03"},
    "compare": {"page": "compare", **SIDES, "keep": "0.3", "d.fraction": "0.1"},
    "map": {"page": "map", "layer": LAYER, "unit": UNIT, "keep": "0.05"},
}


def build_patterns(folder: Path) -> Path:
    """The atlas, or what is missing of it, and its feature visualizations."""
    pictures = folder / "patterns"
    if not pictures.exists():
        write_patterns(pictures)
    spec = BuildSpec.from_values(
        {
            "model": {"reference": "demo:squeezenet1_1"},
            "preprocessing": {"resize": [160, 160]},
            "images": {"source": str(pictures), "held_out": 0.2},
            "layers": [{"name": LAYER, "units": UNITS}],
            "circuits": {
                "criteria": ["actgrad", "snip", "random"],
                "top_images": 20,
                "fractions": [1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01],
            },
            "features": {"node_fraction": 0.03},
            "run": {"store": str(folder / "atlas")},
        }
    )
    build(spec, executor=LocalExecutor())
    build_visualizations(spec, executor=LocalExecutor())
    return folder / "atlas"


def take(location: Path, into: Path) -> None:
    """Open each view, and save what it shows."""
    from urllib.parse import urlencode

    from circuit_atlas.service import Atlas
    from circuit_atlas.service.web.app import create_app
    from tests.browser.conftest import Tab
    from tests.chromium import chromium
    from tests.service.stores import served

    groups = Atlas.open(location).layer(LAYER).unit(UNIT).groups().table().to_pylist()
    chosen = ",".join(str(row["image"]) for row in groups if row["group"] == 1)
    VIEWS["map"].update({"images": chosen, "name": "bricks and stripes"})
    with served(create_app(location)) as address, chromium() as browser:
        for name, state in VIEWS.items():
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            tab = Tab(page)
            tab.open(f"{address}/?{urlencode(state)}")
            tab.settled()
            page.wait_for_load_state("networkidle")
            tab.settled()  # what came into sight late, too
            diagram = page.locator(".diagram-panel").bounding_box()
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": diagram["y"] + diagram["height"] + 20}
            shot = page.screenshot(full_page=True, clip=clip)
            (into / f"viewer-{name}.png").write_bytes(_small(shot))


def _small(png: bytes) -> bytes:
    """Smaller, and with as few colours as it takes to stay below the bound."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    height = image.height * SHOWN // image.width
    image = image.resize((SHOWN, height), Image.Resampling.LANCZOS)
    for colours in (256, 128, 64):
        output = io.BytesIO()
        image.quantize(colours, kmeans=3, dither=Image.Dither.NONE).save(
            output, "PNG", optimize=True
        )
        if output.tell() < MOST_BYTES:
            break
    return output.getvalue()


if __name__ == "__main__":
    take(build_patterns(Path(sys.argv[1])), Path(__file__).parents[2] / "docs" / "pages" / "images")
