"""The documentation's pictures: a unit, two groups compared, a map; and a circuit for print.

    python docs/gallery/make.py FOLDER
    python -m tests.browser.screenshots FOLDER/atlas

The atlas is the gallery's: SqueezeNet 1.1 with its ImageNet weights, on pictures that are free.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image

from circuit_atlas.service import Atlas
from circuit_atlas.service.web.app import create_app
from tests.browser.conftest import Tab
from tests.chromium import chromium
from tests.service.stores import served

LAYER = "features.6.expand3x3"
UNIT, GROUPED = 48, 0
KEEP = 0.05
EDGES = 60
MOST_BYTES = 400_000
SIDES = {
    f"{side}.{name}": value
    for side, group in (("left", 0), ("right", 1))
    for name, value in (("layer", LAYER), ("unit", GROUPED), ("group", group))
}
WIDTH, HEIGHT = 1600, 900
SHOWN = 1280
VIEWS: dict[str, dict[str, object]] = {
    "unit": {"page": "unit", "layer": LAYER, "unit": UNIT, "keep": KEEP},
    "compare": {"page": "compare", **SIDES, "keep": KEEP},
    "map": {"page": "map", "layer": LAYER, "unit": GROUPED, "criterion": "actgrad", "keep": KEEP},
}


def take(location: Path, into: Path) -> None:
    """Open each view, and save what it shows; then draw the circuit."""
    layer = Atlas.open(location).layer(LAYER)
    groups = layer.unit(GROUPED).groups(criterion="learned").table().to_pylist()
    chosen = ",".join(str(row["image"]) for row in groups if row["group"] == 1)
    VIEWS["map"].update({"images": chosen, "name": "dark"})
    with served(create_app(location)) as address, chromium() as browser:
        for name, state in VIEWS.items():
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            # The tour of a first visit would stand in the picture.
            page.add_init_script("localStorage.setItem('circuit-atlas-tour', 'left')")
            tab = Tab(page)
            tab.open(f"{address}/?{urlencode(state)}")
            tab.settled()
            page.wait_for_load_state("networkidle")
            tab.settled()  # what came into sight late, too
            diagram = page.locator(".diagram-panel").first.bounding_box()
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": diagram["y"] + diagram["height"] + 20}
            shot = page.screenshot(full_page=True, clip=clip)
            (into / f"viewer-{name}.png").write_bytes(_small(shot))
    circuit = layer.unit(UNIT).circuit(keep=KEEP)
    (into / "circuit.png").write_bytes(_small(circuit.diagram(edges=EDGES).figure().png()))


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
    take(Path(sys.argv[1]), Path(__file__).parents[2] / "docs" / "pages" / "images")
