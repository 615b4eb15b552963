"""Names in drawings of many columns: each can be read, measured in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest

from circuit_atlas.service.diagram.data import Content
from circuit_atlas.service.diagram.drawing import Diagram
from tests.chromium import IN_CHROMIUM, chromium, new_context
from tests.service.diagram import wirings
from tests.service.diagram.planted import unit_of
from tests.service.diagram.stage import on_stage, scale_of

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = IN_CHROMIUM

# Notes down what the last frame wrote on the lower of the two canvases, and where its corners lie.
NOTED = """
  const lower = (context) => context.canvas === document.querySelector(".ca-layer");
  const { clearRect, fillText } = CanvasRenderingContext2D.prototype;
  window.names = [];
  CanvasRenderingContext2D.prototype.clearRect = function (...box) {
    if (lower(this)) window.names = [];
    return clearRect.apply(this, box);
  };
  CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
    if (lower(this)) {
      const measured = this.measureText(text);
      const matrix = this.getTransform();
      const corners = [
        [-measured.actualBoundingBoxLeft, -measured.actualBoundingBoxAscent],
        [measured.actualBoundingBoxRight, -measured.actualBoundingBoxAscent],
        [measured.actualBoundingBoxRight, measured.actualBoundingBoxDescent],
        [-measured.actualBoundingBoxLeft, measured.actualBoundingBoxDescent],
      ].map(([dx, dy]) => matrix.transformPoint({ x: x + dx, y: y + dy }));
      window.names.push([text, corners.map((point) => [point.x, point.y])]);
    }
    return fillText.call(this, text, x, y);
  };
"""


@pytest.fixture(scope="module", params=["deep", "mobile"])
def diagram(request, tmp_path_factory) -> Diagram:
    planted = {"deep": wirings.deep, "mobile": wirings.mobile}[request.param]()
    unit = unit_of(tmp_path_factory.mktemp("names") / "atlas", planted, 1)
    return unit.circuit(keep=1).diagram()


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with chromium() as found:
        yield found


def apart(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether a side of either rectangle parts them."""
    for corners in (one, other):
        for side in (corners[1] - corners[0], corners[2] - corners[1]):
            a, b = one @ side, other @ side
            if a.max() < b.min() or b.max() < a.min():
                return True
    return False


def touching(names: list[tuple[str, np.ndarray]]) -> list[tuple[str, str]]:
    return [(a, b) for (a, one), (b, other) in combinations(names, 2) if not apart(one, other)]


def written(page) -> list[tuple[str, np.ndarray]]:
    """What stands there once two frames wrote the same."""
    page.wait_for_function(
        """() => {
          const now = JSON.stringify(window.names);
          const same = now !== "[]" && now === window.before;
          window.before = now;
          return same;
        }""",
    )
    return [(text, np.array(corners)) for text, corners in page.evaluate("window.names")]


def is_count(text: str) -> bool:
    return text.replace("/", "").replace(",", "").isdigit()


def level(corners: np.ndarray) -> bool:
    """Whether a text stands level: as wide and as high as the box around it."""
    return bool(abs(corners[0, 1] - corners[1, 1]) < 1e-6)


def nodes_of(page, content: Content) -> list[np.ndarray]:
    """The squares of the nodes on the page, less a pixel of each side."""
    box = page.locator(".ca-stage").bounding_box()
    half = 15 * scale_of(box, content) - 1
    found = []
    for x, y, band in zip(content.nodes.x, content.nodes.y, content.nodes.band, strict=True):
        if content.bands[band].kind not in ("sum", "product", "mix"):
            px, py = on_stage(box, content, x, y)
            px, py = px - box["x"] - 1, py - box["y"] - 1
            corners = [(-half, -half), (half, -half), (half, half), (-half, half)]
            found.append(np.array([(px + dx, py + dy) for dx, dy in corners]))
    return found


@pytest.mark.parametrize("width", [320, 400, 1280, 2000, 4000])
def test_names_stand_level_and_touch_no_other_and_no_node(browser, diagram, tmp_path, width):
    page = new_context(browser, viewport={"width": width, "height": 800}).new_page()
    page.add_init_script(NOTED)
    page.goto(diagram.save(tmp_path / "page.html").as_uri())
    names = written(page)
    assert touching(names) == []
    assert all(level(corners) for _, corners in names)
    nodes = nodes_of(page, diagram.content)
    assert all(apart(corners, node) for _, corners in names for node in nodes)
    texts = [text for text, _ in names if not is_count(text)]
    bands = diagram.content.bands
    ends = (bands[-1].label, bands[-1].label.rpartition(".")[2])
    assert "image" in texts
    assert any(end in texts for end in ends)
    for text in texts:
        assert any(text.removeprefix("…") in band.label for band in bands)
    told = "".join(texts)
    whole = [band for band in bands if band.label in told]
    # No more is left out than has to be.
    assert len(whole) >= {320: 0.15, 400: 0.2, 1280: 0.9}.get(width, 1) * len(bands)
    page.context.close()


def test_what_is_pointed_at_has_its_whole_name(browser, diagram, tmp_path):
    page = new_context(browser, viewport={"width": 400, "height": 800}).new_page()
    page.add_init_script(NOTED)
    page.goto(diagram.save(tmp_path / "page.html").as_uri())
    told = "".join(text for text, _ in written(page))
    content = diagram.content
    stage = page.locator(".ca-stage").bounding_box()
    left_out = [band for band in content.bands if band.label not in told]
    assert len(left_out) > 2
    for band in left_out[:3]:
        node = content.nodes.band.index(content.bands.index(band))
        page.mouse.move(*on_stage(stage, content, content.nodes.x[node], content.nodes.y[node]))
        page.locator(".ca-card strong", has_text=f"{band.name}, channel").wait_for()
        page.wait_for_function(
            "name => window.names.map(([text]) => text).join('').includes(name)", arg=band.label
        )
        assert touching(written(page)) == []
    page.context.close()


@pytest.mark.parametrize("count", [6, 24, 60])
@pytest.mark.parametrize("kind", ["deep", "mobile"])
def test_names_of_a_file_do_not_touch(browser, tmp_path, kind, count):
    planted = {"deep": wirings.deep, "mobile": wirings.mobile}[kind](count)
    deep = unit_of(tmp_path / "atlas", planted, 1).circuit(keep=1).diagram()
    page = new_context(browser).new_page()
    page.goto(deep.save(tmp_path / "drawing.svg").as_uri())
    found = page.evaluate(
        """() => [...document.querySelectorAll(".names text")].map((text) => {
          const { left, right, top, bottom } = text.getBoundingClientRect();
          // A line's box has room for accents, which no letter here takes.
          const part = (bottom - top) / 8;
          const [high, low] = [top + part, bottom - part];
          return [text.textContent, [[left, high], [right, high], [right, low], [left, low]]];
        })"""
    )
    names = [(text, np.array(corners)) for text, corners in found]
    assert touching(names) == []
    told = "".join(text for text, _ in names if not is_count(text))
    bands = deep.content.bands
    whole = sum(band.label in told for band in bands)
    assert "image" in told
    assert bands[-1].label in told or bands[-1].label.rpartition(".")[2] in told
    assert whole >= {6: 1, 24: 0.4, 60: 0.1}[count] * len(bands)
    page.context.close()
