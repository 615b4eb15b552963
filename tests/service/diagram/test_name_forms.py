"""Shorter forms of a name: figures and pages have one rule, and one table of cases."""

from __future__ import annotations

import json
from pathlib import Path

from circuit_atlas.service.diagram.modules import join
from circuit_atlas.service.diagram.name_forms import broken, endings
from circuit_atlas.service.web.pages import VIEWER
from tests.chromium import chromium, in_chromium, new_context

CASES = json.loads((Path(__file__).parent / "name_forms.json").read_text())
WANTED = [[case["lines"], case["endings"]] for case in CASES]


def test_figures_shorten_names_so():
    assert [
        [list(broken(case["label"], case["room"], len)), endings(case["label"])] for case in CASES
    ] == WANTED


@in_chromium
def test_pages_shorten_names_so():
    script = join(VIEWER, "diagram/name_forms.js", names=("broken", "endings"))
    with chromium() as browser:
        page = new_context(browser).new_page()
        page.set_content(
            f'<script type="module">{script} window.forms = {{ broken, endings }};</script>'
        )
        page.wait_for_function("window.forms")
        found = page.evaluate(
            """(cases) => cases.map(({ label, room }) => [
              window.forms.broken(label, room, (text) => text.length),
              window.forms.endings(label),
            ])""",
            CASES,
        )
    assert found == WANTED
