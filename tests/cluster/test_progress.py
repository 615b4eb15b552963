"""What a person sees of a run, on a terminal and in a log."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from itertools import count

import pytest

from circuit_atlas.cluster.executor import (
    FEATURES,
    BuildMet,
    Event,
    Planned,
    StartFailed,
    TaskDone,
    TaskLost,
    TaskProgress,
    TaskStarted,
    Waiting,
    WorkersReady,
)
from circuit_atlas.cluster.progress import Bars, Lines, open_view
from circuit_atlas.cluster.tally import Tally
from circuit_atlas.storage_schema.claim import Claim
from circuit_atlas.storage_schema.errors import WorkerLostError
from circuit_atlas.storage_schema.heartbeat import Activity
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.patience import Outage
from circuit_atlas.storage_schema.records import Receipt
from tests.clock import set_clock
from tests.cluster.toy import Task


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


KEYS = tuple(UnitKey("toy", "conv", unit) for unit in range(8))
BLOCK = Task("conv", KEYS[:2])
DONE = TaskDone(BLOCK, tuple(Receipt(key, "done", 1, 10, 1.0) for key in KEYS[:2]))
FAILED = TaskDone(
    Task("conv", KEYS[2:3]),
    (Receipt(KEYS[2], "failed", 1, 0, 1.0, kind="non_finite", message="NaN in [the] scores"),),
)
RETRY = TaskLost(BLOCK, WorkerLostError("conv units 0, 1: its process ended"), True)
AT = TaskProgress(
    BLOCK, "host-1", DONE.receipts[:1], Activity("conv", "unit", (0, 1), "scores", 3, 20, "images")
)
GIVEN_UP = TaskLost(Task("conv", KEYS[3:4]), WorkerLostError("conv unit 3: ended"), False)
EVENTS: tuple[Event, ...] = (
    Planned(4, 3, 3), WorkersReady(1), WorkersReady(2), RETRY, DONE, FAILED, GIVEN_UP,
)  # fmt: skip


def test_rate_and_time_left_count_from_the_first_worker() -> None:
    tally = Tally()
    assert tally.note(Planned(8, 0, 4, ("slow",)), 0.0) == ["note: slow"]
    assert tally.text(50.0) == "starting"
    tally.note(WorkersReady(1), 100.0)
    tally.note(WorkersReady(2), 105.0)
    assert tally.text(105.0) == "first units under way"
    tally.note(DONE, 110.0)
    assert tally.text(110.0) == "12.0 units/min, 30s left"
    tally.note(FAILED, 120.0)
    tally.note(RETRY, 120.0)
    assert tally.text(120.0) == "9.0 units/min, 33s left, 1 failed"
    tally.note(GIVEN_UP, 120.0)
    assert (tally.ended, tally.failed) == (4, 2)


def test_a_unit_counts_as_soon_as_it_is_stored() -> None:
    tally = Tally()
    tally.note(Planned(8, 0, 4), 0.0)
    tally.note(TaskStarted(BLOCK), 100.0)
    assert tally.text(105.0) == "first units under way"
    tally.note(AT, 105.0)
    assert (tally.ended, tally.text(110.0)) == (1, "6.0 units/min, 1m10s left")
    assert [str(each) for each in tally.activities] == ["conv units 0-1: scores 3/20 images"]
    tally.note(DONE, 110.0)
    assert (tally.ended, tally.activities) == (2, ())


def test_what_a_lost_task_had_stored_counts_once_it_is_told_again() -> None:
    tally = Tally()
    tally.note(Planned(2, 0, 1), 0.0)
    for event in (TaskStarted(BLOCK), AT, RETRY, TaskStarted(BLOCK)):
        tally.note(event, 1.0)
    assert tally.ended == 0
    tally.note(DONE, 2.0)
    assert tally.ended == 2


def test_each_stage_counts_for_itself() -> None:
    tally = Tally()
    for event in (Planned(2, 0, 1), WorkersReady(1), FAILED, Planned(5, 1, 2, stage=FEATURES)):
        tally.note(event, 1.0)
    assert (tally.total, tally.ended, tally.failed, tally.text(9.0)) == (5, 0, 0, "starting")


def test_lines_are_dated_and_say_all_that_went_wrong() -> None:
    stream = io.StringIO()
    with open_view(stream) as view:
        assert isinstance(view, Lines)
        for event in EVENTS:
            view.show(event)
    lines = stream.getvalue().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in lines)
    text = [line[21:] for line in lines]
    assert text[:4] == [
        "4 units to build in 3 tasks; 3 are there already",
        "1 worker ready",
        "2 workers ready",
        "trying again: conv units 0, 1: its process ended",
    ]
    assert text[4].startswith("2/4 units, ")
    assert text[5] == "failed: conv unit 2: NaN in [the] scores"
    assert text[6] == "given up: conv unit 3: ended"
    assert re.fullmatch(r"4/4 units, [\d.]+ units/s, 0s left, 2 failed", text[7])


def test_lines_say_that_another_build_is_at_work_and_that_a_worker_did_not_start() -> None:
    stream = io.StringIO()
    with open_view(stream) as view:
        for event in (
            Planned(4, 0, 3),
            StartFailed(WorkerLostError("a worker could not start: ended")),
            BuildMet(Claim("node7-12-ab", "node7", 12, 0.0)),
            Waiting(3),
            Waiting(3),
            TaskStarted(BLOCK),
            Waiting(2),
        ):
            view.show(event)
    assert [line[21:] for line in stream.getvalue().splitlines()] == [
        "4 units to build in 3 tasks",
        "starting another: a worker could not start: ended",
        "note: another build of this atlas is at work (process 12 on node7, since 1970-01-01 "
        "00:00:00 UTC): what it is at is left to it, and both end with the whole",
        "waiting for another build, which is at the 3 units that are left",
        "waiting for another build, which is at the 2 units that are left",
    ]


def test_channels_of_convolutions_are_not_called_units() -> None:
    stream = io.StringIO()
    nodes = Task("edges", (UnitKey("toy", "edges", 5),), of="channel")
    failed = Receipt(nodes.units[0], "failed", 1, 0, 1.0, kind="unit", message="all but grey")
    with open_view(stream) as view:
        view.show(Planned(2, 1, 2, channels=1, stage=FEATURES))
        view.show(WorkersReady(1))
        view.show(DONE)
        view.show(TaskDone(nodes, (failed,)))
    text = [line[21:] for line in stream.getvalue().splitlines()]
    assert (
        text[0]
        == "2 units and 1 channel to get feature visualizations in 2 tasks; 1 have theirs already"
    )
    assert re.fullmatch(r"2/3 units and channels, [\d.]+/s, 0s left", text[2])
    assert text[3] == "failed: edges channel 5: all but grey"
    assert re.fullmatch(r"3/3 units and channels, [\d.]+/s, 0s left, 1 failed", text[4])


def test_where_channels_alone_are_left_they_are_named() -> None:
    tally = Tally()
    tally.note(Planned(0, 9, 1, channels=2, stage=FEATURES), 0.0)
    tally.note(WorkersReady(1), 0.0)
    assert tally.text(0.0) == "first channels under way"
    tally.note(DONE, 10.0)
    assert tally.text(10.0) == "12.0 channels/min, 0s left"
    stream = Terminal()
    with open_view(stream) as view:
        view.show(Planned(0, 9, 1, channels=2, stage=FEATURES))
        view.show(DONE)
    assert "channels" in stream.getvalue()


def test_a_long_run_writes_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, "cluster.progress", monotonic=count(0.0, 3).__next__)
    stream = io.StringIO()
    view = Lines(stream)
    view.show(Planned(1000, 0, 500))
    view.show(WorkersReady(1))
    for _ in range(100):
        view.show(DONE)
    assert 100 * 3 / 20 - 2 <= len(stream.getvalue().splitlines()) <= 100 * 3 / 20 + 4


def test_lines_say_what_workers_are_at_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, "cluster.progress", monotonic=count(0.0, 2).__next__)
    stream = io.StringIO()
    view = Lines(stream)
    view.show(Planned(8, 0, 4))
    view.show(TaskStarted(BLOCK))
    for _ in range(11):  # over 20 s
        view.show(replace(AT, receipts=()))
    text = [line[21:] for line in stream.getvalue().splitlines()]
    line = "0/8 units, first units under way; conv units 0-1: scores 3/20 images"
    assert text[1:] == [line, line]


def test_a_terminal_gets_a_bar_for_each_block_in_progress() -> None:
    stream = Terminal()
    with open_view(stream) as view:
        for event in (Planned(8, 0, 4), WorkersReady(1), TaskStarted(BLOCK), AT):
            view.show(event)
    text = stream.getvalue()
    assert "conv units 0-1" in text
    assert "scores 3/20 images" in text


def test_a_terminal_gets_a_bar_with_counts_and_the_failures() -> None:
    stream = Terminal()
    with open_view(stream) as view:
        assert isinstance(view, Bars)
        for event in EVENTS:
            view.show(event)
    text = stream.getvalue()
    assert "4/4" in text
    assert "units/s" in text
    assert "2 failed" in text
    assert "NaN in [the] scores" in text, "brackets are no markup here"


def test_lines_on_a_terminal_where_asked_for() -> None:
    assert isinstance(open_view(Terminal(), plain=True), Lines)


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_store_that_is_out_is_a_line_of_its_own(stream: io.StringIO) -> None:
    outage = Outage("s3://bucket/atlas", "503 Service Unavailable", 1000.0, 600.0)
    with open_view(stream) as view:
        for event in (Planned(4, 0, 2), outage, replace(outage, ended_s=1042.4)):
            view.show(event)
    text = " ".join(stream.getvalue().split())
    assert "waiting for s3://bucket/atlas since" in text
    assert "(503 Service Unavailable), for 600 s at most" in text
    assert text.count("s3://bucket/atlas answers again after 42 s") == 1
