"""Paths are safe and tell names apart, whatever a layer is called."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from circuit_atlas.storage_schema import keys, layout


@given(st.text())
@example("")
@example("..")
@example("a#1")
@example("=2E")
def test_an_escaped_name_is_one_safe_segment_and_comes_back(name):
    segment = layout.escape(name)
    assert segment
    assert segment.isascii()
    assert not set(segment) & set('/\\#%?*:<>|" ')
    assert set(segment) != {"."}
    assert not segment.startswith(".")
    assert layout.unescape(segment) == name


@pytest.mark.parametrize("stray", ["\u00e9", "=FF", "=C3", ".DS_Store", "a b", "=41", "a=2fb"])
def test_what_was_written_by_others_stands_for_no_name(stray):
    assert layout.escape(layout.unescape(stray)) != stray


def test_paths_are_recognised():
    assert layout.committed_unit(layout.commit("a/b", 12)) == 12
    assert layout.failed_unit(layout.failure("a/b", 12, 7)) == 12
    assert layout.committed_unit(layout.failure("a/b", 12, 7)) is None
    assert layout.failed_unit(layout.commit("a/b", 12)) is None
    assert layout.index_of_commit(layout.commit("a/b", 12)) == layout.layer_index("a/b")
    assert layout.is_layer_index(layout.layer_index("a/b"))
    assert layout.is_manifest(layout.manifest("a/b", "3-0a1b2c3d"))
    assert layout.generation_of(layout.manifest("a/b", "3-0a1b2c3d")) == "3-0a1b2c3d"
    assert layout.generation_of(layout.sealed_file("a/b", "3-0a1b2c3d", "masks")) == "3-0a1b2c3d"
    assert layout.generation_of(layout.commit("a/b", 12)) is None
    assert layout.visualized(layout.visualization("a/b", 3, "x.0.1")) == ("a/b", 3, "x.0.1")
    assert layout.visualized(layout.visualization_image("a/b", 3, "x", 7)) is None
    assert layout.visualized("features/a b/3/x.json") is None
    assert layout.failed_visualization(layout.visualization_failure("a/b", 12, 7)) == 12
    assert layout.failed_visualization(layout.failure("a/b", 12, 7)) is None
    assert layout.is_visualization_plan(layout.visualization_plan("0" * 64))
    of_run = (
        layout.claim("units", "a/b", "unit", 3),
        layout.build_mark("a b"),
        layout.heartbeat("a"),
    )
    assert all(map(layout.is_of_run, of_run))
    assert [layout.is_heartbeat(path) for path in of_run] == [False, False, True]
    assert not layout.is_of_run("runs/events/one.json")
    assert not layout.is_manifest(layout.sealed_file("a/b", "3-0a1b2c3d", "masks"))


def test_examples_in_docstrings():
    for module in (layout, keys):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed
