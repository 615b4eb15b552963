"""The page in a real browser: it asks for nothing, shows the client's figures, and can be used."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from circuit_atlas.service.client.layer import Layer
from circuit_atlas.service.diagram.drawing import Diagram
from tests.chromium import IN_CHROMIUM, chromium, new_context
from tests.service.diagram import wirings
from tests.service.diagram.planted import unit_of
from tests.service.diagram.stage import on_stage

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = IN_CHROMIUM


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def show(browser, tmp_path) -> Iterator[Callable[..., playwright.Page]]:
    """`show(diagram, hash="", **settings)`: its page, which may make no request and no noise."""
    troubles: list[str] = []
    contexts = []

    def opened(diagram: Diagram, hash: str = "", **settings: object) -> playwright.Page:
        path = diagram.save(tmp_path / "page.html")
        context = new_context(browser, **{"viewport": {"width": 1200, "height": 800}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))

        def asked(request: playwright.Request) -> None:
            if not request.url.startswith(("data:", path.as_uri())):
                troubles.append(f"request: {request.url}")

        page.on("request", asked)
        page.goto(path.as_uri() + hash)
        page.wait_for_selector(".ca-diagram[data-shown]")
        drawn(page)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.fixture(scope="module")
def fire(tmp_path_factory):
    return unit_of(tmp_path_factory.mktemp("page") / "atlas", wirings.fire(), 1)


@pytest.fixture(scope="module")
def diagram(fire) -> Diagram:
    return fire.circuit(keep=1).diagram()


def drawn(page: playwright.Page) -> None:
    """Wait until nothing is still to be drawn."""
    page.wait_for_selector(".ca-stage:not([data-busy])")


def told(page: playwright.Page, **state: str | None) -> None:
    """Wait until the address tells that of the state; None: nothing of that name."""
    page.wait_for_function(
        """(wanted) => {
          const state = new URLSearchParams(location.hash.slice(1));
          return Object.entries(wanted).every(([name, value]) => state.get(name) === value);
        }""",
        arg=state,
    )


def zoomed(page: playwright.Page, *, since: str | None = None) -> str:
    """The zoom that the address tells, once it tells another one than `since`."""
    found = page.wait_for_function(
        """(since) => {
          const zoom = new URLSearchParams(location.hash.slice(1)).get("zoom");
          return zoom !== since && zoom;
        }""",
        arg=since,
    )
    return found.json_value()


def place(page: playwright.Page, diagram: Diagram, x: float, y: float) -> tuple[float, float]:
    """A point of the drawing as it lies on the page when all of it is shown."""
    return on_stage(page.locator(".ca-stage").bounding_box(), diagram.content, x, y)


def node_place(page, diagram: Diagram, node: int) -> tuple[float, float]:
    nodes = diagram.content.nodes
    return place(page, diagram, nodes.x[node], nodes.y[node])


def node_of(diagram: Diagram, name: str, channel: int) -> int:
    content = diagram.content
    return next(
        node
        for node, band in enumerate(content.nodes.band)
        if content.bands[band].name == name and content.nodes.channel[node] == channel
    )


def facts(page: playwright.Page) -> dict[str, str]:
    names = page.locator(".ca-card dt").all_inner_texts()
    values = page.locator(".ca-card dd").all_inner_texts()
    return dict(zip(names, values, strict=True))


def shown(page: playwright.Page) -> int:
    return int(page.locator(".ca-diagram").get_attribute("data-shown"))


def inked(page: playwright.Page) -> float:
    """Share of the drawn layer's pixels that are not empty."""
    return page.evaluate(
        """() => {
          const drawn = document.querySelector(".ca-layer");
          const copy = new OffscreenCanvas(drawn.width, drawn.height).getContext("2d");
          copy.drawImage(drawn, 0, 0);
          const { data } = copy.getImageData(0, 0, drawn.width, drawn.height);
          let count = 0;
          for (let i = 3; i < data.length; i += 4) count += data[i] > 0;
          return (4 * count) / data.length;
        }"""
    )


def test_the_card_of_a_channel_tells_the_clients_figures(show, fire, diagram):
    page = show(diagram)
    rows = fire.circuit(keep=1).kernels().to_pylist()
    total = sum(row["score"] for row in rows)
    for name, channel in (("three", 2), ("squeeze", 1), ("last", 1)):
        page.mouse.move(*node_place(page, diagram, node_of(diagram, name, channel)))
        page.locator(".ca-card strong", has_text=f"{name}, channel {channel}").wait_for()
        own = [r for r in rows if (r["convolution"], r["out_channel"]) == (name, channel)]
        score = sum(row["score"] for row in own)
        told = facts(page)
        assert float(told["score"]) == pytest.approx(score, rel=1e-3)
        assert float(told["share"].removesuffix(" %")) == pytest.approx(
            100 * score / total, abs=0.06
        )
        assert int(told["kernels in"]) == len(own)
        assert page.locator(".ca-strip canvas").count() >= 3
    assert int(told["kernels out"]) == 0


def test_the_card_of_a_kernel_tells_the_clients_figures(show, fire, diagram):
    page = show(diagram)
    content = diagram.content
    circuit = fire.circuit(keep=1)
    reader = fire.reader
    contribution = dict(
        zip(
            [tuple(r.values())[:3] for r in circuit.kernels().to_pylist()],
            reader.contribution(fire.commit)[circuit.positions].tolist(),
            strict=True,
        )
    )
    scores = {tuple(r.values())[:3]: r["score"] for r in circuit.kernels().to_pylist()}
    edge = content.edges.end.index(node_of(diagram, "three", 3))
    start, end = content.edges.start[edge], content.edges.end[edge]
    middle = [
        (getattr(content.nodes, axis)[start] + getattr(content.nodes, axis)[end]) / 2
        for axis in "xy"
    ]
    page.mouse.move(*place(page, diagram, *middle))
    page.wait_for_selector(".ca-card:not([hidden])")
    title = page.locator(".ca-card strong").inner_text()
    name, out, channel = re.fullmatch(r"(\w+), kernel (\d+), (\d+)", title).groups()
    kernel = (name, int(out), int(channel))
    told = facts(page)
    assert float(told["score"]) == pytest.approx(scores[kernel], rel=1e-3)
    assert float(told["share"].removesuffix(" %")) == pytest.approx(
        100 * scores[kernel] / sum(scores.values()), abs=0.06
    )
    assert float(told["contribution"]) == pytest.approx(contribution[kernel], rel=1e-3)
    assert told["effect"] == ("excitation" if contribution[kernel] > 0 else "inhibition")
    assert page.locator(".ca-kernel").is_visible()


def reached(diagram: Diagram, node: int) -> int:
    """Kernels up and down a node's paths, one step at a time."""
    edges = diagram.content.edges
    found = set()
    for here, there in ((edges.end, edges.source), (edges.source, edges.end)):
        todo, seen = [node], {node}
        while todo:
            point = todo.pop()
            for edge, end in enumerate(here):
                if end == point:
                    found.add(edge)
                    if there[edge] not in seen:
                        seen.add(there[edge])
                        todo.append(there[edge])
    return len(found)


def test_a_click_isolates_and_another_resets(show, diagram):
    page = show(diagram)
    node = node_of(diagram, "three", 2)
    before = inked(page)
    page.mouse.click(*node_place(page, diagram, node))
    page.mouse.move(5, 5)
    told(page, selection="three:2")
    drawn(page)
    kernels = reached(diagram, node)
    assert 0 < kernels < shown(page)
    assert f". {kernels} kernels." in page.locator("[aria-live]").inner_text()
    assert inked(page) < before
    page.mouse.click(*node_place(page, diagram, node))
    page.mouse.move(5, 5)
    told(page, selection=None)
    drawn(page)
    assert inked(page) == pytest.approx(before, rel=0.02)
    page.mouse.click(*node_place(page, diagram, node))
    told(page, selection="three:2")
    page.keyboard.press("Escape")
    told(page, selection=None)


def test_the_stage_says_so_while_it_is_drawn(show, diagram):
    page = show(diagram)
    assert page.evaluate(
        """() => {
          const stage = document.querySelector(".ca-stage");
          stage.dispatchEvent(new KeyboardEvent("keydown", { key: "+", bubbles: true }));
          return stage.hasAttribute("data-busy");
        }"""
    )
    drawn(page)
    assert zoomed(page)


def test_the_slider_goes_through_the_ladders_counts(show, fire, diagram):
    page = show(diagram)
    slider = page.get_by_label("Kept fraction")
    assert slider.get_attribute("max") == "3"
    slider.focus()
    for level, fraction in zip(diagram.content.levels, (1, 0.5, 0.25, 0.1), strict=True):
        circuit = fire.circuit(keep=fraction)
        assert (level.fraction, level.kernels) == (fraction, len(circuit))
        assert shown(page) == circuit.diagram().content.counts.drawn
        assert f"circuit of {len(circuit)} kernels," in page.locator(".ca-count").inner_text()
        assert page.locator(".ca-value").inner_text() == f"{100 * fraction:g} %"
        page.keyboard.press("ArrowLeft")


def test_what_is_hidden_is_not_counted(show, diagram):
    page = show(diagram)
    signs = np.sign(diagram.content.edges.contribution)
    page.get_by_label("Inhibition").uncheck()
    assert shown(page) == int((signs > 0).sum()) > 0
    page.get_by_label("Excitation").uncheck()
    assert shown(page) == 0
    page.get_by_label("Inhibition").check()
    assert shown(page) == int((signs < 0).sum()) > 0


def test_two_circuits_are_told_apart(show, fire):
    overlay = fire.circuit(keep=0.5).diagram(
        against=Layer(fire.reader, fire.index).unit(0).circuit(keep=0.5)
    )
    page = show(overlay)
    sides = np.asarray(overlay.content.edges.side)
    for side, label in enumerate(("Shared", "Only left", "Only right")):
        page.get_by_label(label).uncheck()
        assert shown(page) == int((sides > side).sum())


def test_an_address_shows_the_same_view(show, diagram):
    page = show(diagram, "#fraction=0.5&hide=inhibition&images=none&nodes=2&kernels=0.5&table=1")
    signs = np.sign(diagram.content.edges.contribution)
    on = np.asarray(diagram.content.edges.levels) >> 1 & 1
    assert shown(page) == int(((signs > 0) & (on == 1)).sum())
    assert page.get_by_label("None", exact=True).is_checked()
    assert float(page.get_by_label("Nodes").input_value()) == pytest.approx(math.log2(2))
    assert float(page.get_by_label("Kernels", exact=True).input_value()) == pytest.approx(-1)
    assert page.locator(".ca-table tbody").first.is_visible()


def test_zoom_and_pan_keep_what_is_under_the_pointer(show, diagram):
    page = show(diagram)
    node = node_of(diagram, "squeeze", 0)
    x, y = node_place(page, diagram, node)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -400)
    near = zoomed(page)
    drawn(page)
    page.locator(".ca-card strong", has_text="squeeze, channel 0").wait_for()
    # Away from the reader is nearer; all of it is shown at 2.2 pixels a point at most.
    assert float(near.split(",")[0]) > 2.2
    page.mouse.move(x + 40, y + 30)
    page.mouse.down()
    page.mouse.move(x + 140, y + 90, steps=5)
    page.mouse.up()
    page.mouse.move(x + 100, y + 60)
    panned = zoomed(page, since=near)
    drawn(page)
    page.locator(".ca-card strong", has_text="squeeze, channel 0").wait_for()
    assert panned.split(",")[0] == near.split(",")[0]
    page.get_by_role("button", name="Show all of it").click()
    told(page, zoom=None)


def test_the_keyboard_goes_along_kernels_and_isolates(show, diagram):
    page = show(diagram)
    content = diagram.content
    stage = page.locator(".ca-stage")
    stage.focus()

    def current() -> str:
        pointer = stage.get_attribute("aria-activedescendant")
        return page.locator(f"#{pointer}").get_attribute("aria-label")

    page.keyboard.press("End")
    assert current().startswith("last, channel 1")
    page.keyboard.press("ArrowLeft")
    unit = node_of(diagram, "last", 1)
    into = [e for e, end in enumerate(content.edges.end) if end == unit]
    strongest = max(into, key=lambda e: content.edges.strength[e])
    source = content.edges.source[strongest]
    name = content.bands[content.nodes.band[source]].name
    assert current().startswith(f"{name}, channel {content.nodes.channel[source]}")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert current().startswith(f"{name}, channel {content.nodes.channel[source]}")
    page.keyboard.press(".")
    assert re.match(rf"{name}, kernel \d+, \d+, score", current())
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(rf"selection={name}%3A\d+%3A\d+"))


def test_the_table_tells_what_the_drawing_shows(show, fire, diagram):
    page = show(diagram)
    page.get_by_text("Table of channels and kernels").click()
    rows = page.locator(".ca-table table").nth(1).locator("tbody tr")
    rows.first.wait_for()
    assert rows.count() == diagram.content.counts.drawn
    cells = [row.split("\t") for row in rows.all_inner_texts()]
    best = sorted(fire.circuit(keep=1).kernels().to_pylist(), key=lambda r: -r["score"])[0]
    assert cells[0][:3] == [best["convolution"], str(best["out_channel"]), str(best["in_channel"])]
    assert float(cells[0][3]) == pytest.approx(best["score"], rel=1e-3)
    page.get_by_label("Kept fraction").press("ArrowLeft")
    assert rows.count() == shown(page) < diagram.content.counts.drawn
    page.get_by_label("Inhibition").uncheck()
    assert rows.count() == shown(page)
    assert {text.split("\t")[-1] for text in rows.all_inner_texts()} == {"excitation"}


@pytest.mark.parametrize("width", [400, 2000])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_follows_the_theme(show, diagram, width, scheme):
    page = show(diagram, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert inked(page) > 0.01
    red, green, blue = map(
        int,
        re.findall(
            r"\d+",
            page.evaluate("getComputedStyle(document.querySelector('.ca-stage')).background"),
        )[:3],
    )
    assert (red + green + blue > 600) == (scheme == "light")


def test_a_circuit_without_a_path_says_so(show, fire):
    page = show(fire.circuit(kernels=1).diagram())
    assert page.get_by_text("No path from the image to the unit is left").is_visible()
    assert shown(page) == 0


def test_twenty_thousand_kernels_are_drawn_and_answer(show, tmp_path):
    diagram = unit_of(tmp_path / "large", wirings.large()).circuit(keep=1).diagram(edges=20_000)
    assert diagram.content.counts.drawn == 20_000
    page = show(diagram)
    assert shown(page) == 20_000
    assert inked(page) > 0.15
    page.mouse.move(*node_place(page, diagram, node_of(diagram, "d", 0)))
    page.wait_for_selector(".ca-card:not([hidden])")
    assert page.locator(".ca-card strong").inner_text() == "d, channel 0"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_figure_shows_where_no_script_runs_in_a_notebook(browser, diagram, tmp_path, scheme):
    """As where a site's rules forbid scripts: the page in the frame is seen through."""
    frame = re.compile(r"<iframe .*?</iframe>", re.DOTALL)

    def shown(name: str, html: str, *, scripts: bool) -> bytes:
        path = tmp_path / f"{name}.html"
        path.write_text(f"<!doctype html><meta charset=utf-8>{html}", encoding="utf-8")
        context = new_context(browser, java_script_enabled=scripts, color_scheme=scheme)
        page = context.new_page()
        page.goto(path.as_uri())
        if scripts:
            page.frame_locator("iframe").locator(".ca-diagram[data-shown]").wait_for()
            page.frame_locator("iframe").locator("#until-drawn").wait_for(state="detached")
        picture = page.screenshot()
        context.close()
        return picture

    html = diagram._repr_html_()
    figure = shown("figure", frame.sub("", html), scripts=False)
    assert shown("forbidden", html, scripts=False) == figure
    assert shown("allowed", html, scripts=True) != figure


def test_a_saved_page_says_that_it_needs_scripts(browser, diagram, tmp_path):
    context = new_context(browser, java_script_enabled=False)
    page = context.new_page()
    page.goto(diagram.save(tmp_path / "x.html").as_uri())
    assert "Saved as .svg or .png" in page.locator("body").inner_text()
    context.close()
