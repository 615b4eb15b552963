"""How long each page of an atlas takes until it shows what it is for.

    python -m tests.browser.paints [--times 5] [ATLAS]

Without ATLAS, of an atlas of a thousand units that is made first. The server is a process of its
own, warm as after a first visitor; the browser has nothing of the page yet, each time. Milliseconds
from the start of the navigation to the first frame with what the page is for (`useful` in
live.js): of the list of layers, say, or of a unit's pictures and curves.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

import click

from circuit_atlas.service import Atlas
from tests.chromium import chromium
from tests.service.large import write_large
from tests.service.stores import started

USEFUL = """() => performance.getEntriesByName("useful")[0].startTime"""


def views(atlas: Atlas) -> dict[str, dict[str, object]]:
    """The state of each page, of the first units of the first layer."""
    layer = atlas.layer(atlas.layers[0])
    left, right = layer.units()["unit"].to_pylist()[:2]
    image = layer.unit(left).top_images()["image"][0].as_py()
    unit = {"layer": layer.name, "unit": left}
    sides = {f"left.{name}": value for name, value in unit.items()}
    sides |= {"right.layer": layer.name, "right.unit": right}
    return {
        "atlas": {},
        "layer": {"page": "layer", "layer": layer.name},
        "unit": {"page": "unit", **unit},
        "images": {"page": "images"},
        "image": {"page": "image", "image": image},
        "compare": {"page": "compare", **sides},
        "map": {"page": "map", **unit},
    }


def measure(location: Path, *, times: int) -> dict[str, list[float]]:
    """Milliseconds of each page, each time in a browser that knows nothing of it."""
    command = [sys.executable, "-m", "circuit_atlas.service.commands.cli", "serve", str(location)]
    found: dict[str, list[float]] = {}
    with started([*command, "--port", "0"]) as (_, line), chromium() as browser:
        address = line.split("served at ")[1].split()[0]
        for time in range(times + 1):
            for page, state in views(Atlas.open(location)).items():
                context = browser.new_context(viewport={"width": 1280, "height": 900})
                tab = context.new_page()
                tab.goto(f"{address}/?{urlencode(state)}")
                tab.wait_for_selector("html[data-useful]", state="attached")
                if time:  # the first visitor warms the server
                    found.setdefault(page, []).append(tab.evaluate(USEFUL))
                tab.wait_for_load_state("networkidle")
                context.close()
    return found


@click.command()
@click.argument("atlas", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--times", default=5, show_default=True, help="Loads of each page.")
def main(atlas: Path | None, times: int) -> None:
    """Measure the pages of ATLAS, or of an atlas of a thousand units."""
    with TemporaryDirectory() as folder:
        if atlas is None:
            atlas = Path(folder) / "large"
            write_large(atlas)
        click.echo(f"{'ms':10} {'median':>8} {'worst':>8}")
        for page, figures in measure(atlas, times=times).items():
            click.echo(f"{page:10} {statistics.median(figures):8.0f} {max(figures):8.0f}")


if __name__ == "__main__":
    main()
