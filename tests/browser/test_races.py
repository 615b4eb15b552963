"""Answers that come in another order than they were asked for: the page shows the last asked."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from tests.browser.atlases import LAYER, UNITS
from tests.browser.test_unit_page import panel, text


def visit(tab, link: str) -> None:
    """Go to a link within the pages."""
    tab.visit(link[link.index("?") :])


@contextmanager
def late(tab, pattern: str, then):
    """Within, answers to such addresses do not come; at its end they do, and have been read."""
    held, over = [], []
    tab.page.route(pattern, lambda route: route.continue_() if over else held.append(route))
    with tab.page.expect_request(pattern):
        then()
    yield
    over.append(True)
    for route in held:
        with tab.page.expect_response(route.request.url) as answer:
            route.continue_()
        answer.value.finished()
        # After the same answer once more, the page has read its own, and done what waits for it.
        tab.page.evaluate(
            """address => fetch(address).then((answer) => answer.text())
                .then(() => new Promise((resolve) => setTimeout(resolve, 50)))""",
            route.request.url,
        )
    tab.page.unroute(pattern)


def test_back_to_what_is_shown_no_late_answer_takes_its_place(photos, tab):
    here = photos.link("unit", layer=LAYER, unit=UNITS[0], keep=0.1)
    tab.open(here)
    tab.settled()
    shown = panel(tab, "Units with the most similar circuits")
    wanted = photos.atlas.layer(LAYER).similarity(keep=0.1).nearest(UNITS[0])["iou"].to_pylist()
    assert shown.locator(".card b").all_inner_texts() == [text(iou) for iou in wanted]
    other = photos.link("unit", layer=LAYER, unit=UNITS[0], keep=0.2)
    with late(tab, "**/similar?*keep=0.2*", lambda: visit(tab, other)):
        visit(tab, here)
        tab.settled()
    assert shown.locator(".card b").all_inner_texts() == [text(iou) for iou in wanted]
    # And it is shown when it is asked for after all.
    visit(tab, other)
    tab.settled()
    wanted = photos.atlas.layer(LAYER).similarity(keep=0.2).nearest(UNITS[0])["iou"].to_pylist()
    assert shown.locator(".card b").all_inner_texts() == [text(iou) for iou in wanted]


def test_from_unit_to_unit_the_last_one_stays(photos, tab):
    tab.open(photos.link("layer", layer=LAYER))
    first, last = UNITS[1], UNITS[2]
    slow = photos.link("unit", layer=LAYER, unit=first)
    with late(tab, f"**/units/{first}", lambda: visit(tab, slow)):
        visit(tab, photos.link("unit", layer=LAYER, unit=last))
        tab.shown("unit")
        tab.settled()
    assert tab.page.locator("h1").inner_text() == f"Unit {last}"
    assert tab.state["unit"] == str(last)


@pytest.fixture
def compared(two_ways):
    def link(left: int) -> str:
        right = {"right_layer": "head", "right_unit": 0}
        return two_ways.link("compare", left_layer="head", left_unit=left, **right)

    return link


def test_a_sides_images_are_those_of_its_unit(two_ways, tab, compared):
    tab.open(compared(0))
    tab.settled()
    with late(tab, "**/units/1/groups*", lambda: visit(tab, compared(1))):
        visit(tab, compared(2))
        tab.settled()
    options = tab.page.get_by_role("group", name="Left").get_by_label("Images").locator("option")
    top = two_ways.atlas.layer("head").unit(2).top_images()["image"].to_pylist()
    values = [option.get_attribute("value") for option in options.all()]
    assert [value for value in values if value.startswith("images:")] == [
        f"images:{image}" for image in top
    ]


def test_what_is_saved_of_a_diagram_is_what_is_drawn(two_ways, tab):
    here = two_ways.link("unit", layer="head", unit=0, keep=0.2)
    tab.open(here)
    tab.settled()
    slow = two_ways.link("unit", layer="head", unit=0, keep=0.2, groups=3, group=0)
    with late(tab, "**/groups?*groups=3*", lambda: visit(tab, slow)):
        visit(tab, two_ways.link("unit", layer="head", unit=0, keep=0.1))
        tab.settled()
    tab.page.get_by_role("button", name="Save circuit diagram").click()
    address = tab.page.locator(".menu a", has_text="JSON").get_attribute("href")
    assert "keep=0.1" in address
    assert "images" not in address


def test_without_what_draws_a_diagram_the_rest_is_there_and_says_so(two_ways, tab):
    tab.page.route("**/viewer/diagram/diagram.js", lambda route: route.abort())
    tab.open(two_ways.link("unit", layer="head", unit=0))
    tab.settled()
    told = panel(tab, "Circuit diagram").get_by_role("alert").inner_text()
    assert "load the page anew" in told
    assert tab.page.get_by_role("alert").count() == 1
    tab.complaints = [said for said in tab.complaints if "ERR_FAILED" not in said]
    tab.page.unroute("**/viewer/diagram/diagram.js")
    tab.page.reload()
    tab.page.locator(".ca-stage").wait_for()


# Whether an image is asked for as large as the network sees it.
BY_ITSELF = """() => performance.getEntriesByType("resource").some(({ name }) => {
  const { pathname, searchParams } = new URL(name);
  return pathname.endsWith("/file") && !searchParams.has("width");
})"""


def test_without_their_sheet_nodes_show_each_its_own_image(photos, tab):
    """While it is there, an image of a node is asked for by itself only where that is large."""
    of = photos.link("unit", layer="features.4.expand3x3", unit=7, edges=60)
    tab.open(of)
    tab.settled()
    assert not tab.page.evaluate(BY_ITSELF)
    tab.page.get_by_role("button", name="Zoom in").click(click_count=6)
    tab.page.wait_for_function(BY_ITSELF)
    tab.page.route("**/diagram/nodes*", lambda route: route.abort())
    tab.open(of)
    tab.settled()
    tab.page.wait_for_function(BY_ITSELF)
    tab.settled()
    tab.complaints = [said for said in tab.complaints if "ERR_FAILED" not in said]
