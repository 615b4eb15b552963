"""The layer page against the Python client."""

from __future__ import annotations

import pytest

from tests.browser.atlases import LAYER, UNITS, write_many
from tests.browser.test_atlas_page import smallest


def names(tab) -> list[str]:
    return tab.page.locator(".card .says a.whole").all_inner_texts()


def percent(fraction: float) -> str:
    return f"{fraction * 100:g} %"


def add_filter(tab, title: str) -> None:
    tab.page.get_by_role("button", name="Add a filter by a column").click()
    tab.page.locator(".filters .menu").get_by_role("button", name=title, exact=True).click()


def focused(tab) -> str | None:
    return tab.page.evaluate("document.activeElement.getAttribute('aria-label')")


def test_each_unit_has_a_card_with_its_smallest_faithful_circuit(photos, tab):
    tab.open(photos.link("layer", layer=LAYER))
    assert names(tab) == [str(unit) for unit in UNITS]
    best, r = smallest(photos, LAYER)
    layer = photos.atlas.layer(LAYER)
    for unit, card in zip(UNITS, tab.page.locator(".card").all(), strict=True):
        text = card.inner_text()
        if best[unit] is None:
            assert "no circuit reaches r 0.9" in text
        else:
            kernels = len(layer.unit(unit).circuit(keep=best[unit]))
            assert f"{percent(best[unit])} · {kernels:,} kernels" in text
        assert f"r {r[unit][0.1]:.2f}".replace("-", "−") in text
        assert card.locator("svg.sparkline polyline").count() == 1
        picture = card.locator("img").get_attribute("src")
        top = layer.unit(unit).top_images()["image"].to_pylist()[0]
        assert f"/images/{top}/file" in picture


def test_the_kept_fraction_changes_r_and_the_address(photos, tab):
    tab.open(photos.link("layer", layer=LAYER))
    tab.page.get_by_label("Kept", exact=True).press("ArrowRight")
    tab.settled()
    assert tab.state["keep"] == "0.2"
    _, r = smallest(photos, LAYER)
    first = tab.page.locator(".card").first.inner_text()
    assert f"r {r[UNITS[0]][0.2]:.2f}" in first


def test_units_are_sorted_by_how_polysemantic_they_are(two_ways, tab):
    own = two_ways.atlas.layer("head").polysemanticity().to_pylist()
    own.sort(key=lambda row: (row["polysemanticity"] is None, row["polysemanticity"], row["unit"]))
    tab.open(two_ways.link("layer", layer="head", view="table"))
    tab.page.get_by_label("Sort by").select_option("Polysemanticity")
    tab.page.wait_for_url("**sort=polysemanticity**")
    tab.settled()
    dead = "5"
    order = [*(row["name"] for row in own), dead]
    assert tab.page.locator("tbody th a").all_inner_texts() == order
    column = tab.page.locator("thead th").all_inner_texts().index("Polysemanticity ↑")
    shown = [
        row.locator("th, td").nth(column).inner_text() for row in tab.page.locator("tbody tr").all()
    ]
    values = [*(row["polysemanticity"] for row in own), None]
    assert [text == "–" for text in shown] == [value is None for value in values]
    known = [float(text) for text in shown if text != "–"]
    assert known == pytest.approx([value for value in values if value is not None], rel=0.01)
    assert known[-1] > 0


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_units_are_sorted_by_a_column_of_the_address(photos, tab, order):
    tab.open(photos.link("layer", layer=LAYER, sort="r.0.1", order=order))
    _, r = smallest(photos, LAYER)
    expected = sorted(UNITS, key=lambda unit: r[unit][0.1], reverse=order == "desc")
    assert names(tab) == [str(unit) for unit in expected]
    assert tab.page.get_by_label("Sort by").input_value() == "r.0.1"


def test_a_heads_button_sorts_the_table(photos, tab):
    tab.open(photos.link("layer", layer=LAYER, view="table"))
    head = tab.page.get_by_role("columnheader", name="Largest response")
    head.get_by_role("button").click()
    tab.settled()
    head.get_by_role("button").click()
    tab.settled()
    assert head.get_attribute("aria-sort") == "descending"
    assert tab.state["sort"] == "response"
    layer = photos.atlas.layer(LAYER)
    largest = {unit: layer.unit(unit).top_images()["response"].to_pylist()[0] for unit in UNITS}
    expected = sorted(UNITS, key=largest.get, reverse=True)
    assert tab.page.locator("tbody th a").all_inner_texts() == [str(unit) for unit in expected]
    # The button that was pressed still has the focus, in the table that was drawn anew.
    assert tab.page.evaluate("document.activeElement.dataset.key") == "sort-response"


def test_the_table_holds_every_stored_column(photos, tab):
    tab.open(photos.link("layer", layer=LAYER, view="table"))
    heads = tab.page.locator("thead th").all_inner_texts()
    for fraction in photos.atlas.header.fractions:
        assert f"r at {percent(fraction)}" in heads
    assert {"Unit ↑", "State", "Smallest circuit", "Sub-features", "Kernels in reach"} <= set(heads)
    assert {"Top image’s label", "Top image’s name", "Box, top"} <= set(heads)
    _, r = smallest(photos, LAYER)
    column = heads.index("r at 5 %")
    cells = [row.locator("th, td").nth(column) for row in tab.page.locator("tbody tr").all()]
    shown = [cell.inner_text() for cell in cells]
    assert shown == [f"{r[unit][0.05]:.2f}".replace("-", "−") for unit in UNITS]


def test_filters_add_up_and_stand_in_the_address(photos, tab):
    tab.open(photos.link("layer", layer=LAYER))
    _, r = smallest(photos, LAYER)
    bound = sorted(values[0.2] for values in r.values())[4]
    add_filter(tab, "r at 20 %")
    tab.page.get_by_label("r at 20 %: from").fill(str(bound))
    tab.page.keyboard.press("Enter")
    tab.settled()
    expected = [unit for unit in UNITS if r[unit][0.2] >= bound]
    assert names(tab) == [str(unit) for unit in expected]
    assert tab.state["min.r.0.2"] == str(bound)
    tab.page.reload()
    tab.shown("layer")
    assert names(tab) == [str(unit) for unit in expected]
    assert float(tab.page.get_by_label("r at 20 %: from").input_value()) == bound
    tab.page.get_by_label("Unit", exact=True).fill(str(expected[0]))
    tab.page.wait_for_url("**has.name=**")
    tab.settled()
    assert all(str(expected[0]) in name for name in names(tab))
    tab.page.get_by_role("button", name="Clear").click()
    tab.settled()
    assert len(names(tab)) == len(UNITS)
    assert tab.state == {"page": "layer", "layer": LAYER}


def test_texts_of_a_column_filter(photos, tab):
    tab.open(photos.link("layer", layer=LAYER))
    rows = tab.page.request.get(f"{photos.address}/api/v1/layers/{LAYER}/units").json()["rows"]
    word = rows[0]["label"].split()[0].upper()
    add_filter(tab, "Top image’s label")
    tab.page.get_by_label("Top image’s label: contains").fill(word)
    tab.page.keyboard.press("Enter")
    tab.settled()
    expected = [row["name"] for row in rows if word in row["label"].upper()]
    assert 0 < len(expected) < len(rows)
    assert names(tab) == expected
    assert tab.state["has.label"] == word
    tab.page.reload()
    tab.shown("layer")
    assert names(tab) == expected
    assert tab.page.get_by_label("Top image’s label: contains").input_value() == word
    tab.page.get_by_role("button", name="Take away the filter by Top image’s label").click()
    tab.settled()
    assert len(names(tab)) == len(rows)


def test_filters_are_set_and_taken_away_by_keys(photos, tab):
    tab.open(photos.link("layer", layer=LAYER))
    _, r = smallest(photos, LAYER)
    low, high = (sorted(values[0.2] for values in r.values())[at] for at in (2, 5))
    keys = tab.page.keyboard
    tab.page.get_by_role("button", name="Add a filter by a column").focus()
    keys.press("Enter")
    keys.press("ArrowUp")
    keys.press("ArrowDown")
    assert tab.page.locator(".added").count() == 0
    tab.page.locator(".filters .menu").get_by_role("button", name="r at 20 %").press("Enter")
    assert focused(tab) == "r at 20 %: from"
    keys.type(str(low))
    keys.press("Tab")
    assert focused(tab) == "r at 20 %: to"
    keys.type(str(high))
    tab.page.wait_for_url(f"**max.r.0.2={high}*")
    tab.settled()
    assert names(tab) == [str(unit) for unit in UNITS if low <= r[unit][0.2] <= high]
    assert focused(tab) == "r at 20 %: to"
    # The same column again: its boxes, not others.
    add_filter(tab, "r at 20 %")
    assert tab.page.locator(".added").count() == 1
    assert focused(tab) == "r at 20 %: from"
    tab.page.get_by_role("button", name="Take away the filter by r at 20 %").press("Enter")
    tab.settled()
    assert focused(tab) == "Add a filter by a column"
    assert names(tab) == [str(unit) for unit in UNITS]
    assert tab.state == {"page": "layer", "layer": LAYER}


def test_a_filter_with_a_fresh_value_is_taken_away_by_the_mouse(photos, tab):
    tab.open(photos.link("layer", layer=LAYER))
    add_filter(tab, "Top image’s label")
    tab.page.keyboard.type("zebra")
    tab.page.get_by_role("button", name="Take away the filter by Top image’s label").hover()
    tab.page.mouse.down()
    tab.page.mouse.up()
    tab.settled()
    assert tab.page.locator(".added").count() == 0
    assert len(names(tab)) == len(UNITS)
    assert "has.label" not in tab.state


def test_back_shows_in_the_boxes_what_the_address_says(photos, tab):
    tab.open(photos.link("layer", layer=LAYER, has_label="zebra"))
    label = tab.page.get_by_label("Top image’s label: contains")
    unit = tab.page.get_by_label("Unit", exact=True)
    unit.click()
    tab.page.keyboard.type("7")
    tab.page.wait_for_url("**has.name=7*")
    tab.settled()
    tab.page.go_back()
    tab.settled()
    assert unit.input_value() == ""
    assert label.input_value() == "zebra"
    tab.page.get_by_role("button", name="Clear").press("Enter")
    tab.settled()
    assert tab.page.locator(".added").count() == 0
    assert tab.page.evaluate("document.activeElement.id") == unit.get_attribute("id")
    tab.page.go_back()
    tab.settled()
    assert tab.page.get_by_label("Top image’s label: contains").input_value() == "zebra"


@pytest.mark.parametrize("width", [320, 400, 1280])
def test_the_list_of_columns_stays_within_the_window(photos, window, width):
    tab = window(width=width)
    added = {"has_label": "a", "has_image_name": "a", "min_fraction": 0.01}
    tab.open(photos.link("layer", layer=LAYER, **added))
    tab.page.get_by_role("button", name="Add a filter by a column").click()
    box = tab.page.locator(".filters .menu ul").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert box["height"] < 450


def test_what_is_typed_lands_on_no_other_page(photos, tab):
    tab.open(photos.link("layer", layer=LAYER))
    tab.page.get_by_label("Unit", exact=True).click()
    tab.page.keyboard.type("7")
    tab.visit("?page=images")
    tab.shown("images")
    tab.page.wait_for_timeout(400)  # longer than the box waits for more keys
    assert tab.state == {"page": "images"}


def test_a_bar_of_the_histogram_filters(photos, tab):
    tab.open(photos.link("layer", layer=LAYER))
    best, _ = smallest(photos, LAYER)
    tab.page.evaluate("window.same = true")
    tab.page.get_by_role("link", name="at 100 % of the kernels").click()
    tab.settled()
    assert names(tab) == [str(unit) for unit in UNITS if best[unit] == 1.0]
    tab.page.get_by_role("link", name="at 100 % of the kernels, chosen").click()
    tab.settled()
    assert len(names(tab)) == len(UNITS)
    # Within the page: it was not loaded anew.
    assert tab.page.evaluate("window.same")


def test_the_bar_of_all_kernels_has_its_name_where_there_is_little_room(photos, window):
    tab = window(width=260)
    tab.open(photos.link("layer", layer=LAYER))
    tab.settled()
    names = tab.page.locator(".histogram .bin text:not(.count)").all_text_contents()
    assert names == ["5 %", "20 %", "100 %", "none"]


def test_nothing_like_that_is_said(photos, tab):
    tab.open(photos.link("layer", layer=LAYER, has_name="zebra"))
    assert "No unit matches" in tab.page.locator(".message").inner_text()


@pytest.mark.parametrize("begin", ["-5", "1.5", "x"])
def test_a_place_that_is_none_is_the_first(photos, tab, begin):
    tab.open(photos.link("layer", layer=LAYER, **{"from": begin}))
    assert names(tab) == [str(unit) for unit in UNITS]


def test_behind_the_end_of_a_list_its_length_is_said(photos, tab):
    tab.open(photos.link("layer", layer=LAYER, **{"from": 600}))
    said = tab.page.locator(".message")
    assert said.inner_text() == f"There are only {len(UNITS)} units: go to the first."
    said.get_by_role("link").click()
    tab.settled()
    assert names(tab) == [str(unit) for unit in UNITS]


def test_states_of_units_are_told_apart(invented, tab):
    tab.open(invented.link("layer", layer="conv3"))
    badges = tab.page.locator(".card .badge").all_inner_texts()
    assert badges == ["dead", "failed"]
    assert (
        "non_finite: NaN in its response to image 1"
        in tab.page.locator(".card.failed").inner_text()
    )
    tab.page.get_by_label("State").select_option("failed")
    tab.settled()
    assert names(tab) == ["4"]


def test_a_growing_layer_says_that_it_is_not_complete(invented, tab):
    tab.open(invented.link("layer", layer="conv2"))
    assert "not computed yet" in tab.page.locator(".message.partial").last.inner_text()
    assert names(tab) == ["0", "1", "2", "edge"]


def test_pages_of_units(tab, serve, tmp_path):
    """With more units than fit on a page: from page to page, by link and by key."""
    many = serve(write_many(tmp_path / "many"))
    tab.open(many.link("layer", layer="wide"))
    assert len(names(tab)) == 60
    assert "1 to 60 of 130 units" in tab.page.locator("main").inner_text()
    tab.page.get_by_role("link", name="Next").press("Enter")
    tab.settled()
    assert names(tab)[0] == "60"
    assert tab.state["from"] == "60"
    tab.page.get_by_role("link", name="Next").click()
    tab.settled()
    assert len(names(tab)) == 10
    tab.page.go_back()
    tab.settled()
    assert names(tab)[0] == "60"
