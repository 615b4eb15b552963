"""Names in drawings of many columns: each can be read, measured in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest

from circuit_atlas.service.diagram.drawing import Diagram
from tests.chromium import IN_CHROMIUM, chromium, new_context
from tests.service.diagram import wirings
from tests.service.diagram.planted import unit_of

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


@pytest.fixture(scope="module")
def diagram(tmp_path_factory) -> Diagram:
    unit = unit_of(tmp_path_factory.mktemp("names") / "atlas", wirings.deep(), 1)
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


def whole(band: str) -> str:
    """A band's name as it is written where there is room."""
    return band.removeprefix("blocks.")


@pytest.mark.parametrize("width", [320, 400, 700, 1200, 4000])
def test_names_do_not_touch_and_the_ends_have_theirs(browser, diagram, tmp_path, width):
    page = new_context(browser, viewport={"width": width, "height": 800}).new_page()
    page.add_init_script(NOTED)
    page.goto(diagram.save(tmp_path / "page.html").as_uri())
    names = written(page)
    assert touching(names) == []
    texts = [text for text, _ in names]
    assert {"image", "head.classifier"} <= set(texts)
    bands = [whole(band.name) for band in diagram.content.bands]
    for text in texts:
        assert any(band == text or band.endswith(text.removeprefix("…")) for band in bands)
    # No more is left out than has to be: in the widest window all of them are there, whole.
    assert len(texts) > len(bands) / 3
    if width == 4000:
        assert sorted(texts) == sorted(bands)
    page.context.close()


def test_what_is_pointed_at_has_its_whole_name(browser, diagram, tmp_path):
    page = new_context(browser, viewport={"width": 400, "height": 800}).new_page()
    page.add_init_script(NOTED)
    page.goto(diagram.save(tmp_path / "page.html").as_uri())
    texts = {text for text, _ in written(page)}
    content = diagram.content
    stage = page.locator(".ca-stage").bounding_box()
    scale = min((stage["width"] - 2) / content.width, (stage["height"] - 2) / content.height, 2.2)
    left_out = [b for b in content.bands if whole(b.name) not in texts]
    assert len(left_out) > 2
    for band in left_out[:3]:
        node = content.nodes.band.index(content.bands.index(band))
        page.mouse.move(
            stage["x"] + stage["width"] / 2 + (content.nodes.x[node] - content.width / 2) * scale,
            stage["y"] + stage["height"] / 2 + (content.nodes.y[node] - content.height / 2) * scale,
        )
        page.locator(".ca-card strong", has_text=f"{band.name}, channel").wait_for()
        page.wait_for_function(
            "name => window.names.some(([text]) => text === name)", arg=whole(band.name)
        )
        assert touching(written(page)) == []
    page.context.close()


@pytest.mark.parametrize("count", [6, 24, 60])
def test_names_of_a_file_do_not_touch(browser, tmp_path, count):
    deep = unit_of(tmp_path / "atlas", wirings.deep(count), 1).circuit(keep=1).diagram()
    page = new_context(browser).new_page()
    page.goto(deep.save(tmp_path / "drawing.svg").as_uri())
    found = page.evaluate(
        """() => [...document.querySelectorAll(".names text")].map((text) => {
          const { left, right, top, bottom } = text.getBoundingClientRect();
          return [text.textContent, [[left, top], [right, top], [right, bottom], [left, bottom]]];
        })"""
    )
    names = [(text, np.array(corners)) for text, corners in found]
    assert touching(names) == []
    bands = deep.content.bands
    texts = [text for text, _ in names]
    assert texts[0] == "image"
    assert texts[1] in ("head.classifier", "classifier")
    # Side by side, a name would be at each column, or as many as there is room for.
    corners = np.array([corners for _, corners in names])
    widest = np.ptp(corners[..., 0], axis=1).max()
    room = np.ptp(corners[..., 0]) / widest
    assert len(texts) > 0.8 * min(len(bands), room)
    for text in texts:
        assert any(band.name == text or band.name.endswith(f".{text}") for band in bands)
    page.context.close()
