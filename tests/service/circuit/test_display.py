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


def test_wide_characters_keep_columns_in_line():
    table = pa.table({"name": ["日本語の画像", "cat", "e\u0301te\u0301"], "n": [1, 22, 333]})
    lines = display.text_table(table, indent="").splitlines()
    assert {display.columns_of(line) for line in lines} == {17}
    narrow = display.text_table(table, indent="", width=14).splitlines()
    assert narrow[1] == "日本語..     1"
    assert max(map(display.columns_of, narrow)) <= 14
