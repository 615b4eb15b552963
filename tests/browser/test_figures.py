"""A saved figure is what the page shows: the same nodes, kernels and pictures, at any width."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from circuit_atlas.service.diagram.data import Content
from circuit_atlas.service.diagram.shapes import EXCITE, INHIBIT
from tests.browser.atlases import LAYER, UNITS
from tests.service.diagram import wirings
from tests.service.diagram.planted import plant
from tests.service.diagram.stage import on_stage, scale_of

SVG = "{http://www.w3.org/2000/svg}"


@dataclass
class Figure:
    """A file that was saved, and how it is drawn by itself."""

    root: ElementTree.Element
    pixels: np.ndarray
    scale: float

    def of(self, name: str) -> list[ElementTree.Element]:
        return [e for e in self.root.iter() if name in e.get("class", "").split()]


def saved(tab, kind: str) -> bytes:
    """What Save gives of the first diagram."""
    part = tab.page.locator("section.diagram-panel").first
    part.get_by_role("button", name="Save").click()
    with tab.page.expect_download() as download:
        part.get_by_role("link", name=f"{kind} as it is seen here").click()
    tab.page.keyboard.press("Escape")
    return download.value.path().read_bytes()


def figure(tab, window) -> Figure:
    data = saved(tab, "SVG")
    root = ElementTree.fromstring(data)
    wide, high = (float(root.get("viewBox").split()[n]) for n in (2, 3))
    scale = 1600 / wide
    sheet = window(width=1600, height=round(high * scale))
    sheet.page.set_content(
        f"<style>body {{ margin: 0 }} svg {{ width: 1600px; height: auto }}</style>{data.decode()}"
    )
    image = Image.open(io.BytesIO(sheet.page.screenshot()))
    return Figure(root, np.asarray(image.convert("RGB")).astype(float), scale)


def content_of(tab) -> Content:
    """What the page draws from."""
    part = tab.page.locator("section.diagram-panel").first
    part.get_by_role("button", name="Save").click()
    href = part.get_by_role("link", name="JSON what is drawn").get_attribute("href")
    tab.page.keyboard.press("Escape")
    return Content.from_json(tab.page.request.get(href).body())


def shown(tab) -> tuple[np.ndarray, dict[str, float]]:
    """The pixels of the stage of the page, and its box."""
    stage = tab.page.get_by_role("application").first
    stage.scroll_into_view_if_needed()
    tab.page.mouse.move(2, 2)
    tab.settled()
    image = Image.open(io.BytesIO(stage.screenshot())).convert("RGB")
    box = stage.bounding_box()
    return np.asarray(image).astype(float), {**box, "x": 0.0, "y": 0.0}


def middle(pixels: np.ndarray, x: float, y: float, half: float) -> np.ndarray:
    """The mean colour around a point."""
    top, left = round(y - half), round(x - half)
    size = max(1, round(2 * half))
    return pixels[max(0, top) : top + size, max(0, left) : left + size].mean(axis=(0, 1))


@pytest.fixture(scope="module")
def mobile(tmp_path_factory, serve):
    """A network of long names, as of many blocks in stages."""
    location = tmp_path_factory.mktemp("mobile") / "atlas"
    plant(location, wirings.mobile(16))
    return serve(location)


CASES = [
    ("photos", LAYER, UNITS[1], {}),
    ("photos", LAYER, UNITS[1], {"d.hide": "inhibition", "d.nodes": "1.5", "d.images": "crops"}),
    ("two_ways", "head", 0, {}),
    ("two_ways", "head", 0, {"d.images": "both", "d.fraction": "0.2"}),
    ("mobile", "target", 1, {"keep": "1", "d.images": "crops"}),
]

WINDOWS = [(400, "light"), (1280, "dark"), (2000, "light")]
# What was changed on a page is looked at in one window.
SEEN = [
    (case, *window)
    for case, (_, _, _, state) in enumerate(CASES)
    for window in (WINDOWS[1:2] if state else WINDOWS)
]


@pytest.mark.parametrize(("case", "width", "scheme"), SEEN)
def test_a_saved_figure_shows_what_the_page_does(request, window, case, width, scheme):
    name, layer, unit, state = CASES[case]
    served = request.getfixturevalue(name)
    tab = window(width=width, color_scheme=scheme)
    tab.open(served.link("unit", layer=layer, unit=unit, edges=60, **{"keep": "0.5", **state}))
    tab.settled()
    content = content_of(tab)
    file = figure(tab, window)
    diagram = tab.page.locator(".ca-diagram").first
    assert len(file.of("kernel")) == int(diagram.get_attribute("data-shown")) > 10
    level = next(
        (
            number
            for number, one in enumerate(content.levels)
            if one.fraction == float(state.get("d.fraction", 0))
        ),
        0,
    )
    nodes = [n for n, bits in enumerate(content.nodes.levels) if bits >> level & 1]
    titles = [
        f"{content.bands[content.nodes.band[n]].name} {content.nodes.channel[n]}" for n in nodes
    ]
    drawn = file.of("node")
    assert [node.find(f"{SVG}title").text for node in drawn] == titles
    strokes = Counter(
        group.get("stroke")
        for group in file.root.iter(f"{SVG}g")
        for path in group
        if path.get("class") == "kernel"
    )
    signs = Counter(
        EXCITE if contribution > 0 else INHIBIT
        for contribution, bits in zip(content.edges.contribution, content.edges.levels, strict=True)
        if bits >> level & 1 and not (state.get("d.hide") == "inhibition" and contribution < 0)
    )
    assert strokes == signs
    # Each node is where it is on the page, and shows the same picture.
    pixels, box = shown(tab)
    x, y = (
        float(part)
        for part in file.of("drawing")[0].get("transform")[len("translate(") : -1].split()
    )
    scale = scale_of(box, content)
    reach = 0.3 * 30 * min(1.0, float(state.get("d.nodes", 1)))
    # Of two pictures beside each other, the left one: a crop, which every channel has.
    aside = 15 if state.get("d.images") == "both" else 0
    differences = []
    for node in nodes:
        at = content.nodes.x[node] - aside, content.nodes.y[node]
        if content.bands[content.nodes.band[node]].kind != "channel":
            continue
        page = middle(pixels, *on_stage(box, content, *at), reach * scale)
        print_ = middle(
            file.pixels, (x + at[0]) * file.scale, (y + at[1]) * file.scale, reach * file.scale
        )
        differences.append(np.abs(page - print_).max())
    assert len(differences) > 8
    if 30 * scale < 10:
        return  # pixels of a node's side: fewer than what it shows has stripes
    # Scaled down by two programs, edges of few pixels differ; another picture would by far more.
    assert np.median(differences) < 12
    assert np.mean(np.array(differences) < 45) > 0.9
    assert max(differences) < 90


def test_an_isolated_path_is_saved_alone_and_as_pixels(photos, tab, window):
    unit = photos.atlas.layer(LAYER).unit(UNITS[1])
    content = unit.circuit(keep=0.5).diagram(edges=60).content
    strongest = max(range(len(content.edges.end)), key=lambda e: content.edges.strength[e])
    band = content.bands[content.nodes.band[content.edges.source[strongest]]]
    channel = content.nodes.channel[content.edges.source[strongest]]
    selection = f"{band.name}:{channel}"
    link = photos.link("unit", layer=LAYER, unit=UNITS[1], keep=0.5, edges=60)
    tab.open(f"{link}&d.selection={selection}")
    tab.settled()
    file = figure(tab, window)
    said = tab.page.locator(".ca-chosen .ca-sub").inner_text()
    kernels = len(file.of("kernel"))
    assert said == f"{kernels} kernels on its paths"
    assert 0 < kernels < 60
    assert f"Isolated: {selection}" in "".join(file.root.itertext())
    pixels = Image.open(io.BytesIO(saved(tab, "PNG")))
    assert pixels.width == round(174 / 25.4 * 350)


def test_side_by_side_is_one_layout_and_marks_the_same_channel(photos, tab):
    link = photos.link(
        "compare",
        left_layer=LAYER,
        left_unit=UNITS[1],
        right_layer=LAYER,
        right_unit=UNITS[2],
        left_keep=0.5,
        right_keep=0.5,
        show="beside",
    )
    tab.open(link)
    tab.settled()
    layer = photos.atlas.layer(LAYER)
    circuits = [layer.unit(unit).circuit(keep=0.5) for unit in UNITS[1:3]]
    left, right = (
        circuits[0].diagram(against=circuits[1], side=side).content for side in ("left", "right")
    )
    both = circuits[0].diagram(against=circuits[1]).content
    for one in (left, right):
        assert (one.nodes.x, one.nodes.y) == (both.nodes.x, both.nodes.y)
        assert [(b.name, b.x, b.top, b.bottom) for b in one.bands] == [
            (b.name, b.x, b.top, b.bottom) for b in both.bands
        ]
        assert not one.sides
        assert one.beside
    stages = tab.page.get_by_role("application")
    shared = next(
        n
        for n in range(len(both.nodes.band))
        if left.nodes.levels[n] & right.nodes.levels[n] & 1
        and both.bands[both.nodes.band[n]].kind == "channel"
    )
    at = both.nodes.x[shared], both.nodes.y[shared]
    stages.first.scroll_into_view_if_needed()
    box = stages.first.bounding_box()
    tab.page.mouse.move(*on_stage(box, both, *at))
    tab.page.locator(".ca-card:not([hidden])").wait_for()
    other = stages.nth(1)
    size = other.bounding_box()
    x, y = on_stage({**size, "x": -1.0, "y": -1.0}, both, *at)
    tab.page.wait_for_function(
        """([stage, x, y, reach]) => {
          const top = stage.querySelectorAll("canvas.ca-layer")[1];
          const ratio = top.width / stage.clientWidth;
          const size = Math.ceil(2 * reach * ratio);
          const corner = [(x - reach) * ratio, (y - reach) * ratio];
          const { data } = top.getContext("2d").getImageData(...corner, size, size);
          return data.some((value, at) => at % 4 === 3 && value > 0);
        }""",
        arg=[other.element_handle(), x, y, 24 * scale_of(size, both) + 6],
    )
    # Sliders move both: there is one state.
    tab.page.get_by_label("Inhibition").first.uncheck()
    tab.page.wait_for_url("**d.hide=inhibition**")
    assert not tab.page.get_by_label("Inhibition").nth(1).is_checked()


def test_the_card_covers_nothing_of_its_channel_and_leads_to_its_page(photos, window):
    for width in (400, 1280):
        tab = window(width=width)
        tab.open(photos.link("unit", layer=LAYER, unit=UNITS[1], keep=0.5, edges=60))
        tab.settled()
        content = content_of(tab)
        stage = tab.page.get_by_role("application")
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        half = 15 * scale_of(box, content)
        card = tab.page.locator(".ca-card")
        for node in range(0, len(content.nodes.band), 9):
            band = content.bands[content.nodes.band[node]]
            if band.kind != "channel":
                continue
            x, y = on_stage(box, content, content.nodes.x[node], content.nodes.y[node])
            tab.page.mouse.move(box["x"] + 3, box["y"] + 3)
            card.wait_for(state="hidden")
            tab.page.mouse.move(x, y)
            channel = content.nodes.channel[node]
            card.get_by_text(f"{band.name}, channel {channel}", exact=True).wait_for()
            over = card.bounding_box()
            aside = over["x"] >= x + half or over["x"] + over["width"] <= x - half
            assert aside or over["y"] >= y + half or over["y"] + over["height"] <= y - half
            assert over["x"] >= box["x"]
            assert over["x"] + over["width"] <= box["x"] + box["width"]
            link = card.get_by_role("link", name="Open its page").get_attribute("href")
            if not band.unit:
                assert f"page=channel&layer={band.name}" in link
                assert f"channel={channel}" in link
