"""The map of a unit's images, and the circuit of some of them."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from tests.browser.test_unit_page import panel, text

KEEP = 0.2


@pytest.fixture
def unit(two_ways):
    return two_ways.atlas.layer("head").unit(0)


@pytest.fixture
def link(two_ways):
    return two_ways.link("map", layer="head", unit=0, keep=KEEP)


def chosen(tab) -> list[int]:
    return [int(image) for image in tab.state.get("images", "").split(",") if image]


def group(unit, number: int) -> list[int]:
    rows = unit.groups(criterion="actgrad").table().to_pylist()
    return [row["image"] for row in rows if row["group"] == number]


def corners(points: list[dict[str, float]]) -> list[tuple[float, float]]:
    """Of a way around the points at some distance, back to where it starts."""
    left = min(p["x"] for p in points) - 8
    top = min(p["y"] for p in points) - 8
    right = max(p["x"] + p["width"] for p in points) + 8
    bottom = max(p["y"] + p["height"] for p in points) + 8
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def draw_around(tab, points: list[dict[str, float]], *, key: str | None = None) -> None:
    """Press, go around the points, let go."""
    start, *way = corners(points)
    if key:
        tab.page.keyboard.down(key)
    tab.page.mouse.move(*start)
    tab.page.mouse.down()
    for x, y in way:
        tab.page.mouse.move(x, y, steps=4)
    tab.page.mouse.up()
    if key:
        tab.page.keyboard.up(key)


def touch_around(tab, points: list[dict[str, float]], *, other: bool = False) -> None:
    """The same with a finger; `other`: a second finger touches the map on the way."""
    touch = tab.page.context.new_cdp_session(tab.page)

    def send(kind: str, *places: tuple[float, float]) -> None:
        fingers = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    start, *way = corners(points)
    send("touchStart", start)
    (x, y), *rest = way
    send("touchMove", (x, y))
    if other:
        send("touchStart", (x, y), (x + 30, y + 200))
        send("touchMove", (x, y), (x + 30, y + 260))
        send("touchMove", (x, y))
    for place in rest:
        send("touchMove", place)
    send("touchEnd")


def boxes(tab, unit, images: list[int]) -> list[dict[str, float]]:
    order = unit.projection(criterion="actgrad")["image"].to_pylist()
    options = tab.page.locator(".point")
    return [options.nth(order.index(image)).bounding_box() for image in images]


def test_pictures_stand_where_the_projection_says(unit, tab, link):
    tab.open(link)
    tab.settled()
    found = unit.projection(criterion="actgrad").to_pylist()
    options = tab.page.locator(".point").all()
    assert len(options) == len(found)
    places = [option.bounding_box() for option in options]
    far = max(abs(a["x"] - b["x"]) for a in found for b in found)
    wide = max(abs(a["x"] - b["x"]) for a in places for b in places)
    for a, b in zip(places, found, strict=True):
        for c, d in zip(places, found, strict=True):
            assert (a["x"] - c["x"]) / wide == pytest.approx((b["x"] - d["x"]) / far, abs=0.01)
            assert (c["y"] - a["y"]) / wide == pytest.approx((b["y"] - d["y"]) / far, abs=0.01)


def test_a_lasso_gives_the_circuit_of_just_those_images(unit, tab, link):
    tab.open(link)
    tab.settled()
    draw_around(tab, boxes(tab, unit, group(unit, 1)))
    tab.settled()
    assert set(chosen(tab)) == set(group(unit, 1))
    circuit = unit.circuit(keep=KEEP, images=group(unit, 1))
    part = panel(tab, "Circuit of the chosen images")
    rows = part.locator("tbody tr").all()
    assert [row.locator("td").first.inner_text() for row in rows] == [
        f"{n:,}" for n in circuit.by_convolution()["kernels"].to_pylist()
    ]
    shared = circuit.iou(unit.circuit(keep=KEEP))
    assert part.locator(".lead b").all_inner_texts() == [f"{len(circuit):,}", text(shared)]
    drawn = circuit.diagram().content.counts
    assert f"{drawn.drawn} of {drawn.on_path} kernels" in tab.page.locator(".ca-count").inner_text()
    # The link brings it all back.
    tab.page.reload()
    tab.shown("map")
    tab.settled()
    assert tab.page.locator(".point[aria-selected=true]").count() == len(group(unit, 1))
    assert part.locator(".lead b").all_inner_texts() == [f"{len(circuit):,}", text(shared)]


def test_shift_adds_and_alt_takes_away(unit, tab, link):
    tab.open(link)
    tab.settled()
    first, second = group(unit, 0), group(unit, 1)
    draw_around(tab, boxes(tab, unit, second))
    draw_around(tab, boxes(tab, unit, first), key="Shift")
    assert set(chosen(tab)) == {*first, *second}
    draw_around(tab, boxes(tab, unit, second), key="Alt")
    assert set(chosen(tab)) == set(first)


def test_with_a_finger_drawing_adds_and_takes_away_by_its_buttons(unit, window, link):
    """There is no Shift and no Alt on a touch screen."""
    tab = window(width=400, has_touch=True)
    tab.open(link)
    tab.settled()
    tab.page.locator(".plane").scroll_into_view_if_needed()
    first, second = group(unit, 0), group(unit, 1)
    touch_around(tab, boxes(tab, unit, second))
    assert set(chosen(tab)) == set(second)
    tab.page.get_by_role("button", name="Adds").click()
    touch_around(tab, boxes(tab, unit, first), other=True)
    assert set(chosen(tab)) == {*first, *second}
    tab.page.get_by_role("button", name="Takes away").click()
    touch_around(tab, boxes(tab, unit, second))
    assert set(chosen(tab)) == set(first)
    assert tab.state["draw"] == "remove"


def test_a_click_toggles_one(unit, tab, link):
    tab.open(link)
    tab.settled()
    image = unit.projection(criterion="actgrad")["image"].to_pylist()[-1]
    box = boxes(tab, unit, [image])[0]
    tab.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert len(chosen(tab)) == 1
    tab.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert chosen(tab) == []


def test_by_keys_alone(unit, tab, link):
    tab.open(link)
    tab.settled()
    order = unit.projection(criterion="actgrad")["image"].to_pylist()
    tab.page.locator(".point").first.focus()
    tab.page.keyboard.press("Space")
    assert chosen(tab) == [order[0]]
    tab.settled()
    live = tab.page.locator("#live")
    live.get_by_text("1 image chosen").wait_for()
    where = "[...document.querySelectorAll('.point')].indexOf(document.activeElement)"
    start = tab.page.evaluate(where)
    places = [option.bounding_box() for option in tab.page.locator(".point").all()]
    moved = [start]
    for _ in range(6):
        tab.page.keyboard.press("ArrowRight")
        moved.append(tab.page.evaluate(where))
    across = [places[at]["x"] for at in moved]
    assert across == sorted(across)
    assert across[-1] > across[0] + 100  # over to the other group
    tab.page.keyboard.press("Enter")
    assert set(chosen(tab)) == {order[0], order[moved[-1]]}
    tab.page.keyboard.press("Control+a")
    assert set(chosen(tab)) == set(order)
    tab.page.keyboard.press("Escape")
    assert chosen(tab) == []


def test_groups_are_chosen_by_name(unit, tab, link):
    tab.open(link)
    tab.settled()
    tab.page.get_by_role("button", name="Group B").click()
    assert set(chosen(tab)) == set(group(unit, 1))
    tab.page.get_by_role("button", name="None").click()
    assert chosen(tab) == []


def test_a_choice_is_named_and_exported(two_ways, unit, tab, link):
    images = group(unit, 1)
    tab.open(f"{link}&images={','.join(map(str, images))}")
    tab.settled()
    tab.page.get_by_label("Name").fill("cold / stripes")
    tab.page.get_by_label("Name").press("Enter")
    assert tab.state["name"] == "cold / stripes"
    circuit = unit.circuit(keep=KEEP, images=images)
    kernels = circuit.kernels()

    def saved(kind: str):
        with tab.page.expect_download() as download:
            tab.page.get_by_role("button", name=f"Save {kind}", exact=True).click()
        assert download.value.suggested_filename == f"cold-stripes.{kind.lower()}"
        return download.value.path()

    document = json.loads(saved("JSON").read_text())
    assert document["name"] == "cold / stripes"
    assert document["address"] == tab.page.url
    assert sorted(row["image"] for row in document["images"]) == sorted(images)
    assert document["weights_sha256"] == two_ways.atlas.header.weights_sha256
    wanted = kernels.select(["convolution", "out_channel", "in_channel", "position"]).to_pylist()
    assert [{k: row[k] for k in wanted[0]} for row in document["kernels"]] == wanted
    assert (
        arrow_csv.read_csv(saved("CSV"))["position"].to_pylist() == kernels["position"].to_pylist()
    )
    assert pq.read_table(saved("Parquet"))["score"].to_pylist() == pytest.approx(
        kernels["score"].to_pylist()
    )
    assert ElementTree.parse(saved("SVG")).getroot().tag.endswith("svg")


def test_a_name_that_is_typed_stays_while_more_is_chosen(unit, tab, link):
    first, second = group(unit, 0), group(unit, 1)
    tab.open(f"{link}&images={','.join(map(str, second))}")
    tab.settled()
    tab.page.get_by_label("Name").press_sequentially("毛 fur")
    draw_around(tab, boxes(tab, unit, first), key="Shift")
    tab.settled()
    assert set(chosen(tab)) == {*first, *second}
    assert tab.state["name"] == tab.page.get_by_label("Name").input_value() == "毛 fur"
    assert tab.page.title() == "毛 fur, head/0 · Circuit Atlas"
    with tab.page.expect_download() as download:
        tab.page.get_by_role("button", name="Save CSV", exact=True).click()
    assert download.value.suggested_filename == "毛-fur.csv"
    # None has no name.
    tab.page.get_by_role("button", name="None").click()
    assert "name" not in tab.state
    assert tab.page.title() == "Map of head/0 · Circuit Atlas"


def test_a_choice_is_compared_with_the_others(unit, tab, link):
    images = group(unit, 1)
    tab.open(f"{link}&images={','.join(map(str, images))}")
    tab.settled()
    tab.page.get_by_role("link", name="Compare with the others").click()
    tab.shown("compare")
    tab.settled()
    left = unit.circuit(keep=KEEP, images=images)
    right = unit.circuit(keep=KEEP, images=group(unit, 0))
    assert tab.page.locator(".overlap .iou b").inner_text() == text(left.iou(right))
    n, m = len(images), len(group(unit, 0))
    title = f"head/0 of {n} images against head/0 of {m} images · Circuit Atlas"
    assert tab.page.title() == title


def test_a_unit_without_circuits_has_no_map(invented, tab):
    tab.open(invented.link("map", layer="conv3", unit=3))
    assert "nothing to map" in tab.page.locator(".message").inner_text()
