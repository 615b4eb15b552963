"""The page of an upstream channel against the Python client, and the ways to it."""

from __future__ import annotations

from tests.browser.atlases import LAYER
from tests.browser.test_unit_page import panel

CHANNEL = 5


def test_a_channel_has_its_crops_kernels_and_the_units_that_use_it(photos, tab):
    name = "features.3.squeeze"
    tab.open(photos.link("channel", layer=name, channel=CHANNEL, keep=0.2))
    tab.settled()
    assert tab.page.locator("h1").inner_text() == f"Channel {CHANNEL} of {name}"
    rows = photos.atlas.reader.channels(LAYER).to_pylist()
    crops = [row for row in rows if (row["convolution"], row["channel"]) == (name, CHANNEL)]
    links = panel(tab, "Where it is largest").locator("a.shot-link").all()
    assert [link.get_attribute("href") for link in links] == [
        f"?page=image&image={crop['image']}&keep=0.2" for crop in crops
    ]
    kernels = photos.atlas.channel_kernels(name, CHANNEL).to_pylist()
    for end, title in (("in", "Kernels in"), ("out", "Kernels out")):
        own = [row for row in kernels if row["end"] == end]
        part = panel(tab, title)
        assert f"The largest 12 of {len(own):,} kernels" in part.inner_text()
        best = own[0]
        other = (
            f"{best['source']} {best['source_channel']}"
            if end == "in"
            else f"{best['convolution']} {best['out_channel']}"
        )
        assert part.locator("tbody a").first.inner_text() == other
    used = photos.atlas.layer(LAYER).uses(name, out=CHANNEL, keep=0.2)
    part = panel(tab, f"Units of {LAYER} that use it")
    units = part.locator("tbody a").all_inner_texts()
    assert units == used["name"].to_pylist()
    panel(tab, "Kernels out").locator("tbody a").first.click()
    tab.shown("channel")
    assert tab.state["layer"] != name


def test_a_unit_of_the_channels_own_layer_is_linked(photos, tab):
    tab.open(photos.link("channel", layer="features.3.squeeze", channel=9))
    tab.page.get_by_role("link", name="As a unit").click()
    tab.shown("unit")
    assert (tab.state["layer"], tab.state["unit"]) == ("features.3.squeeze", "9")


def test_a_channel_that_is_not_there_says_so(photos, tab):
    tab.open(photos.link("channel", layer="features.3.squeeze", channel=99))
    assert "no layer of the atlas has a channel 99" in tab.page.locator("main").inner_text()
    tab.complaints = [text for text in tab.complaints if "404" not in text]
