"""Comparisons against the Python client."""

from __future__ import annotations

import json

import pytest

from tests.browser.atlases import LAYER, UNITS
from tests.browser.test_downloads import files, opened
from tests.browser.test_unit_page import panel, text


@pytest.fixture
def link(two_ways):
    return two_ways.link(
        "compare",
        left_layer="head",
        left_unit=0,
        left_group=0,
        right_layer="head",
        right_unit=0,
        right_group=1,
        keep=0.2,
    )


@pytest.fixture
def circuits(two_ways):
    unit = two_ways.atlas.layer("head").unit(0)
    rows = unit.groups(criterion="actgrad").table().to_pylist()
    return [
        unit.circuit(keep=0.2, images=[row["image"] for row in rows if row["group"] == group])
        for group in (0, 1)
    ]


def numbers(tab) -> list[str]:
    return tab.page.locator(".overlap dd").all_inner_texts()


def titles(tab) -> list[str]:
    return tab.page.locator(".panel h2:visible").all_inner_texts()


def test_two_groups_of_a_unit_side_by_side(two_ways, tab, link, circuits):
    tab.open(link)
    tab.settled()
    left, right = circuits
    shared = len(left & right)
    assert numbers(tab) == [str(len(left) - shared), str(shared), str(len(right) - shared)]
    assert tab.page.locator(".overlap .iou b").inner_text() == text(left.iou(right))
    unit = two_ways.atlas.layer("head").unit(0)
    groups = unit.groups(criterion="actgrad").table().to_pylist()
    for side, group in (("left", 0), ("right", 1)):
        view = tab.page.locator(f".side-view.{side}")
        assert f"group {'AB'[group]}" in view.locator("h3").inner_text()
        shown = [a.get_attribute("href") for a in view.locator(".side-images a").all()]
        ids = [int(link.split("image=")[1].split("&")[0]) for link in shown]
        assert set(ids) == {row["image"] for row in groups if row["group"] == group}


def test_what_differs_by_convolution(tab, link, circuits):
    tab.open(link)
    tab.settled()
    left, right = circuits
    rows = panel(tab, "Where they differ").locator("tbody tr").all()
    only_left = (left - right).by_convolution()["kernels"].to_pylist()
    only_right = (right - left).by_convolution()["kernels"].to_pylist()
    for row, iou, a, b in zip(
        rows, left.iou_by_convolution(right).to_pylist(), only_left, only_right, strict=True
    ):
        assert row.locator("th").inner_text() == iou["convolution"]
        cells = row.locator("td").all_inner_texts()
        assert cells[:3] == [str(a), str(iou["shared"]), str(b)]
        assert cells[3] == text(iou["iou"])


def test_every_column_of_what_differs_is_in_view_on_a_phone(photos, window):
    tab = window(width=400)
    sides = {f"{side}_layer": LAYER for side in ("left", "right")}
    tab.open(photos.link("compare", left_unit=UNITS[0], right_unit=UNITS[1], **sides))
    tab.settled()
    table = panel(tab, "Where they differ").locator(".table")
    assert table.evaluate("element => element.scrollWidth <= element.clientWidth")
    last = table.locator("tbody td:nth-child(5)").first.bounding_box()
    assert last["x"] + last["width"] <= 400
    assert table.locator("thead th").nth(4).inner_text() == "IoU"


def test_what_each_group_preserves_and_suppresses(two_ways, tab, link):
    tab.open(link)
    tab.settled()
    contrast = two_ways.atlas.layer("head").unit(0).selectivity(criterion="actgrad").to_pylist()
    rows = panel(tab, "What each preserves and suppresses").locator("tbody tr")
    assert rows.count() == 2
    for group, row in enumerate(rows.all()):
        wanted = next(r for r in contrast if (r["group"], r["fraction"]) == (group, 0.2))
        cells = row.locator("td").all_inner_texts()
        assert [cells[0], cells[2]] == [text(wanted["preserved"]), text(wanted["leaked"])]


def test_what_is_preserved_has_the_order_colours_and_fractions_of_the_sides(two_ways, tab, link):
    tab.open(link.replace("left.group=0", "left.group=1").replace("right.group=1", "right.group=0"))
    tab.settled()
    part = panel(tab, "What each preserves and suppresses")
    tab.page.get_by_role("group", name="Right").get_by_label("Kept").select_option("0.5")
    tab.settled()
    contrast = two_ways.atlas.layer("head").unit(0).selectivity(criterion="actgrad").to_pylist()
    for row, side, group, keep in zip(
        part.locator("tbody tr").all(), ("left", "right"), (1, 0), (0.2, 0.5), strict=True
    ):
        assert row.locator("th").inner_text() == f"Group {'AB'[group]}"
        wanted = next(r for r in contrast if (r["group"], r["fraction"]) == (group, keep))
        cells = row.locator("td").all_inner_texts()
        assert [cells[0], cells[2]] == [text(wanted["preserved"]), text(wanted["leaked"])]
        colour = "element => getComputedStyle(element).color"
        heading = tab.page.locator(f".side-view.{side} h3 a")
        assert row.locator(".group-label").evaluate(colour) == heading.evaluate(colour)
    assert "at 20 % and 50 % of the kernels" in part.locator("caption").inner_text()
    # Groups by different scores are no groups of one division.
    tab.page.get_by_role("group", name="Right").get_by_label("Score").select_option("random")
    tab.settled()
    assert "by the same score" in part.inner_text()
    # There are no groups by it at all, and the browser itself notes that answer.
    tab.complaints = [said for said in tab.complaints if "400" not in said]


def test_what_takes_the_place_of_dropped_kernels_is_chosen_here(two_ways, tab, link):
    tab.open(link)
    tab.settled()
    tab.page.get_by_label("Dropped kernels").select_option("mean")
    tab.settled()
    assert tab.state["ablation"] == "mean"
    contrast = (
        two_ways.atlas.layer("head").unit(0).selectivity(criterion="actgrad", ablation="mean")
    )
    wanted = next(r for r in contrast.to_pylist() if (r["group"], r["fraction"]) == (0, 0.2))
    part = panel(tab, "What each preserves and suppresses")
    cells = part.locator("tbody tr").first.locator("td").all_inner_texts()
    assert cells[0] == text(wanted["preserved"])


def test_a_group_that_there_is_not_is_said_to_be_none(tab, link):
    tab.open(link.replace("left.group=0", "left.group=8"))
    tab.settled()
    left = tab.page.locator(".side-view.left .note").first.inner_text()
    assert "all scoring images: by actgrad there is no group I" in left
    images = tab.page.get_by_role("group", name="Left").get_by_label("Images")
    assert images.evaluate("element => element.selectedOptions[0].text") == "no group I"


def test_a_unit_that_there_is_not_is_said_once(tab, link):
    tab.open(link.replace("right.unit=0", "right.unit=700"))
    tab.settled()
    assert "700" in tab.page.get_by_role("alert").inner_text()
    assert titles(tab) == ["What they share", "What each preserves and suppresses"]
    # The browser itself notes the answers.
    tab.complaints = [text for text in tab.complaints if "404" not in text]
    unit = tab.page.get_by_role("group", name="Right").get_by_label("Unit")
    unit.fill("2")
    unit.press("Enter")
    tab.settled()
    assert tab.page.get_by_role("alert").count() == 0
    assert "Overlaid" in titles(tab)


def test_sides_are_swapped_and_chosen(tab, link):
    tab.open(link)
    tab.settled()
    before = numbers(tab)
    tab.page.get_by_role("button", name="Swap sides").click()
    tab.settled()
    assert (tab.state["left.group"], tab.state["right.group"]) == ("1", "0")
    assert numbers(tab) == before[::-1]
    right = tab.page.get_by_role("group", name="Right")
    right.get_by_label("Unit").fill("2")
    right.get_by_label("Unit").press("Enter")
    tab.settled()
    assert tab.state["right.unit"] == "2"
    assert "right.group" not in tab.state
    assert "Unit 2" in tab.page.locator(".side-view.right h3").inner_text()
    right.get_by_label("Kept").select_option("0.5")
    tab.settled()
    assert tab.state["right.keep"] == "0.5"
    assert "50 %" in tab.page.locator(".side-view.right .note").first.inner_text()
    tab.page.go_back()
    tab.settled()
    assert "20 %" in tab.page.locator(".side-view.right .note").first.inner_text()


def test_without_a_right_side_groups_and_near_units_are_offered(two_ways, tab):
    tab.open(two_ways.link("compare", left_layer="head", left_unit=0))
    tab.settled()
    assert "Choose a unit for the right side" in panel(tab, "What they share").inner_text()
    near = two_ways.atlas.layer("head").similarity(keep=0.1).nearest(0, limit=1)
    name = two_ways.atlas.layer("head").index.unit(near["unit"][0].as_py()).name
    assert tab.page.get_by_role("link", name=f"unit {name}").count() == 1
    tab.page.get_by_role("link", name="its groups A and B").click()
    tab.settled()
    assert (tab.state["left.group"], tab.state["right.group"]) == ("0", "1")
    assert len(numbers(tab)) == 3


def test_overlaid_and_side_by_side(tab, link, circuits):
    tab.open(link)
    tab.settled()
    left, right = circuits
    stage = tab.page.get_by_role("application")
    assert stage.count() == 1
    counts = left.diagram(against=right).content.counts
    assert (
        f"{counts.drawn} of {counts.on_path} kernels" in tab.page.locator(".ca-count").inner_text()
    )
    assert "both circuits of" in tab.page.locator(".ca-count").inner_text()
    tab.page.get_by_role("button", name="Side by side").click()
    tab.settled()
    tab.page.get_by_role("application").nth(1).wait_for()
    assert tab.state["show"] == "beside"
    assert stage.count() == 2


def test_the_comparison_is_saved(tab, link, circuits):
    tab.open(link)
    tab.settled()
    tab.page.get_by_role("button", name="Save what they share").click()
    with tab.page.expect_download() as download:
        tab.page.get_by_role("button", name="JSON").click()
    found = json.loads(download.value.path().read_text())
    assert found["iou"] == pytest.approx(circuits[0].iou(circuits[1]))
    assert found["asked"]["right"]["keep"] == 0.2
    wanted = circuits[0].iou_by_convolution(circuits[1])
    saved = opened(files(tab, "where they differ"))
    assert set(saved) == {"CSV by convolution", "Parquet by convolution", "JSON with the sums"}
    for kind in ("CSV", "Parquet"):
        table = saved[f"{kind} by convolution"]
        assert table["convolution"].to_pylist() == wanted["convolution"].to_pylist()
        assert table["shared"].to_pylist() == wanted["shared"].to_pylist()
    kept = opened(files(tab, "what each preserves and suppresses"))
    assert kept["CSV all groups"].num_rows == kept["Parquet all groups"].num_rows > 0
    assert {"SVG group A", "SVG group B"} < set(kept)
