"""The atlas page against the Python client."""

from __future__ import annotations

import re

import numpy as np

from tests.browser.atlases import LAYER, OTHER, UNITS
from tests.service.conftest import write_atlas
from tests.service.visualization_work import begin

THRESHOLD = 0.9


def smallest(served, layer: str, *, split: str = "held_out", criterion: str = "actgrad"):
    """Of each unit, the smallest fraction whose r reaches the threshold, or None; and all r."""
    rows = served.atlas.layer(layer).faithfulness().to_pylist()
    fractions = served.atlas.header.fractions
    r = {}
    for row in rows:
        if (row["criterion"], row["split"], row["ablation"]) == (criterion, split, "zero"):
            r.setdefault(row["unit"], {})[row["fraction"]] = row["pearson"] or 0.0
    best = {
        unit: min((f for f in fractions if values[f] >= THRESHOLD), default=None)
        for unit, values in r.items()
    }
    return best, r


def test_layers_come_with_their_states_and_shapes(photos, tab):
    tab.open(photos.link("atlas"))
    rows = tab.page.locator(".layer-row")
    assert rows.locator("h3").all_inner_texts() == [OTHER, LAYER]
    index = photos.atlas.layer(LAYER).index
    said = rows.nth(1).locator(".what .note").inner_text()
    assert said == (
        f"{index.channels} × {index.height} × {index.width}, {index.explained} · "
        f"{index.index.size:,} kernels in {len(index.index.convolutions)} convolutions"
    )
    assert rows.nth(1).locator(".progress").inner_text().strip() == f"{len(UNITS)} done"


def test_circuit_sizes_and_faithfulness_are_those_of_the_client(photos, tab):
    tab.open(photos.link("atlas"))
    tab.settled()
    best, r = smallest(photos, LAYER)
    row = tab.page.locator(".layer-row").nth(1)
    reached = sum(value is not None for value in best.values())
    assert row.locator(".size .note").inner_text() == f"{reached} of {len(best)} reach r 0.9"
    median = float(np.median([values[0.1] for values in r.values()]))
    assert f"{median:.2f}" in row.locator(".faithful .note").inner_text()
    titles = row.locator(".size title").all_text_contents()
    counted = [int(title.split()[0]) for title in titles]
    fractions = sorted(photos.atlas.header.fractions)
    expected = [sum(value == f for value in best.values()) for f in fractions]
    assert counted == [*expected, len(best) - reached]
    ends = row.locator(".faithful svg text").all_text_contents()
    assert ends == [f"{100 * fractions[0]:g} %", "100 %"]


def test_how_circuits_are_read_changes_what_is_shown(photos, tab):
    tab.open(photos.link("atlas"))
    tab.settled()
    tab.page.get_by_label("Score").select_option("random")
    tab.settled()
    _, r = smallest(photos, LAYER, criterion="random")
    median = float(np.median([values[0.1] for values in r.values()]))
    shown = tab.page.locator(".layer-row").nth(1).locator(".faithful .note").inner_text()
    assert f"{abs(median):.2f}" in shown
    assert tab.state == {"criterion": "random"}
    tab.page.get_by_label("Measured on").select_option("scoring")
    assert tab.state == {"criterion": "random", "split": "scoring"}


def test_a_layer_and_a_state_are_links(photos, tab):
    tab.open(photos.link("atlas"))
    tab.page.get_by_role("link", name=re.compile(r"^8 done")).click()
    tab.shown("layer")
    assert tab.state == {"page": "layer", "layer": LAYER, "state": "done"}


def test_what_it_was_built_from(photos, tab):
    tab.open(photos.link("atlas"))
    about = tab.page.locator(".about").inner_text()
    header = photos.atlas.header
    for value in (header.weights_sha256, header.images_sha256, "96 × 96 pixels"):
        assert value in about
    assert header.response == "sum_abs"
    assert "Response explained\n|y| summed over all positions of its output\n" in about


def test_how_far_feature_visualizations_are(tmp_path, serve, tab):
    write_atlas(tmp_path / "atlas")
    begin(tmp_path / "atlas")
    begun = serve(tmp_path / "atlas")
    tab.open(begun.link("atlas"))
    panel = tab.page.get_by_role("region", name="Feature visualizations", exact=True)
    panel.locator("table").wait_for()
    told = [line.split("\t") for line in panel.locator("tbody tr").all_inner_texts()]
    assert told == [
        [row["layer"], f"{row['of']}s"]
        + [str(row[name]) for name in ("planned", "done", "failed", "missing", "visualizations")]
        for row in begun.atlas.visualization_status().to_pylist()
    ]
    assert panel.locator(".failures li").all_inner_texts() == [
        f"{row['of']} {row['name']} of {row['layer']}: {row['message']}"
        for row in begun.atlas.visualization_failures().to_pylist()
    ]
    assert "1 missing and 2 failed; run the command that asked for them again" in (
        panel.locator(".partial").inner_text()
    )


def test_an_atlas_without_feature_visualizations_says_how_to_make_some(photos, tab):
    tab.open(photos.link("atlas"))
    tab.page.get_by_text("None were asked for: circuit-atlas features makes them.").wait_for()


def test_units_that_are_dead_failed_and_missing_are_counted(invented, tab):
    tab.open(invented.link("atlas"))
    counts = tab.page.locator(".progress").all_inner_texts()
    assert [text.strip() for text in counts] == [
        "3 done · 1 not computed yet",
        "3 done · 1 dead · 1 failed",
    ]
    assert (
        "1 unit not computed yet: run the same build again"
        in tab.page.locator(".message.partial").inner_text()
    )
