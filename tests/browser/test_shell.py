"""What all pages share: the bar, search, links, history, theme, and what errors look like."""

from __future__ import annotations

import re

import pytest

from tests.browser.atlases import LAYER, UNITS


def test_the_bar_goes_to_every_part_of_the_app(photos, tab):
    tab.open(photos.link("atlas"))
    for name, page in (("Images", "images"), ("Compare", "compare"), ("Atlas", "atlas")):
        tab.page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        tab.shown(page)
        current = tab.page.locator("#nav [aria-current=page]")
        assert current.inner_text() == name


@pytest.mark.parametrize(
    ("page", "state", "above"),
    [
        ("image", {"image": 0}, {"Atlas": "atlas", "Images": "images"}),
        ("criteria", {"layer": "head"}, {"Atlas": "atlas", "head": "layer"}),
        (
            "map",
            {"layer": "head", "unit": 0},
            {"Atlas": "atlas", "head": "layer", "Unit 0": "unit"},
        ),
    ],
)
def test_each_page_links_to_those_above_it(two_ways, tab, page, state, above):
    for name, shown in above.items():
        tab.open(two_ways.link(page, **state))
        crumbs = tab.page.get_by_role("navigation", name="Where this is").get_by_role("link")
        assert crumbs.all_inner_texts() == list(above)
        crumbs.filter(has_text=name).click()
        tab.shown(shown)


def test_back_and_forward_go_through_what_was_seen(photos, tab):
    tab.open(photos.link("atlas"))
    tab.page.get_by_role("link", name=LAYER).click()
    tab.shown("layer")
    tab.page.get_by_role("link", name=str(UNITS[2]), exact=True).click()
    tab.shown("unit")
    tab.page.go_back()
    tab.shown("layer")
    assert tab.page.locator("h1").inner_text() == LAYER
    tab.page.go_back()
    tab.shown("atlas")
    tab.page.go_forward()
    tab.page.go_forward()
    tab.shown("unit")
    assert tab.page.locator("h1").inner_text() == f"Unit {UNITS[2]}"
    assert tab.state == {"page": "unit", "layer": LAYER, "unit": str(UNITS[2])}


def test_the_place_on_a_page_is_found_again(photos, window):
    tab = window(height=500)
    tab.open(photos.link("layer", layer=LAYER))
    tab.settled()
    last = tab.page.locator(".card a").last
    last.scroll_into_view_if_needed()
    before = tab.page.evaluate("scrollY")
    assert before > 0
    last.click()
    tab.shown("unit")
    assert tab.page.evaluate("scrollY") == 0
    tab.page.go_back()
    tab.shown("layer")
    assert tab.page.evaluate("scrollY") == before


@pytest.mark.parametrize(
    ("text", "option", "page", "state"),
    [
        ("expand3x3", LAYER, "layer", {"layer": LAYER}),
        ("44", f"{LAYER}/44", "unit", {"layer": LAYER, "unit": "44"}),
        (f"{LAYER}/58", f"{LAYER}/58", "unit", {"layer": LAYER, "unit": "58"}),
        ("strawb", "strawberry", "images", {"label": "strawberry"}),
        ("imagenet_04", "imagenet_04_949.jpg", "image", {"image": "4"}),
    ],
)
def test_search_finds_layers_units_labels_and_images(photos, tab, text, option, page, state):
    tab.open(photos.link("atlas"))
    tab.page.keyboard.press("/")
    box = tab.page.get_by_role("combobox", name=re.compile("Search"))
    assert box.evaluate("element => element === document.activeElement")
    tab.page.keyboard.type(text)
    first = tab.page.locator("[role=option] b").first
    # While one types, what is found for less of it may be there.
    first.and_(tab.page.get_by_text(option, exact=True)).wait_for()
    tab.page.keyboard.press("Enter")
    tab.shown(page)
    assert {**tab.state, "page": page} == {"page": page, **state}


def test_enter_goes_to_what_is_typed_not_to_what_was_found_before(photos, tab):
    tab.open(photos.link("atlas"))
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("strawberry")
    found = tab.page.locator("[role=option] b").first
    found.and_(tab.page.get_by_text("strawberry", exact=True)).wait_for()
    box = tab.page.get_by_role("combobox", name=re.compile("Search"))
    box.fill(f"{LAYER}/44")
    box.press("Enter")
    tab.shown("unit")
    assert tab.state["unit"] == "44"


def test_search_says_that_there_is_nothing(photos, tab):
    tab.open(photos.link("atlas"))
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("no such thing")
    tab.page.get_by_text("Nothing is called “no such thing”").wait_for()
    tab.page.keyboard.press("Escape")
    assert tab.page.locator("#found").is_hidden()


def test_the_arrow_keys_go_through_what_was_found(photos, tab):
    tab.open(photos.link("atlas"))
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("imagenet_1")
    tab.page.get_by_role("option").nth(3).wait_for()
    # What was found for the first letters of the name may stand there still.
    options = tab.page.get_by_role("option")
    options.filter(has_text="imagenet_0").first.wait_for(state="detached")
    tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("ArrowDown")
    chosen = tab.page.locator("[role=option][aria-selected=true]")
    box = tab.page.get_by_label("Search by layer")
    assert chosen.get_attribute("id") == box.get_attribute("aria-activedescendant") == "found-2"


def test_the_theme_is_the_systems_until_one_is_chosen(photos, window):
    dark, light = window(color_scheme="dark"), window(color_scheme="light")
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    seen = []
    for tab in (dark, light):
        tab.open(photos.link("atlas"))
        seen.append(tab.page.evaluate(colour))
    assert seen[0] != seen[1]
    button = light.page.get_by_role("button", name="Theme")
    button.click()
    assert button.get_attribute("aria-label") == "Theme: Light"
    assert light.page.evaluate(colour) == seen[1]
    button.click()
    assert light.page.evaluate(colour) == seen[0]
    light.page.reload()
    light.shown("atlas")
    assert light.page.evaluate(colour) == seen[0]


def test_the_first_tab_goes_to_the_content(photos, tab):
    tab.open(photos.link("atlas"))
    tab.page.keyboard.press("Tab")
    skip = tab.page.get_by_role("link", name="Skip to the content")
    assert skip.evaluate("element => element === document.activeElement")
    tab.page.keyboard.press("Enter")
    assert tab.page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"page": "layer", "layer": "features.9"}, "no layer 'features.9'"),
        ({"page": "unit", "layer": LAYER, "unit": "500"}, "has no unit 500; units go from 0 to"),
        ({"page": "criteria", "layer": "nowhere"}, "has no layer 'nowhere'"),
        ({"page": "image", "image": "700"}, "700"),
        ({"page": "elsewhere"}, "there is no page elsewhere"),
        ({"page": "constructor"}, "there is no page constructor"),
        ({"page": "unit", "layer": LAYER}, "this address names no unit"),
        ({"page": "image"}, "this address names no image"),
    ],
)
def test_what_is_not_there_is_said_in_our_words(photos, tab, state, message):
    page = state.pop("page")
    tab.open(photos.link(page, **state))
    assert message in tab.page.get_by_role("alert").inner_text()
    # The browser itself notes the answer.
    tab.complaints = [text for text in tab.complaints if "404" not in text]
    tab.page.get_by_role("link", name="Circuit Atlas").click()
    tab.shown("atlas")


def test_an_answer_that_failed_is_asked_for_again(photos, tab):
    tab.page.route("**/units?**", lambda route: route.abort())
    tab.open(photos.link("layer", layer=LAYER))
    tab.page.get_by_text("the server does not answer").wait_for()
    tab.page.unroute("**/units?**")
    tab.page.get_by_role("button", name="Try again").click()
    tab.page.get_by_role("link", name=str(UNITS[0]), exact=True).wait_for()
    tab.complaints = [text for text in tab.complaints if "ERR_FAILED" not in text]


# How far what is shown jumps while the rest comes: the sum of Chromium's layout shifts.
SHIFTS = """
  window.shifts = [];
  new PerformanceObserver((list) => window.shifts.push(...list.getEntries()))
    .observe({ type: "layout-shift", buffered: true });
"""
# "Good" at most, by https://web.dev/articles/cls
GOOD = 0.1


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("page", ["layer", "compare"])
def test_nothing_jumps_while_a_page_loads(photos, two_ways, window, page, width):
    sides = {
        f"{side}_{key}": value
        for side, group in (("left", 0), ("right", 1))
        for key, value in (("layer", "head"), ("unit", 0), ("group", group))
    }
    links = {
        "layer": photos.link("layer", layer=LAYER),
        "compare": two_ways.link("compare", keep=0.2, **sides),
    }
    tab = window(width=width)
    tab.page.add_init_script(SHIFTS)
    tab.open(links[page])
    tab.settled()
    tab.page.evaluate("new Promise((then) => requestAnimationFrame(() => setTimeout(then)))")
    found = tab.page.evaluate("window.shifts.map((shift) => shift.value)")
    assert sum(found) < GOOD


def test_pages_need_nothing_that_the_policy_forbids(photos, tab):
    answer = tab.page.goto(photos.link("atlas"))
    tab.shown("atlas")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert tab.page.locator("style, script:not([src]), [onclick]").count() == 0
