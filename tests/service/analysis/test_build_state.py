"""How far a build is, from what it has put into the store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from circuit_atlas.service.analysis.build_state import WINDOW_S, BuildState
from circuit_atlas.storage_schema import heartbeat, layer_paths, layout
from circuit_atlas.storage_schema.heartbeat import STALE_S, Activity, Heartbeat
from circuit_atlas.storage_schema.reader import Reader

NOW_S = 1_800_000_000.0
AT = Activity("conv2", "unit", (2,), "scores", 3, 20, "images")


@pytest.fixture
def folder(write, tmp_path: Path) -> Path:
    """The small atlas, all of it written an hour ago."""
    location: Path = tmp_path / "atlas"
    write(location)
    for path in location.rglob("*.json"):
        os.utime(path, (NOW_S - 3600, NOW_S - 3600))
    return location


def beat(folder: Path, worker: str, *, ago_s: float) -> None:
    said = Heartbeat(worker, "units", NOW_S - 70, NOW_S - 60, 0.0, 4, 1, 0, AT)
    heartbeat.write(Reader(folder).objects, said)
    os.utime(folder / layout.heartbeat(worker), (NOW_S - ago_s, NOW_S - ago_s))


def test_counts_are_those_of_status(folder: Path) -> None:
    state = BuildState.read(Reader(folder), now_s=NOW_S)
    counts = {
        stage.layer: (stage.asked, stage.done, stage.failed, stage.missing)
        for stage in state.stages
        if stage.stage == "units"
    }
    assert counts == {"conv2": (4, 3, 0, 1), "conv3": (5, 4, 1, 0)}
    assert state.failed == 1
    assert (state.rate, state.left_s, state.workers) == (None, None, ())
    assert not state.finished


def test_the_rate_is_that_of_the_last_minutes(folder: Path) -> None:
    for unit in (0, 1):
        os.utime(folder / layer_paths.commit("conv3", unit), (NOW_S - 30, NOW_S - 30))
    state = BuildState.read(Reader(folder), now_s=NOW_S)
    assert state.rate == pytest.approx(2 / WINDOW_S)
    assert state.left_s == pytest.approx(WINDOW_S / 2)


def test_a_build_that_has_just_begun_is_not_averaged_over_more(folder: Path) -> None:
    for path in folder.rglob("commits/*.json"):
        os.utime(path, (NOW_S - 10, NOW_S - 10))
    beat(folder, "a", ago_s=1)
    assert BuildState.read(Reader(folder), now_s=NOW_S).rate == pytest.approx(7 / 70)


def test_a_killed_worker_is_silent_and_holds_up_no_end(folder: Path) -> None:
    beat(folder, "alive", ago_s=5)
    beat(folder, "killed", ago_s=STALE_S + 1)
    state = BuildState.read(Reader(folder), now_s=NOW_S)
    alive, killed = state.workers
    assert (alive.silent, killed.silent) == (False, True)
    assert (alive.running_s, alive.units, alive.ended, alive.activity) == (60.0, 4, 1, AT)
    assert not state.finished
    (folder / layout.heartbeat("alive")).unlink()
    (folder / layer_paths.commit("conv2", 2)).write_bytes(b"{}")
    assert BuildState.read(Reader(folder), now_s=NOW_S).finished
