"""`status --watch`: a line or an object each time, until all is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from circuit_atlas.service.analysis.build_state import BuildState, StageState, WorkerState
from circuit_atlas.service.commands import watch
from circuit_atlas.service.commands.cli import main
from circuit_atlas.storage_schema.errors import StoreError
from circuit_atlas.storage_schema.heartbeat import Activity
from circuit_atlas.storage_schema.reader import Reader
from tests.clock import set_clock

AT = Activity("conv", "unit", (4, 5), "scores", 3, 20, "images")
WORKER = WorkerState("node1-7-ab", "units", 42.0, 4, 1, AT, 5.0, silent=False)
LAYER = StageState("units", "conv", "unit", 12, 4, 1)
STATE = BuildState(1_800_000_000.0, (LAYER,), 0.1, 70.0, (WORKER,))
DONE = replace(STATE, stages=(replace(LAYER, done=11),), left_s=0.0, workers=())


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line; its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[BuildState | BaseException]:
    """What a look at the store gives, or raises, one after the other."""
    given: list[BuildState | BaseException] = []

    def read(_: Reader) -> BuildState:
        state = given.pop(0)
        if isinstance(state, BaseException):
            raise state
        return state

    monkeypatch.setattr(watch.BuildState, "read", read)
    set_clock(monkeypatch, "service.commands.watch", sleep=lambda _: None)
    return given


def test_lines_until_all_is_done(call, location, states) -> None:
    states += [STATE, StoreError("no answer"), replace(STATE, workers=(WORKER,) * 4), DONE]
    code, out, err = call("status", location, "--watch")
    lines = [line[21:] for line in out.splitlines()]
    assert lines == [
        "4/12 units, 1 failed, 6.0 units/min, 1m10s left; 1 worker at work; "
        "conv units 4-5: scores 3/20 images",
        "4/12 units, 1 failed, 6.0 units/min, 1m10s left; 4 workers at work; "
        "conv units 4-5: scores 3/20 images; conv units 4-5: scores 3/20 images; 2 more",
        "11/12 units, 1 failed; no workers at work",
    ]
    assert "no answer; trying again" in err
    assert code == 1, "a unit failed"


def test_an_object_a_line_as_json(call, location, states) -> None:
    states += [STATE, DONE]
    _, out, _ = call("status", location, "--watch", "--json", "--interval", "2")
    first, last = map(json.loads, out.splitlines())
    assert first["stages"][0]["done"] == 4
    assert first["workers"][0]["activity"]["step"] == "scores"
    assert (first["rate"], first["left_s"], first["finished"]) == (0.1, 70.0, False)
    assert last["finished"]


def test_ctrl_c_is_quiet(call, location, states) -> None:
    states += [replace(STATE, stages=(replace(LAYER, failed=0),)), KeyboardInterrupt()]
    code, out, err = call("status", location, "--watch")
    assert (code, len(out.splitlines()), err) == (0, 1, "")


def test_a_screen_shows_each_layer_and_each_worker() -> None:
    silent = replace(WORKER, worker="node2-9-cd", silent_s=7200.0, silent=True)
    text = watch.screen(replace(STATE, workers=(WORKER, silent)))
    assert "1 worker at work, 1 silent" in text
    assert "node1-7-ab  conv units 4-5: scores 3/20 images (42s, 1 of 4 ended)" in text
    assert "node2-9-cd  silent for 2h00m, killed or cut off; was at conv units 4-5" in text


def test_it_looks_at_the_store(call, location: Path) -> None:
    """Nothing is missing of one layer, and a unit of the other: so it is looked at twice."""
    looked = 0

    def stop(_: float) -> None:
        nonlocal looked
        looked += 1
        if looked == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        set_clock(patch, "service.commands.watch", sleep=stop)
        code, out, _ = call("status", location, "--watch")
    assert (code, len(out.splitlines())) == (1, 2)
    assert "7/9 units, 1 failed" in out
