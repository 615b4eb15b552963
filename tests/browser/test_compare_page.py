"""Comparisons against the Python client."""

from __future__ import annotations

import json

import pytest

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
        shown = [a.get_attribute("href") for a in view.locator(".side-pictures a").all()]
        ids = [int(link.split("image=")[1].split("&")[0]) for link in shown]
        assert set(ids) == {row["image"] for row in groups if row["group"] == group}


def test_what_differs_by_convolution(tab, link, circuits):
    tab.open(link)
    tab.settled()
    left, right = circuits
    rows = panel(tab, "Where they differ").locator("tbody tr").all()
    only_left = (left - right).layers()["kernels"].to_pylist()
    only_right = (right - left).layers()["kernels"].to_pylist()
    for row, iou, a, b in zip(
        rows, left.iou_by_layer(right).to_pylist(), only_left, only_right, strict=True
    ):
        assert row.locator("th").inner_text() == iou["convolution"]
        cells = row.locator("td").all_inner_texts()
        assert cells[:3] == [str(a), str(iou["intersection"]), str(b)]
        assert cells[-1] == text(iou["iou"])


def test_what_each_group_preserves_and_suppresses(two_ways, tab, link):
    tab.open(link)
    tab.settled()
    contrast = two_ways.atlas.layer("head").unit(0).contrast(criterion="actgrad").to_pylist()
    rows = panel(tab, "What each preserves and suppresses").locator("tbody tr")
    for group, row in enumerate(rows.all()):
        wanted = next(r for r in contrast if (r["group"], r["fraction"]) == (group, 0.2))
        cells = row.locator("td").all_inner_texts()
        assert [cells[0], cells[2]] == [text(wanted["preserved"]), text(wanted["leaked"])]


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
    counts = left.diagram(against=right, edges=2000).content.counts
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
