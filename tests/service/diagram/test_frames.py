"""What a frame draws of 20,000 kernels: counted, on a clock that only drawing moves on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from circuit_atlas.service.diagram.drawing import Diagram
from tests.chromium import IN_CHROMIUM, chromium, new_context
from tests.service.diagram import wirings
from tests.service.diagram.planted import unit_of
from tests.service.diagram.stage import on_stage

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = IN_CHROMIUM

FRAME_MS = 14
"""Of drawing, that a frame is given."""
PIECE = 32
"""Lines, after which the clock is looked at."""

# Each curve takes `counted.lineMs` and nothing else takes any time. A canvas that another one was
# drawn from is copied by the browser, all of it, once more is drawn on it, unless the other one
# was emptied.
_COUNTING = """
window.counted = { lineMs: 0.002, frames: [], pending: 0 };
(() => {
  let now = 0;
  let frame = null;
  const readers = new Map();
  performance.now = () => now;
  const kinds = [CanvasRenderingContext2D, OffscreenCanvasRenderingContext2D];
  const emptied = (canvas) => readers.forEach((some) => some.delete(canvas));
  const before = (name, act) => {
    for (const { prototype } of kinds) {
      const real = prototype[name];
      prototype[name] = function (...given) {
        act(this.canvas, given);
        return real.apply(this, given);
      };
    }
  };
  const drawnOn = (canvas) => {
    if (!readers.get(canvas)?.size) return;
    readers.get(canvas).clear();
    if (frame) frame.copied += canvas.width * canvas.height;
  };
  for (const name of ["stroke", "fill", "fillRect", "strokeRect", "fillText"]) {
    before(name, drawnOn);
  }
  before("bezierCurveTo", (canvas) => {
    now += counted.lineMs;
    if (!frame) return;
    frame.curves += 1;
    frame.above += canvas === document.querySelectorAll(".ca-layer")[1];
  });
  before("drawImage", (canvas, [source]) => {
    drawnOn(canvas);
    if (frame) frame.pictures += source instanceof HTMLImageElement;
    if (!(source instanceof HTMLCanvasElement)) return;
    if (!readers.has(source)) readers.set(source, new Set());
    readers.get(source).add(canvas);
  });
  before("clearRect", emptied);
  const { get, set } = Object.getOwnPropertyDescriptor(HTMLCanvasElement.prototype, "width");
  Object.defineProperty(HTMLCanvasElement.prototype, "width", {
    get,
    set(value) {
      emptied(this);
      set.call(this, value);
    },
  });
  const ask = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (act) => {
    counted.pending += 1;
    return ask((at) => {
      const began = now;
      frame = { curves: 0, above: 0, copied: 0, pictures: 0, ms: 0 };
      act(at);
      frame.ms = now - began;
      counted.frames.push(frame);
      frame = null;
      counted.pending -= 1;
    });
  };
})();
"""


@pytest.fixture(scope="module")
def diagram(tmp_path_factory) -> Diagram:
    unit = unit_of(tmp_path_factory.mktemp("frames") / "atlas", wirings.large())
    return unit.circuit(keep=1).diagram(edges=20_000)


@pytest.fixture
def show(diagram, tmp_path) -> Iterator[Callable[..., playwright.Page]]:
    """`show(state)`: its page in a state as the address holds it; frames are counted there."""
    with chromium() as browser:

        def opened(state: str = "") -> playwright.Page:
            page = new_context(browser, viewport={"width": 1200, "height": 800}).new_page()
            page.add_init_script(_COUNTING)
            page.goto(f"{diagram.save(tmp_path / 'page.html').as_uri()}#{state}")
            return page

        yield opened


@pytest.fixture
def page(show) -> playwright.Page:
    """Its page, all of it drawn, where frames are counted from now on."""
    page = show()
    drawn(page, curves=20_000)
    return page


def drawn(page: playwright.Page, **least: int) -> list[dict[str, float]]:
    """The frames since the last call, once they have so many `curves`, curves `above` or `pictures`
    and no other frame is to come."""
    page.wait_for_function(
        """(least) => !counted.pending && Object.entries(least).every(([what, count]) =>
          counted.frames.reduce((sum, frame) => sum + frame[what], 0) >= count)""",
        arg=least,
        polling=50,  # by frames of its own, it would always wait for one more
    )
    return page.evaluate("counted.frames.splice(0)")


def test_a_frame_ends_in_time_whatever_a_line_takes(page):
    page.evaluate("counted.lineMs = 0.2")  # a hundred times what it took until now
    for _ in range(3):
        page.get_by_label("Zoom in").click()
    frames = drawn(page, curves=1000)
    assert max(frame["ms"] for frame in frames) <= FRAME_MS + PIECE * 0.2
    assert max(frame["curves"] for frame in frames) > FRAME_MS / 0.2 - PIECE


def test_pointing_at_a_channel_of_many_kernels_ends_in_time(page, diagram):
    content = diagram.content
    page.evaluate("counted.lineMs = 0.2")
    box = page.locator(".ca-stage").bounding_box()
    band = next(band for band in content.bands if band.name == "b")
    page.mouse.move(*on_stage(box, content, band.x, (band.top + band.bottom) / 2))
    page.wait_for_selector(".ca-card:not([hidden])")
    name, channel = page.locator(".ca-card strong").inner_text().split(", channel ")
    assert name == "b"
    node = next(
        node
        for node, other in enumerate(content.nodes.band)
        if content.bands[other] == band and content.nodes.channel[node] == int(channel)
    )
    kernels = content.edges.source.count(node) + content.edges.end.count(node)
    frames = drawn(page, above=kernels)
    assert kernels > 2 * FRAME_MS / 0.2
    assert max(frame["ms"] for frame in frames) <= FRAME_MS + PIECE * 0.2


def test_a_frame_copies_no_canvas_time_and_again(page):
    for _ in range(3):
        page.get_by_label("Zoom in").click()
    # Channels are large enough now for their pictures, which are made small for it.
    frames = drawn(page, pictures=100)
    layer = page.evaluate(
        """() => {
          const { width, height } = document.querySelector(".ca-layer");
          return 1.4 * width * 1.4 * height;
        }"""
    )
    assert max(frame["copied"] for frame in frames) <= 2 * layer


def curves(diagram: Diagram, kernels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Points of kernels' lines as (kernel, point, 2): a cubic with level ends."""
    nodes, edges = diagram.content.nodes, diagram.content.edges
    place = np.column_stack([nodes.x, nodes.y])
    half = np.array([20.25 if diagram.content.bands[band].unit else 15 for band in nodes.band])
    starts, ends = (np.asarray(points)[kernels] for points in (edges.start, edges.end))
    start, end = place[starts], place[ends]
    start[:, 0] += half[starts]
    end[:, 0] -= half[ends]
    middle = (start[:, 0] + end[:, 0]) / 2
    leave, arrive = start.copy(), end.copy()
    leave[:, 0] = arrive[:, 0] = middle
    t = np.linspace(0, 1, 2000)[None, :, None]
    parts = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
    return sum(
        part * point[:, None]
        for part, point in zip(parts, (start, leave, arrive, end), strict=True)
    )


@pytest.mark.parametrize("view", [(1.5, 2000, 2600), (6, 5000, 1000), (0.4, 7000, 4000)])
def test_lines_that_come_into_sight_are_drawn_and_no_others(show, diagram, view):
    k, x, y = view
    page = show(f"images=none&zoom={k},{x},{y}")
    # It stands once the first layer is drawn, which has a margin of a fifth of the stage around it.
    found = sum(frame["curves"] for frame in drawn(page, curves=1))
    stage = page.locator(".ca-stage")
    half = [
        0.7 * stage.evaluate(f"(stage) => stage.client{side}") / k for side in ("Width", "Height")
    ]
    crossing = []
    for slack in (-1, 5):  # points: a line is up to 4.2 pixels wide, and 2.2 times that from near
        reach = np.array(half) + (slack if slack < 0 else slack / min(k, 1) + slack)
        crossing.append(0)
        for some in np.array_split(np.arange(20_000), 20):
            near = np.abs(curves(diagram, some) - [x, y]) <= reach
            crossing[-1] += int(near.all(-1).any(-1).sum())
    least, most = crossing
    assert 0 < least <= found <= most
