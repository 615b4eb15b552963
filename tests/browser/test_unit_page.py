"""The unit page against the Python client."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.resources import files

import pytest

from circuit_atlas.storage_schema import layer_paths, layout
from circuit_atlas.storage_schema.ranking import kernels_kept
from tests.browser.atlases import LAYER, UNITS
from tests.service.conftest import make_header, write_atlas


def text(number: float) -> str:
    return f"{number:.2f}".replace("-", "−")


def panel(tab, title: str):
    return tab.page.get_by_role("region", name=title, exact=True)


@pytest.fixture
def unit(photos):
    return photos.atlas.layer(LAYER).unit(UNITS[1])


@pytest.fixture
def link(photos):
    return photos.link("unit", layer=LAYER, unit=UNITS[1])


def test_top_images_have_the_receptive_field_where_it_is(photos, tab, unit, link):
    tab.open(link)
    top = unit.top_images().to_pylist()
    shots = panel(tab, "Top images").locator("li")
    assert shots.count() == len(top)
    side = photos.atlas.header.input_width
    for shot, row in zip(shots.all(), top, strict=True):
        picture = shot.locator("img")
        assert row["label"] in picture.get_attribute("alt")
        frame, field = shot.locator(".image-box").bounding_box(), shot.locator(".field-box")
        box = field.bounding_box()
        edges = {
            "left": (box["x"] - frame["x"]) / frame["width"],
            "top": (box["y"] - frame["y"]) / frame["height"],
            "right": (box["x"] + box["width"] - frame["x"]) / frame["width"],
            "bottom": (box["y"] + box["height"] - frame["y"]) / frame["height"],
        }
        for edge, share in edges.items():
            wanted = min(max(row[f"box_{edge}"], 0), side) / side
            # Half a pixel of the screen.
            assert share == pytest.approx(wanted, abs=0.5 / frame["width"] + 0.005)
    tab.page.get_by_label("Receptive field").uncheck()
    assert panel(tab, "Top images").locator(".field-box").count() == 0
    assert tab.state["boxes"] == "0"


def test_how_its_responses_are_spread(photos, tab, unit, link):
    tab.open(link)
    tab.settled()
    found = unit.distribution()
    images = photos.atlas.images()["problem"].to_pylist().count(None)
    assert found.images == sum(found.counts) == images
    spread = panel(tab, "Responses")
    assert f"{images} images" in spread.locator(".legend").inner_text()
    bars = spread.locator(".bar").all()
    heights = [float(bar.get_attribute("height")) for bar in bars]
    assert [height == max(heights) for height in heights] == [
        count == max(found.counts) for count in found.counts
    ]
    assert (
        "The scoring images that the unit responds to most" in panel(tab, "Top images").inner_text()
    )


def test_how_many_kernels_are_drawn_is_chosen(tab, unit, link):
    tab.open(f"{link}&keep=0.5")
    tab.settled()
    circuit = unit.circuit(keep=0.5)
    said = tab.page.locator(".ca-count")
    for most in (50, 200, 2000):
        tab.page.get_by_label("Kernels drawn, at most").select_option(str(most))
        tab.settled()
        counts = circuit.diagram(edges=most).content.counts
        said.get_by_text(f"{counts.drawn:,} of {counts.on_path:,} kernels on a path").wait_for()
        assert tab.state.get("edges", "200") == str(most)
    tab.page.reload()
    tab.shown("unit")
    tab.settled()
    assert tab.page.get_by_label("Kernels drawn, at most").input_value() == "2000"


def test_numbers_say_what_they_are_of(tab, unit, link):
    tab.open(f"{link}&keep=0.2")
    tab.settled()
    kept = tab.page.locator("output").first.inner_text()
    assert kept == f"20 % · {len(unit.circuit(keep=0.2)):,} kernels"
    assert "|y| summed over all positions" in panel(tab, "Top images").inner_text()
    # Halves go to the even number, as everywhere else.
    fractions, numbers = (0.5, 0.3, 0.05, 0.025, 0.001), range(1, 400)
    asked = [(fraction, number) for fraction in fractions for number in numbers]
    module = (files("circuit_atlas.service") / "viewer" / "figures.js").read_text()
    tab.page.goto("about:blank")  # Whose policy lets a module come from a text.
    found = tab.page.evaluate(
        """([module, asked]) => import(`data:text/javascript,${encodeURIComponent(module)}`)
            .then(({ kernelsKept }) =>
                asked.map(([fraction, number]) => kernelsKept(fraction, number)))""",
        [module, asked],
    )
    assert found == [kernels_kept(fraction, number) for fraction, number in asked]


def test_a_score_without_single_images_has_no_groups_and_no_map(photos, tab):
    where = {"layer": LAYER, "unit": UNITS[1], "criterion": "random"}
    tab.open(photos.link("unit", **where))
    tab.settled()
    groups = panel(tab, "Sub-features")
    assert "No groups are stored for random" in groups.inner_text()
    assert not groups.get_by_role("button", name="Save sub-features").is_visible()
    tab.page.get_by_role("link", name="Map of its images").click()
    tab.shown("map")
    tab.settled()
    assert tab.page.get_by_label("Score").input_value() == "actgrad"
    sides = {f"{side}_{key}": where[key] for side in ("left", "right") for key in ("layer", "unit")}
    tab.open(photos.link("compare", **sides, criterion="random"))
    tab.settled()
    assert tab.page.get_by_label("Images").first.locator("option").all_inner_texts() == [
        "all scoring images"
    ]


def test_response_maps_lie_over_the_pictures(tab, unit, link):
    tab.open(link)
    tab.page.get_by_label("Response map").check()
    tab.settled()
    canvases = panel(tab, "Top images").locator("canvas")
    maps = unit.reader.response_maps(unit.commit)
    assert canvases.count() == len(maps)
    colours = canvases.first.evaluate(
        """canvas => [canvas.height, canvas.width,
            ...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]"""
    )
    assert tuple(colours[:2]) == maps[0].shape
    reds = colours[2::4]
    for red, value in zip(reds, maps[0].ravel(), strict=True):
        if abs(value) > 0.1 * abs(maps).max():
            assert (red > 150) == (value > 0)


def test_faithfulness_of_every_criterion_and_split(photos, tab, unit, link):
    tab.open(link)
    tab.settled()
    rows = unit.faithfulness().to_pylist()
    part = panel(tab, "Faithfulness against kept fraction")

    def expected(fraction: float, criterion: str) -> list[str]:
        return [
            text(row["pearson"])
            for split in ("held_out", "scoring")
            for row in rows
            if (row["fraction"], row["criterion"], row["split"]) == (fraction, criterion, split)
        ]

    def shown() -> list[list[str]]:
        return [row.locator("td").all_inner_texts() for row in part.locator("tbody tr").all()]

    assert shown() == [expected(0.1, "actgrad"), expected(0.1, "random")]
    assert part.locator("tbody th").all_inner_texts() == ["actgrad", "random, the floor"]
    assert part.locator("svg .series").count() == 4
    # The arrow keys read other fractions, and Enter keeps one.
    chart = part.locator("svg[tabindex]")
    chart.focus()
    for _ in range(2):
        chart.press("ArrowRight")
    assert shown() == [expected(0.2, "actgrad"), expected(0.2, "random")]
    chart.press("Enter")
    assert tab.state["keep"] == "0.2"
    part.get_by_role("button", name="Table").click()
    assert part.locator("tbody tr").count() == len(photos.atlas.header.fractions)
    assert tab.state["chart"] == "table"
    part.get_by_label("Measure").select_option("relative_l1")
    cell = part.locator("tbody tr").nth(1).locator("td").first.inner_text()
    wanted = next(
        row["relative_l1"]
        for row in rows
        if (row["level"], row["criterion"], row["split"]) == (1, "actgrad", "held_out")
    )
    assert float(cell) == pytest.approx(wanted, abs=5e-4)


def test_a_point_of_the_chart_can_be_clicked(tab, link):
    tab.open(link)
    tab.settled()
    chart = panel(tab, "Faithfulness against kept fraction").locator("svg[tabindex]")
    chart.click(position={"x": chart.bounding_box()["width"] - 15, "y": 100})
    assert tab.state["keep"] == "1"
    assert (
        tab.page.get_by_label("Kept", exact=True)
        .get_attribute("aria-valuetext")
        .startswith("100 %")
    )


def test_the_circuits_counts_follow_the_kept_fraction(tab, unit, link):
    tab.open(link)
    for keep in (0.1, 0.05, 0.01):
        tab.settled()
        counts = unit.circuit(keep=keep).by_convolution().to_pylist()
        rows = panel(tab, "Circuit").locator("tbody tr").all()
        for shown, row in zip(rows, counts, strict=True):
            assert shown.locator("th").inner_text() == row["convolution"]
            assert shown.locator("td").all_inner_texts()[:2] == [
                f"{row['kernels']:,}",
                f"{row['reachable_kernels']:,}",
            ]
        tab.page.get_by_label("Kept", exact=True).first.press("ArrowLeft")


def test_the_circuit_of_one_image(tab, unit, link):
    image = unit.top_images()["image"].to_pylist()[2]
    tab.open(f"{link}&images={image}&keep=0.05")
    tab.settled()
    circuit = unit.circuit(keep=0.05, images=[image])
    part = panel(tab, "Circuit")
    assert f"for image {image} alone" in part.inner_text()
    shown = [row.locator("td").first.inner_text() for row in part.locator("tbody tr").all()]
    assert shown == [f"{n:,}" for n in circuit.by_convolution()["kernels"].to_pylist()]
    part.get_by_role("link", name="Show that of all images").click()
    tab.settled()
    assert "for all scoring images" in part.inner_text()


def test_the_diagrams_state_is_in_the_address(tab, unit, link):
    tab.open(f"{link}&keep=0.1")
    tab.settled()
    stage = tab.page.get_by_role("application")
    stage.wait_for()
    part = panel(tab, "Circuit diagram")
    drawn = unit.circuit(keep=0.1).diagram().content.counts
    assert f"{drawn.drawn:,} of {drawn.on_path:,} kernels" in part.locator(".ca-count").inner_text()
    part.get_by_label("Inhibition").uncheck()
    part.get_by_label("Nodes").press("ArrowRight")
    tab.page.wait_for_url("**d.nodes=**")
    assert tab.state["d.hide"] == "inhibition"
    count = part.locator(".ca-count").inner_text()
    tab.page.reload()
    tab.shown("unit")
    tab.settled()
    part.locator(".ca-count").wait_for()
    assert not part.get_by_label("Inhibition").is_checked()
    assert part.locator(".ca-count").inner_text() == count
    # A node is reached and isolated by keys alone.
    stage.focus()
    stage.press("ArrowLeft")
    stage.press("Enter")
    tab.page.wait_for_url("**d.selection=**")


def test_the_most_similar_units(photos, tab, link):
    tab.open(link)
    tab.settled()
    layer = photos.atlas.layer(LAYER)
    expected = layer.similarity(keep=0.1, criterion="actgrad").nearest(UNITS[1], limit=12)
    cards = panel(tab, "Units with the most similar circuits").locator(".card")
    for card, row in zip(cards.all(), expected.to_pylist(), strict=True):
        assert card.locator("a").first.inner_text() == str(row["unit"])
        assert card.locator("b").inner_text() == text(row["iou"])
    cards.first.get_by_role("link", name=re.compile("Compare")).click()
    tab.shown("compare")
    assert tab.state["right.unit"] == str(expected["unit"].to_pylist()[0])


def test_neighbours_are_links(tab, link):
    tab.open(link)
    tab.page.get_by_role("link", name=f"Next unit: {UNITS[2]}").click()
    tab.shown("unit")
    assert tab.page.locator("h1").inner_text() == f"Unit {UNITS[2]}"
    assert tab.page.evaluate("document.activeElement.tagName") == "H1"


def test_sub_features_are_those_of_the_client(two_ways, tab):
    tab.open(two_ways.link("unit", layer="head", unit=0, keep=0.2))
    tab.settled()
    unit = two_ways.atlas.layer("head").unit(0)
    groups = unit.groups(criterion="actgrad")
    part = panel(tab, "Sub-features")
    assert len(groups) == 2
    measured = unit.polysemanticity(criterion="actgrad").value
    assert (
        f"2 groups, silhouette {text(groups.silhouette)}, polysemanticity {text(measured)}"
        in part.inner_text()
    )
    contrast = unit.selectivity(criterion="actgrad", ablation="zero").to_pylist()
    table = groups.table().to_pylist()
    for number, card in enumerate(part.locator(".group").all()):
        images = [row["image"] for row in table if row["group"] == number]
        links = card.locator(".group-images a").all()
        shown = [re.search(r"image=(\d+)", link.get_attribute("href"))[1] for link in links]
        assert shown == [str(image) for image in images]
        row = next(r for r in contrast if (r["group"], r["fraction"]) == (number, 0.2))
        legend = card.locator(".legend").inner_text()
        assert f"its own {text(row['preserved'])}" in legend
        assert f"the others' {text(row['leaked'])}" in legend
    part.get_by_role("link", name="Show its circuit").first.click()
    tab.settled()
    images = [row["image"] for row in table if row["group"] == 0]
    wanted = unit.circuit(keep=0.2, images=images).by_convolution()["kernels"].to_pylist()
    rows = panel(tab, "Circuit").locator("tbody tr").all()
    assert [row.locator("td").first.inner_text() for row in rows] == [f"{n:,}" for n in wanted]
    assert tab.state["group"] == "0"


def test_feature_visualizations_of_the_unit_and_of_its_groups(two_ways, tab):
    tab.open(two_ways.link("unit", layer="head", unit=0))
    tab.settled()
    records = two_ways.atlas.reader.feature_visualizations("head", 0)
    part = panel(tab, "Feature visualizations")
    shots = part.locator("li")
    assert shots.count() == len(records) >= 6
    said = shots.locator(".caption").nth(0).inner_text()
    assert said == "positive"
    names = [shot.locator(".caption").first.inner_text() for shot in shots.all()]
    through = {f"positive, {part}through 30 %" for part in ("", "group A, ", "group B, ")}
    assert {"negative", *through} <= set(names)
    for picture in part.locator("img").all():
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
    # It is saved under a name that says which: small, as it is shown, or as it was made.
    part.get_by_role("button", name="Save").click()
    links = [part.get_by_role("link", name="PNG positive", exact=True).get_attribute("href")]
    links.append(part.locator("img").first.get_attribute("src"))
    tab.page.keyboard.press("Escape")
    for link, ending in zip(links, ("png", "jpg"), strict=True):
        found = tab.page.request.get(link)
        name = f"tests.browser.networks_two_ways-head-0-positive.{ending}"
        assert found.headers["content-disposition"] == f'inline; filename="{name}"'
    # The group's own picture stands with its images, and in the layer's card of the unit.
    cards = panel(tab, "Sub-features").locator(".group .feature img")
    assert cards.count() == 2
    tab.open(two_ways.link("layer", layer="head"))
    assert "/features/positive" in tab.page.locator(".card img").first.get_attribute("src")


def test_a_direction_has_a_page(two_ways, tab):
    tab.open(two_ways.link("unit", layer="head", unit="both"))
    assert tab.page.locator("h1").inner_text() == "Direction both"
    tab.settled()


@pytest.mark.parametrize(
    ("layer", "unit", "message"),
    [
        ("conv3", 3, "dead: its response is the same on every image"),
        ("conv3", 4, "non_finite: NaN in its response to image 1"),
        ("conv2", 2, "not computed yet: run the same build again"),
        ("conv2", 3, "not in this atlas: name it under units"),
    ],
)
def test_a_unit_without_circuits_says_why(invented, tab, layer, unit, message):
    tab.open(invented.link("unit", layer=layer, unit=unit))
    assert message in tab.page.locator("main > div > .message").inner_text()
    tab.settled()
    assert tab.page.locator(".panel").count() == (1 if unit == 3 and layer == "conv3" else 0)


def test_images_are_divided_into_as_many_groups_as_one_asks_for(photos, tab):
    """Also where the stored groups are one: what is shared can be looked at all the same."""
    unit = photos.atlas.layer(LAYER).unit(UNITS[0])
    tab.open(photos.link("unit", layer=LAYER, unit=UNITS[0]))
    tab.settled()
    part = panel(tab, "Sub-features")
    rejected = unit.groups(groups="auto").grouping.rejected
    said = part.locator(".lead").inner_text()
    assert said.startswith("One group: no split passed the test. The best, into ")
    assert f"has a silhouette of {text(rejected.silhouette)}" in said
    part.get_by_label("Groups").select_option("3")
    tab.settled()
    rows = unit.groups(groups=3).table().to_pylist()
    sizes = [sum(row["group"] == group for row in rows) for group in range(3)]
    said = part.locator(".group > .line .dim").all_inner_texts()
    assert said == [f"{size} image{'s' * (size > 1)}" for size in sizes]
    held = unit.score_selectivity(unit.groups(groups=3).grouping.members()).to_pylist()
    own = [row["preserved"] for row in held if row["fraction"] == 0.1]
    legends = part.locator(".group .legend").all_inner_texts()
    for legend, share in zip(legends, own, strict=True):
        assert f"share of the score: its own {text(share)}" in legend
    part.get_by_role("link", name="Compare groups A and B").click()
    tab.shown("compare")
    tab.settled()
    assert tab.state["left.groups"] == tab.state["right.groups"] == "3"
    a, b = (
        unit.circuit(keep=0.1, images=[row["image"] for row in rows if row["group"] == group])
        for group in (0, 1)
    )
    assert tab.page.locator(".overlap .iou b").inner_text() == text(a.iou(b))


def test_an_older_atlas_shows_what_it_has(serve, tab, tmp_path):
    write_atlas(tmp_path / "old")
    header = replace(make_header(), schema=1)
    (tmp_path / "old" / layout.HEADER).write_text(header.to_json())
    for name in ("network", "wiring", "weights", "channels"):
        (tmp_path / "old" / getattr(layer_paths, name)("conv3")).unlink()
    served = serve(tmp_path / "old")
    tab.open(served.link("unit", layer="conv3", unit=0, maps=1))
    tab.settled()
    assert panel(tab, "Top images").locator("li").count() == 3
    assert panel(tab, "Circuit").locator("tbody tr").count() == 3
    for title, lacks in (
        ("Circuit diagram", "does not say how its network is wired: build it again"),
        ("Sub-features", "has no groups: build it again into another store"),
    ):
        assert lacks in panel(tab, title).inner_text()
    tab.open(served.link("map", layer="conv3", unit=0, images="2"))
    tab.settled()
    assert tab.page.locator(".point").count() == 3


def test_every_pair_of_many_groups_can_be_compared(two_ways, tab):
    tab.open(two_ways.link("unit", layer="head", unit=0, groups=5))
    tab.settled()
    cards = panel(tab, "Sub-features").locator(".group")
    assert cards.count() == 5
    cards.nth(1).get_by_role("button", name="Compare group B with another").click()
    links = cards.nth(1).locator(".menu a")
    assert [link.inner_text().strip() for link in links.all()] == [f"Group {x}" for x in "ACDE"]
    links.last.click()
    tab.shown("compare")
    assert (tab.state["left.group"], tab.state["right.group"]) == ("1", "4")


def test_how_stable_the_circuit_is_and_what_is_certified(tab, unit, link):
    tab.open(f"{link}&keep=0.1")
    tab.settled()
    part = panel(tab, "Stability")
    told = part.locator(".lead").inner_text()
    core = unit.stability(keep=0.1).core()
    kernels = len(unit.circuit(keep=0.1))
    assert told.startswith(
        f"{len(core):,} kernels are stable, where the circuit keeps {kernels:,}:"
    )
    assert "95 % of the circuits that 200 draws of its 10 top images give" in told
    inside = [len(unit.certificate(keep=0.1, edits=edits).inside) for edits in (1, 2, 3)]
    assert f"{inside[0]:,} for 1 edit, {inside[1]:,} for 2 edits, {inside[2]:,} for 3" in told
    shown = [row.locator("th, td").all_inner_texts() for row in part.locator("tbody tr").all()]
    wanted = zip(
        core.by_convolution().to_pylist(),
        unit.circuit(keep=0.1).by_convolution().to_pylist(),
        strict=True,
    )
    assert [row[:3] for row in shown] == [
        [stable["convolution"], f"{stable['kernels']:,}", f"{whole['kernels']:,}"]
        for stable, whole in wanted
    ]
    tab.page.get_by_label("Score", exact=True).select_option("random")
    tab.settled()
    assert part.inner_text().endswith(
        "There are no scores of single images by random to draw anew."
    )
