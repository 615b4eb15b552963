"""Segments of paths are safe and tell names apart, whatever a layer is called."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from circuit_atlas.storage_schema import segments


@given(st.text())
@example("")
@example("..")
@example("a#1")
@example("=2E")
def test_an_escaped_name_is_one_safe_segment_and_comes_back(name):
    segment = segments.escape(name)
    assert segment
    assert segment.isascii()
    assert not set(segment) & set('/\\#%?*:<>|" ')
    assert set(segment) != {"."}
    assert not segment.startswith(".")
    assert segments.unescape(segment) == name


@pytest.mark.parametrize("stray", ["\u00e9", "=FF", "=C3", ".DS_Store", "a b", "=41", "a=2fb"])
def test_what_was_written_by_others_stands_for_no_name(stray):
    assert segments.escape(segments.unescape(stray)) != stray
