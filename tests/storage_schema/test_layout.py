"""What a run leaves is told by its path, and the examples of paths are true."""

from __future__ import annotations

from circuit_atlas.storage_schema import layout


def test_paths_are_recognised():
    of_run = (
        layout.claim("units", "a/b", "unit", 3),
        layout.build_mark("a b"),
        layout.heartbeat("a"),
    )
    assert all(map(layout.is_of_run, of_run))
    assert [layout.is_heartbeat(path) for path in of_run] == [False, False, True]
    assert not layout.is_of_run("runs/events/one.json")
