"""How long each page of an atlas takes until it shows what it is for.

    python -m tests.browser.paints [--times 5] [--slow] [ATLAS]

Without ATLAS, of an atlas of a thousand units that is made first. The server is a process of its
own, warm as after a first visitor; the browser has nothing of the page yet, each time. Milliseconds
from the start of the navigation to the first frame with what the page is for (`useful` in
live.js): of the list of layers, say, or of a unit's pictures and curves. Beside them, to the end of
the last answer that the page asked for. `--slow`: on a line of 60 kB a second on which each answer
begins 400 ms late, as Chromium emulates it.
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
LAST = (
    """() => Math.max(...performance.getEntriesByType("resource").map((one) => one.responseEnd))"""
)
SLOW = {
    "offline": False,
    "latency": 400,
    "downloadThroughput": 60_000,
    "uploadThroughput": 60_000,
}


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
        "channel": {
            "page": "channel",
            "layer": layer.index.index.convolutions[0].name,
            "channel": 0,
        },
        "images": {"page": "images"},
        "image": {"page": "image", "image": image},
        "compare": {"page": "compare", **sides},
        "map": {"page": "map", **unit},
        "criteria": {"page": "criteria", "layer": layer.name},
        "glossary": {"page": "glossary"},
    }


def measure(location: Path, *, times: int, slow: bool) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds until each page is useful, and until all of it is there, each time in a browser
    that knows nothing of it."""
    command = [sys.executable, "-m", "circuit_atlas.service.commands.cli", "serve", str(location)]
    found: dict[str, list[tuple[float, float]]] = {}
    with started([*command, "--port", "0"]) as (_, line), chromium() as browser:
        address = line.split("served at ")[1].split()[0]
        for time in range(times + 1):
            for page, state in views(Atlas.open(location)).items():
                context = browser.new_context(viewport={"width": 1280, "height": 900})
                tab = context.new_page()
                if slow and time:
                    line_of = context.new_cdp_session(tab)
                    line_of.send("Network.enable")
                    line_of.send("Network.emulateNetworkConditions", SLOW)
                tab.goto(f"{address}/?{urlencode(state)}")
                tab.wait_for_selector("html[data-useful]", state="attached")
                tab.wait_for_load_state("networkidle")
                if time:  # the first visitor warms the server
                    found.setdefault(page, []).append((tab.evaluate(USEFUL), tab.evaluate(LAST)))
                context.close()
    return found


@click.command()
@click.argument("atlas", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--times", default=5, show_default=True, help="Loads of each page.")
@click.option("--slow", is_flag=True, help="On a slow line.")
def main(atlas: Path | None, times: int, slow: bool) -> None:
    """Measure the pages of ATLAS, or of an atlas of a thousand units."""
    with TemporaryDirectory() as folder:
        if atlas is None:
            atlas = Path(folder) / "large"
            write_large(atlas)
        click.echo(f"{'ms':10} {'useful':>8} {'worst':>8} {'all':>8} {'worst':>8}")
        for page, figures in measure(atlas, times=times, slow=slow).items():
            told = [
                f"{statistics.median(each):8.0f} {max(each):8.0f}"
                for each in zip(*figures, strict=True)
            ]
            click.echo(f"{page:10} {' '.join(told)}")


if __name__ == "__main__":
    main()
