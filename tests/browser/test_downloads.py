"""Every panel's menu: each file is what it says it is, and opens."""

from __future__ import annotations

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.browser.atlases import LAYER, UNITS
from tests.browser.test_unit_page import panel

KINDS = {
    "JSON": lambda path: json.loads(path.read_text()),
    "CSV": lambda path: arrow_csv.read_csv(path),
    "Parquet": lambda path: pq.read_table(path),
    "PNG": lambda path: Image.open(io.BytesIO(path.read_bytes())).size,
    "SVG": lambda path: ElementTree.parse(path).getroot().tag.endswith("svg") or pytest.fail("no"),
}


SPLITS = ("held-out images", "scoring images")


# Chromium drops, without a word, what a page saves beyond ten files a second.
BURST = 10
BURST_MS = 1100


def files(tab, of: str) -> dict[str, Path]:
    """What each entry of a panel's menu gives, by the words on it."""
    button = tab.page.get_by_role("button", name=f"Save {of}", exact=True)
    found = {}
    button.click()
    entries = tab.page.locator(".menu ul:not([hidden]) li")
    for place in range(entries.count()):
        if place:
            button.click()
        entry = entries.nth(place).locator("a, button")
        words = entry.inner_text().replace("\n", " ")
        with tab.page.expect_download() as download:
            entry.click()
            assert entry.is_hidden(), f"the menu stays open at {words}"
        found[words] = download.value.path()
        tab.saved += 1
        if tab.saved % BURST == 0:
            tab.page.wait_for_timeout(BURST_MS)
    return found


def opened(found: dict[str, Path]) -> dict[str, object]:
    return {words: KINDS[words.split()[0]](path) for words, path in found.items()}


def test_the_atlas_and_a_layer(photos, tab):
    tab.open(photos.link("atlas"))
    found = opened(files(tab, "layers"))
    assert found["CSV"]["layer"].to_pylist() == found["Parquet"]["layer"].to_pylist()
    assert found["CSV"]["done"].to_pylist() == photos.atlas.status()["done"].to_pylist()
    tab.open(photos.link("layer", layer=LAYER, order="desc"))
    sizes = opened(files(tab, "circuit size"))
    fractions = list(photos.atlas.header.fractions)
    assert sizes["CSV"]["fraction"].to_pylist() == fractions
    assert [row["fraction"] for row in sizes["JSON"]["rows"]] == fractions
    assert "SVG chart" in sizes
    # The table as it is filtered and sorted.
    tab.open(photos.link("layer", layer=LAYER, sort="unit", order="desc", has_name="0"))
    units = opened(files(tab, "units"))
    assert units["Parquet"]["unit"].to_pylist() == [30, 0]
    assert [row["unit"] for row in units["JSON"]["rows"]] == [30, 0]


def test_a_unit(photos, tab):
    unit = photos.atlas.layer(LAYER).unit(UNITS[1])
    tab.open(photos.link("unit", layer=LAYER, unit=UNITS[1], keep=0.05))
    tab.settled()
    top = opened(files(tab, "top images"))
    assert top["Parquet responses"].equals(unit.responses().to_arrow())
    faithful = opened(files(tab, "faithfulness against kept fraction"))
    assert faithful["Parquet"].num_rows == unit.faithfulness().num_rows
    assert set(faithful) == {"CSV", "Parquet", "JSON", "SVG chart"}
    circuit = unit.circuit(keep=0.05)
    kernels = f"{len(circuit):,} kernels"
    saved = opened(files(tab, "circuit"))
    assert set(saved) == {f"CSV {kernels}", f"Parquet {kernels}", f"JSON {kernels}", "SVG diagram"}
    assert saved[f"CSV {kernels}"]["position"].to_pylist() == circuit.positions.tolist()
    rows, columns = saved[f"JSON {kernels}"]["rows"], ["convolution", "in_channel", "position"]
    wanted = saved[f"Parquet {kernels}"].select(columns).to_pylist()
    assert [{name: row[name] for name in columns} for row in rows] == wanted
    diagram = opened(files(tab, "circuit diagram"))
    assert diagram["JSON what is drawn"]["counts"]["circuit"] == len(circuit)
    similar = opened(files(tab, "units with the most similar circuits"))
    assert similar["CSV"].num_rows == len(UNITS) - 1


def test_groups_images_and_a_map(two_ways, tab):
    unit = two_ways.atlas.layer("head").unit(0)
    tab.open(two_ways.link("unit", layer="head", unit=0))
    tab.settled()
    groups = opened(files(tab, "sub-features"))
    assert (
        groups["Parquet groups"]["group"].to_pylist() == unit.groups().table()["group"].to_pylist()
    )
    by_zero = unit.selectivity(criterion="actgrad", ablation="zero")
    assert groups["CSV preserved and leaked"].num_rows == by_zero.num_rows
    assert {"SVG group A", "SVG group B"} < set(groups)
    features = opened(files(tab, "feature visualizations"))
    rows = features["JSON how each was made"]["rows"]
    assert len(rows) == len(features) - 1 > 2
    assert features["PNG positive"] == (rows[0]["width"], rows[0]["height"])
    assert all(row["steps"] == 24 for row in rows)
    tab.open(two_ways.link("map", layer="head", unit=0))
    tab.settled()
    saved = opened(files(tab, "its images, close where they use the same kernels"))
    assert saved["Parquet"]["x"].to_pylist() == unit.projection()["x"].to_pylist()
    tab.open(two_ways.link("images"))
    images = opened(files(tab, "images as the network sees them"))
    assert images["CSV"].num_rows == two_ways.atlas.images().num_rows
    tab.open(two_ways.link("image", image=1))
    tab.settled()
    assert opened(files(tab, "units that respond to it most"))["CSV"].num_rows == 7


# What of a drawing on its own is seen: strokes by colour, and whether a name of a colour is left
# that only the page knows.
DRAWN = """() => {
  const lines = [...document.querySelectorAll("polyline")].map((line) =>
    getComputedStyle(line).stroke);
  const texts = [...document.querySelectorAll("text")].map((text) => text.textContent);
  return { lines, texts, ground: getComputedStyle(document.querySelector("rect")).fill };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_saved_chart_shows_its_lines_and_says_what_they_are(photos, window, scheme):
    tab = window(color_scheme=scheme)
    tab.open(photos.link("unit", layer=LAYER, unit=UNITS[1]))
    tab.settled()
    seen = panel(tab, "Faithfulness against kept fraction").locator("svg polyline")
    wanted = [line.evaluate("line => getComputedStyle(line).stroke") for line in seen.all()]
    drawing = files(tab, "faithfulness against kept fraction")["SVG chart"].read_text()
    assert "var(" not in drawing
    # On its own, without any style sheet.
    tab.page.goto("about:blank")
    tab.page.set_content(drawing)
    found = tab.page.evaluate(DRAWN)
    names = [f"{score}, {split}" for score in ("actgrad", "random") for split in SPLITS]
    assert len(wanted) == len(names) == 4
    assert sorted(found["lines"]) == sorted([*wanted, *wanted])  # each once more beside its name
    assert set(names) <= set(found["texts"])
    assert {"Pearson r", "kernels kept"} <= set(found["texts"])
    assert f"Circuits of {LAYER}/{UNITS[1]}, dropped kernels set to zero" in found["texts"]
    assert found["ground"] != "none"


def test_the_menu_is_used_with_keys(photos, tab):
    tab.open(photos.link("layer", layer=LAYER))
    button = tab.page.get_by_role("button", name="Save units", exact=True)
    button.focus()
    button.press("Enter")
    focused = "document.activeElement.textContent"
    assert tab.page.evaluate(focused).startswith("CSV")
    tab.page.keyboard.press("ArrowDown")
    assert tab.page.evaluate(focused).startswith("Parquet")
    tab.page.keyboard.press("ArrowUp")
    tab.page.keyboard.press("ArrowUp")
    assert tab.page.evaluate(focused).startswith("JSON")
    tab.page.keyboard.press("Escape")
    assert button.evaluate("element => element === document.activeElement")
    assert button.get_attribute("aria-expanded") == "false"
