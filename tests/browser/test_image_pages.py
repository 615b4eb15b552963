"""The image set, and one image, against the Python client."""

from __future__ import annotations

import re

from tests.browser.atlases import LAYER


def test_all_images_are_there_with_labels_and_sets(photos, tab):
    tab.open(photos.link("images"))
    rows = photos.atlas.images().to_pylist()
    shots = tab.page.locator(".shots li")
    assert shots.count() == len(rows)
    for shot, row in zip(shots.all(), rows, strict=True):
        assert row["label"] in shot.inner_text()
        assert ("held out" in shot.inner_text()) == (row["split"] == "held_out")
    tab.page.get_by_label("Set", exact=True).select_option("held_out")
    tab.settled()
    assert shots.count() == sum(row["split"] == "held_out" for row in rows)
    assert tab.state["of"] == "held_out"


def test_a_label_filters(photos, tab):
    tab.open(photos.link("images"))
    tab.page.get_by_label("Label", exact=True).fill("drum")
    tab.page.keyboard.press("Enter")
    tab.settled()
    assert tab.page.locator(".shots li").count() == 1
    tab.page.locator(".shots a").click()
    tab.shown("image")
    assert tab.page.locator("h1").inner_text() == "drum"


def test_an_image_left_out_says_why(invented, tab):
    tab.open(invented.link("images"))
    assert "it is cut" in tab.page.locator(".shots li").last.inner_text()


def test_the_units_that_respond_to_an_image_most(photos, tab):
    image = 4
    tab.open(photos.link("image", image=image, layer=LAYER))
    assert tab.page.locator("h1").inner_text() == "strawberry"
    expected = photos.atlas.responding(image, layer=LAYER, limit=60).to_pylist()
    rows = tab.page.locator(".responder")
    assert rows.count() == len(expected)
    shown = {}
    for row in rows.all():
        name = row.locator("a").first.inner_text().removeprefix("Unit ")
        shown[int(name)] = row.inner_text()
    for row in expected:
        percent = f"{float(format(row['share'] * 100, '.0f')):g} %"
        assert f"{percent} of its largest" in shown[row["unit"]]
        assert re.search(rf"its {row['rank'] + 1}(st|nd|rd|th) of 20 images", shown[row["unit"]])
    first = expected[0]["unit"]
    assert next(iter(shown)) == first
    tab.page.get_by_role("link", name="Its circuit for this image").first.click()
    tab.shown("unit")
    tab.settled()
    assert tab.state["images"] == str(image)
    assert tab.state["unit"] == str(first)
    kernels = len(photos.atlas.layer(LAYER).unit(first).circuit(keep=0.1, images=[image]))
    assert (
        f"{kernels:,} of" in tab.page.get_by_role("region", name="Circuit", exact=True).inner_text()
    )


def test_a_units_smallest_circuit_for_the_image_is_told(photos, tab):
    image = 4
    tab.open(photos.link("image", image=image, layer=LAYER))
    tab.settled()
    told = 0
    for row in tab.page.locator(".responder").all():
        row.scroll_into_view_if_needed()
        unit = photos.atlas.layer(LAYER).unit(
            int(row.locator("a").first.inner_text().removeprefix("Unit "))
        )
        if image not in unit.top_images()["image"].to_pylist():
            assert row.locator(".smallest").count() == 0
            continue
        reached = [
            (one["kernels"], one["fraction"])
            for one in unit.subfeatures().to_pylist()
            if (one["criterion"], one["ablation"], one["image"]) == ("actgrad", "zero", image)
            and (one["pearson"] or 0) >= 0.9
        ]
        kernels, fraction = min(reached)
        circuit = f"{100 * fraction:g} %, {kernels:,} kernels"
        said = f"{circuit}: the smallest with r ≥ 0.9 on this image by actgrad"
        row.get_by_text(said, exact=True).wait_for()
        told += 1
    assert told > 2


def test_the_layer_can_be_chosen(photos, tab):
    tab.open(photos.link("image", image=4))
    assert tab.page.locator(".responder").count() == 10
    tab.page.get_by_label("Layer", exact=True).select_option(LAYER)
    tab.settled()
    assert tab.page.locator(".responder").count() == 8
    assert tab.state["layer"] == LAYER
    tab.page.go_back()
    tab.settled()
    assert tab.page.locator(".responder").count() == 10


def test_a_held_out_image_has_no_circuits_of_its_own(photos, tab):
    tab.open(photos.link("image", image=5))
    tab.settled()
    assert tab.page.get_by_role("link", name="Its circuit for this image").count() == 0
    assert "held-out images" in tab.page.locator(".facts").inner_text()
