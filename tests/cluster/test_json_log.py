"""A run's structured log: what a program that reads it can rely on."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Any

import pytest

from circuit_atlas.cluster.executor import (
    FEATURES,
    BuildMet,
    Planned,
    StartFailed,
    TaskDone,
    TaskLost,
    TaskProgress,
    TaskStarted,
    Waiting,
    WorkersReady,
)
from circuit_atlas.cluster.json_log import JsonLog
from circuit_atlas.cluster.progress import open_view
from circuit_atlas.storage_schema.claim import Claim
from circuit_atlas.storage_schema.errors import WorkerLostError
from circuit_atlas.storage_schema.heartbeat import Activity
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.patience import Outage
from circuit_atlas.storage_schema.records import Receipt
from tests.clock import set_clock
from tests.cluster.toy import Task

KEYS = (UnitKey("toy", "conv", 0), UnitKey("toy", "conv", 1))
BLOCK = Task("conv", KEYS)
DONE = Receipt(KEYS[0], "done", 71, 10, 1.25)
FAILED = Receipt(KEYS[1], "failed", 5, 0, 0.0, kind="non_finite", message="NaN in scores")
ACTIVITY = Activity("conv", "unit", (0, 1), "scores", 3, 20, "images")


def logged(*events: Any) -> list[dict[str, Any]]:
    stream = io.StringIO()
    with open_view(stream, log_json=True) as view:
        assert isinstance(view, JsonLog)
        for event in events:
            view.show(event)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_line_has_what_all_have() -> None:
    lines = logged(
        Planned(2, 1, 1, ("slow",)),
        StartFailed(WorkerLostError("a worker could not start: ended")),
        WorkersReady(1),
        BuildMet(Claim("node7-12-ab", "node7", 12, 0.0)),
        TaskStarted(BLOCK, "host-1"),
        TaskProgress(BLOCK, "host-1", (DONE,), ACTIVITY),
        Waiting(2),
        Waiting(2),
        TaskDone(BLOCK, (DONE, FAILED), "host-1"),
        TaskLost(BLOCK, WorkerLostError("conv units 0, 1: ended"), True, "host-1"),
    )
    assert [line["event"] for line in lines] == [
        "remark",
        "planned",
        "start_failed",
        "workers_ready",
        "build_met",
        "task_started",
        "unit_done",
        "task_progress",
        "waiting",
        "unit_failed",
        "task_done",
        "task_lost",
    ]
    for line in lines:
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
        assert line["level"] in ("info", "warning", "error")
        assert line["stage"] == "units"
        assert line["message"]
    (met,) = [line for line in lines if line["event"] == "build_met"]
    assert (met["host"], met["pid"], met["since_s"]) == ("node7", 12, 0.0)


def test_a_unit_is_told_once_with_its_key_worker_and_attempt() -> None:
    progress = TaskProgress(BLOCK, "host-1", (DONE,), ACTIVITY)
    lines = logged(progress, progress, TaskDone(BLOCK, (DONE, FAILED), "host-1"))
    units = [line for line in lines if line["event"].startswith("unit_")]
    assert [(line["level"], line["key"], line["worker"], line["attempt"]) for line in units] == [
        ("info", "toy/conv/0", "host-1", 71),
        ("error", "toy/conv/1", "host-1", 5),
    ]
    assert units[0]["compute_s"] == 1.25
    assert units[1]["kind"] == "non_finite"
    assert units[1]["message"] == "conv unit 1: NaN in scores"


def test_what_a_worker_is_at_is_told_by_step_and_by_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_clock(monkeypatch, "cluster.json_log", monotonic=count(0.0, 2).__next__)
    scores = TaskProgress(BLOCK, "host-1", (), ACTIVITY)
    learned = replace(scores, activity=replace(ACTIVITY, step="learned"))
    told = [line["activity"]["step"] for line in logged(*[scores] * 40, *[learned] * 2)]
    assert told == ["scores", "scores", "learned"]


def test_a_lost_task_says_whether_it_is_tried_again() -> None:
    error = WorkerLostError("conv units 0, 1: its process ended")
    retry, over = logged(TaskLost(BLOCK, error, True, "a"), TaskLost(BLOCK, error, False, "a"))
    assert (retry["level"], retry["will_retry"], retry["worker"]) == ("warning", True, "a")
    assert (over["level"], over["will_retry"], over["units"]) == ("error", False, [0, 1])


def test_the_stage_is_that_of_the_last_plan() -> None:
    stages = [line["stage"] for line in logged(Planned(1, 0, 1), Planned(1, 0, 1, stage=FEATURES))]
    assert stages == ["units", "features"]


def test_a_store_that_is_out_is_told_of_and_so_is_its_return() -> None:
    outage = Outage("s3://bucket/atlas", "503 Service Unavailable", 1000.0, 600.0)
    out, back = logged(outage, replace(outage, ended_s=1042.4))
    assert (out["level"], out["event"], out["store"]) == ("warning", "store_out", outage.store)
    assert (out["answer"], out["since_s"], out["limit_s"]) == (outage.answer, 1000.0, 600.0)
    assert out["message"].startswith("waiting for s3://bucket/atlas since ")
    assert (back["level"], back["event"], back["ended_s"]) == ("info", "store_back", 1042.4)
    assert back["message"] == "s3://bucket/atlas answers again after 42 s"
