"""The page of a layer's criteria against the Python client."""

from __future__ import annotations

import re

from tests.browser.atlases import LAYER


def shown(value: float) -> str:
    """As pages write numbers."""
    text = f"{abs(value):.2f}"
    return f"−{text}" if value < 0 and float(text) else text


def cells(tab, panel: str) -> list[list[str]]:
    rows = tab.page.locator("section", has_text=panel).locator("tbody tr").all()
    return [row.locator("th, td").all_inner_texts() for row in rows]


def test_criteria_are_compared_as_by_python(photos, tab):
    tab.open(photos.link("layer", layer=LAYER))
    tab.page.get_by_role("link", name="Compare criteria").click()
    tab.shown("criteria")
    tab.settled()
    found = photos.atlas.compare_criteria(layer=LAYER)
    for keep in (0.1, 0.05):
        rows = [
            row
            for row in found.table.to_pylist()
            if (row["split"], row["fraction"]) == ("held_out", keep)
        ]
        assert [row[:4] for row in cells(tab, "r against kept fraction")] == [
            [
                row["criterion"],
                shown(row["median"]),
                f"{shown(row['low_units'])} to {shown(row['high_units'])}",
                str(row["best"]),
            ]
            for row in rows
        ]
        tab.page.get_by_label("Kept", exact=True).press("ArrowLeft")
        tab.settled()
    tab.page.get_by_label("Measured on").select_option("scoring")
    tab.settled()
    areas = [row for row in found.areas.to_pylist() if row["split"] == "scoring"]
    assert [row[:2] for row in cells(tab, "Over all sizes")] == [
        [row["criterion"], shown(row["area"])] for row in areas
    ]
    (pair,) = cells(tab, "Two by two")
    assert pair[0] == "actgrad against random"
    lines = tab.page.locator(".chart.lines svg")
    assert lines.locator("polyline").count() == lines.locator("polygon.band").count() == 2
    assert "No interval over images" in tab.page.locator("main").inner_text()


def test_a_layer_without_a_circuit_is_no_error(photos, tab):
    def none_done(route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "done": 0})

    tab.page.route(re.compile(rf"/layers/{re.escape(LAYER)}(\?.*)?$"), none_done)
    tab.open(photos.link("criteria", layer=LAYER))
    assert "No unit of this layer has a circuit" in tab.page.locator("p.message").inner_text()
    assert tab.page.get_by_role("button", name="Try again").count() == 0
    assert tab.page.locator("section").count() == 0
