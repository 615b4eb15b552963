"""What can be checked of every page by reading it: names, headings, contrast, room."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.atlases import LAYER, UNITS

PAGES = {
    "atlas": ("photos", {}),
    "layer": ("photos", {"layer": LAYER}),
    "layer as a table": ("photos", {"layer": LAYER, "view": "table"}),
    "criteria": ("photos", {"layer": LAYER}),
    "unit": ("two_ways", {"layer": "head", "unit": 0, "keep": 0.2}),
    "unit with maps": ("photos", {"layer": LAYER, "unit": UNITS[0], "maps": 1, "chart": "table"}),
    "dead unit": ("invented", {"layer": "conv3", "unit": 3}),
    "channel": ("photos", {"layer": "features.3.squeeze", "channel": 5}),
    "glossary": ("photos", {"word": "kept-fraction"}),
    "images": ("photos", {}),
    "image": ("photos", {"image": 4}),
    "compare": (
        "two_ways",
        {
            "left_layer": "head",
            "left_unit": 0,
            "left_group": 0,
            "right_layer": "head",
            "right_unit": 0,
            "right_group": 1,
        },
    ),
    "nothing compared": ("photos", {}),
    "map": ("two_ways", {"layer": "head", "unit": 0, "images": "1,7"}),
}
NAMES = {
    "layer as a table": "layer",
    "unit with maps": "unit",
    "dead unit": "unit",
    "nothing compared": "compare",
}

# What of a page has no name, repeats an id, or skips a heading.
READ = """() => {
  const found = [];
  const say = (what, element) => found.push(what + ": " + element.outerHTML.slice(0, 160));
  const seen = (element) => element.checkVisibility();
  const labelled = (element) => (element.getAttribute("aria-labelledby") ?? "").split(" ")
    .map((id) => document.getElementById(id)?.textContent ?? "").join("").trim();
  const name = (element) => labelled(element) || element.getAttribute("aria-label")?.trim()
    || [...(element.labels ?? [])].map((label) => label.textContent).join("").trim()
    || element.textContent.trim() || element.querySelector("img")?.alt;
  for (const element of document.querySelectorAll("a, button, select, input, textarea, summary,"
      + "[role=option], [role=application], [role=listbox], [tabindex='0'], fieldset")) {
    if (seen(element) && !name(element)) say("no name", element);
  }
  for (const select of document.querySelectorAll("select, input")) {
    const own = labelled(select) || select.getAttribute("aria-label")
      || [...select.labels].map((label) => label.textContent).join("");
    if (seen(select) && !own.trim()) say("no label", select);
  }
  for (const image of document.querySelectorAll("img")) {
    if (!image.hasAttribute("alt")) say("no alt", image);
  }
  for (const drawing of document.querySelectorAll("svg")) {
    const hidden = drawing.closest("[aria-hidden=true]");
    if (!hidden && !drawing.getAttribute("aria-label")) say("no words", drawing);
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of ids.filter((id, at) => ids.indexOf(id) !== at)) found.push("id twice: " + id);
  const pointing = "[aria-controls], [aria-describedby], label[for]";
  for (const element of document.querySelectorAll(pointing)) {
    for (const attribute of ["aria-controls", "aria-describedby", "for"]) {
      const id = element.getAttribute(attribute);
      if (id && !document.getElementById(id)) say("points nowhere", element);
    }
  }
  const levels = [...document.querySelectorAll("h1, h2, h3, h4")].filter(seen)
    .map((heading) => Number(heading.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) found.push("h1: " + levels);
  levels.forEach((level, at) => {
    if (at && level > levels[at - 1] + 1) found.push("a level is skipped: " + levels);
  });
  for (const landmark of ["header", "nav", "main"]) {
    if (!document.querySelector(landmark)) found.push("no " + landmark);
  }
  return found;
}"""

# Text whose contrast with what is behind it is below 4.5 (WCAG 2.2, 1.4.3), and its colours.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a),
    b * a + z * (1 - a), 1];
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      layers.push(rgba(getComputedStyle(at).backgroundColor));
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    if (element.closest("[disabled], .unseen, .ca-sr, noscript, title, .ca-stage")) continue;
    const style = getComputedStyle(element);
    const colour = rgba(element.closest("svg") ? style.fill : style.color);
    const ground = behind(element.closest("svg")?.parentElement ?? element);
    const [a, b] = [light(over(colour, ground)), light(ground)].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) {
      found.add(`${contrast.toFixed(2)} ${element.className} ${element.textContent.slice(0, 40)}`);
    }
  }
  return [...found];
}"""


@pytest.fixture(params=PAGES)
def link(request) -> str:
    served, state = PAGES[request.param]
    page = NAMES.get(request.param, request.param)
    return request.getfixturevalue(served).link(page, **state)


CUT = """() => [...document.querySelectorAll("main *, header *")].filter((element) => {
  const box = element.getBoundingClientRect();
  const own = element.closest(".table, .plane, .image-box, .ca-diagram, .unseen, .sparkline");
  return !own && box.width && (box.right > innerWidth + 1 || box.left < -1);
}).map((element) => element.outerHTML.slice(0, 120))"""


# Text that is cut short, and what reaches beyond the card or panel that it is of.
SHORTENED = """() => [...document.querySelectorAll("main *")].filter((element) => {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const hidden = getComputedStyle(element).overflowX === "hidden";
  return own && hidden && !element.closest("legend, .unseen, .ca-sr") && element.checkVisibility()
    && element.scrollWidth > element.clientWidth + 1;
}).map((element) => element.outerHTML.slice(0, 120))"""
SPILT = """() => [...document.querySelectorAll("main .card *, main .panel *")].filter((element) => {
  const around = element.closest(".card, .panel");
  const own = element.closest(".table, .image-box, .ca-diagram, .unseen, .sparkline");
  if (around === element || own) return false;
  const [box, room] = [element, around].map((one) => one.getBoundingClientRect());
  return box.width && (box.right > room.right + 0.5 || box.left < room.left - 0.5);
}).map((element) => element.outerHTML.slice(0, 120))"""


def serious(tab, **options) -> list[str]:
    """What axe-core calls serious or worse, of the rules that `options` name, or of all."""
    answer = Axe().run(tab.page, options={"resultTypes": ["violations"], **options}).response
    return [
        f"{found['id']}: {node['html'][:160]}"
        for found in answer["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]


def test_a_page_reads_well_in_both_themes_and_at_every_width(tab, link):
    tab.open(link)
    tab.settled()
    assert tab.page.evaluate(READ) == []
    assert serious(tab) == []
    for scheme in ("light", "dark"):
        tab.page.emulate_media(color_scheme=scheme)
        assert tab.page.evaluate(CONTRAST) == []
    assert serious(tab, runOnly=["color-contrast"]) == []  # in the dark: the rest is as in light
    for width in (400, 2000):
        tab.page.set_viewport_size({"width": width, "height": 900})
        tab.settled()
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # Nor is anything cut by the page's edge, apart from what scrolls in a place of its own.
        assert tab.page.evaluate(CUT) == []
        assert tab.page.evaluate(SHORTENED) == []
        assert tab.page.evaluate(SPILT) == []


# Charts that are wider than their place in a page that has become narrower this moment, before
# they are drawn anew.
TOO_WIDE = """() => {
  const main = document.querySelector("main");
  main.style.width = "360px";
  const found = [...main.querySelectorAll(".chart svg")].filter((chart) =>
    chart.getBoundingClientRect().width > chart.parentElement.getBoundingClientRect().width + 0.5);
  main.style.width = "";
  return found.map((chart) => chart.getAttribute("aria-label"));
}"""


def test_no_chart_widens_a_page_that_becomes_narrower(tab, link):
    tab.open(link)
    tab.settled()
    assert tab.page.evaluate(TOO_WIDE) == []


# Follows the focus; gives how many elements it can come to by keys.
FOLLOW = """() => {
  window.reachable = [...document.querySelectorAll(
      "a[href], button, select, input, textarea, summary, [tabindex]")]
    .filter((element) => element.checkVisibility() && !element.disabled && element.tabIndex >= 0)
    .filter(({ type, checked }) => type !== "radio" || checked); // arrows go to the others
  window.focused = new Map();
  addEventListener("focusin", ({ target }) =>
    focused.set(target, getComputedStyle(target).outlineStyle));
  document.activeElement.blur();
  return reachable.length;
}"""
UNREACHED = """() => reachable.filter((element) => !focused.has(element))
  .map((element) => element.outerHTML.slice(0, 160))"""
UNSEEN = """() => [...focused].filter(([element, outline]) => outline === "none")
  .map(([element]) => element.outerHTML.slice(0, 160))"""


@pytest.mark.parametrize("page", sorted(PAGES.keys() - NAMES.keys()))
def test_every_control_of_a_page_is_reached_with_tab(request, tab, page):
    served, state = PAGES[page]
    tab.open(request.getfixturevalue(served).link(page, **state))
    tab.settled()
    for _ in range(tab.page.evaluate(FOLLOW) + 5):
        tab.page.keyboard.press("Tab")
    assert tab.page.evaluate(UNREACHED) == []
    assert tab.page.evaluate(UNSEEN) == []


def test_results_are_announced(photos, tab):
    tab.open(photos.link("layer", layer=LAYER))
    tab.settled()
    live = tab.page.get_by_role("status")
    live.get_by_text("8 units").wait_for(state="attached")
    tab.page.get_by_label("State").select_option("dead")
    live.get_by_text("0 units").wait_for(state="attached")
