"""The tour of the demo: by keys alone, over three pages, and not again."""

from __future__ import annotations

SEEN = "localStorage.getItem('circuit-atlas-tour')"


def test_a_first_visit_to_the_demo_is_a_tour_that_can_be_left(photos, tab):
    # The first page of a browser that keeps nothing yet.
    tab.page.add_init_script(
        "if (!sessionStorage.getItem('old')) localStorage.removeItem('circuit-atlas-tour');"
        "sessionStorage.setItem('old', '1')"
    )
    tab.open(photos.link("atlas"))
    card = tab.page.get_by_role("dialog")
    card.get_by_text("1 of 5").wait_for()
    tab.page.locator("main .pointed").wait_for()
    card.get_by_role("button", name="Next").focus()
    for step, page in enumerate(("layer", "unit", "unit", "unit"), start=2):
        tab.page.keyboard.press("Enter")
        card.get_by_text(f"{step} of 5").wait_for()
        tab.shown(page)
        tab.page.locator("main .pointed").wait_for()
        assert tab.page.evaluate("document.activeElement.textContent") in ("Next", "Done")
    card.get_by_role("button", name="Back").click()
    card.get_by_text("4 of 5").wait_for()
    tab.page.keyboard.press("Escape")
    assert card.count() == 0
    assert tab.page.locator(".pointed").count() == 0
    assert tab.page.evaluate(SEEN) == "left"
    tab.page.get_by_role("button", name="Tour").click()
    card.get_by_text("1 of 5").wait_for()
    tab.shown("atlas")
    tab.page.get_by_role("button", name="Leave the tour").click()


def test_another_atlas_has_no_tour(two_ways, tab):
    tab.page.add_init_script("localStorage.removeItem('circuit-atlas-tour')")
    tab.open(two_ways.link("atlas"))
    tab.settled()
    assert tab.page.get_by_role("dialog").count() == 0
    assert not tab.page.get_by_role("button", name="Tour").is_visible()
