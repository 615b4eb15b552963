"""Tables for people."""

from __future__ import annotations

import pyarrow as pa

from circuit_atlas.service.circuit import display
from circuit_atlas.service.circuit.atlas_table import html_table


def test_a_long_table_is_cut_and_says_so():
    html = html_table(pa.table({"n": list(range(23))}), caption="a < b")
    assert html.count("<tr>") == 1 + 20
    assert "and 3 more rows" in html
    assert "a &lt; b" in html


def test_what_a_name_holds_moves_nothing_in_a_terminal():
    text = display.text_table(pa.table({"name": ["a\nb\x1b[2J", "\u202ec"], "n": [1, 2]}))
    assert text.splitlines() == ["  name     n", "  a\ufffdb\ufffd[2J  1", "  \ufffdc       2"]
