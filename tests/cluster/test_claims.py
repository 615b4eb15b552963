"""Builds of one atlas at one time: what they claim, when that counts, and that both end whole."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from circuit_atlas.cluster import claims as module
from circuit_atlas.cluster.claims import Claims, Presence
from circuit_atlas.cluster.executor import (
    UNITS,
    BuildMet,
    Event,
    TaskDone,
    TaskLost,
    TaskStarted,
    Waiting,
)
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.run import Summary, build
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks import worker
from circuit_atlas.jobs.tasks.plan import Task
from circuit_atlas.storage_schema import claim, heartbeat, layout
from circuit_atlas.storage_schema.errors import InfrastructureError, WriteError
from circuit_atlas.storage_schema.heartbeat import EVERY_S, STALE_S, Heartbeat
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify
from tests.jobs.builds import write_noise

MODEL = """
import torch

def tiny():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 24, 3), torch.nn.ReLU()
    )
    # Not the seed that all threads of a process share.
    own = torch.Generator().manual_seed(0)
    for weights in network.parameters():
        torch.nn.init.uniform_(weights, -.3, .3, generator=own)
    return network
"""


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Objects:
    return open_store(tmp_path)


class Build:
    """A build that claims, and whose mark is written by hand."""

    def __init__(self, store: Objects, clock: Clock) -> None:
        self.presence = Presence(store, clock=clock)
        self.presence.mark()
        self.claims = Claims(self.presence, "units")

    @property
    def mark(self) -> str:
        return self.presence._path

    def claim(self, *units: int) -> list[int]:
        claimed = [key.unit for key in self.claims.claim(task(*units))]
        settle(self.presence)
        return claimed

    def note(self, event: Event) -> None:
        self.claims.note(event)
        settle(self.presence)


def task(*units: int) -> Task:
    return Task("conv", tuple(UnitKey("m", "conv", unit) for unit in units))


def settle(presence: Presence) -> None:
    """Waits until what is done about claims in threads beside is done."""
    for lane in presence._lanes:
        lane.submit(int).result()


def left(store: Objects) -> list[str]:
    """The names of what is there of runs."""
    return [entry.path.rsplit("/", 1)[1] for entry in store.list(layout.RUNS)]


def older(store: Objects, path: str, by_s: float) -> None:
    """Writes an object so much earlier; later where that is negative."""
    file = store.file(path)
    assert file is not None
    written_s = file.stat().st_mtime - by_s
    os.utime(file, (written_s, written_s))


def test_units_that_another_build_is_at_are_left_to_it(store: Objects, clock: Clock) -> None:
    one, other = Build(store, clock), Build(store, clock)
    assert one.claim(0, 1, 2, 3, 4) == [0, 1, 2, 3, 4]
    # A claim is on units whose numbers lie together: however a build cuts its tasks.
    assert other.claim(6, 7, 8, 9) == [8, 9]
    assert one.claim(5, 9) == [5]
    one.note(TaskDone(task(0, 1, 2, 3, 4), ()))
    clock.now_s += module._LOOK_S
    assert other.claim(0, 6) == [0], "another task of the first is at 5 still"
    one.note(TaskLost(task(5), InfrastructureError("lost"), True))
    clock.now_s += module._LOOK_S
    assert other.claim(6) == [6]


def test_a_build_is_met_once_by_each(store: Objects, clock: Clock) -> None:
    one, other = Build(store, clock), Build(store, clock)
    for build_, beside in ((one, other), (other, one)):
        build_.presence.look(within_s=0.0)
        (met,) = build_.presence.met()
        assert met == beside.presence._claim
        assert f"process {os.getpid()} on {met.host}, since 20" in str(met)
        assert build_.presence.met() == []


def test_a_claim_of_a_killed_build_counts_no_longer_than_its_mark(
    store: Objects, clock: Clock
) -> None:
    killed, other = Build(store, clock), Build(store, clock)
    assert killed.claim(0) == [0]
    older(store, killed.mark, STALE_S - 1.0)
    assert other.claim(0) == []
    clock.now_s += 2.0
    assert other.claim(0) == [0]
    # Whoever comes later sees that at once.
    third = Build(store, clock)
    assert third.claim(0) == []
    older(store, other.mark, STALE_S + 1.0)
    assert Build(store, clock).claim(0) == [0]


def test_a_build_of_this_machine_that_was_killed_is_not_waited_for(
    store: Objects, clock: Clock
) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    killed, far = Build(store, clock), Build(store, clock)
    for build_, changes in ((killed, {}), (far, {"host": "elsewhere"})):
        presence = build_.presence
        presence._claim = replace(presence._claim, pid=ended.pid, **changes)
        presence._document = presence._claim.to_json().encode()
        presence.mark()
    assert killed.claim(0) == [0]
    assert far.claim(4) == [4]
    other = Build(store, clock)
    assert other.claim(0, 4) == [0], "of another machine nobody can tell"
    assert [met.host for met in other.presence.met()] == ["elsewhere"]


def test_a_build_that_goes_on_marking_keeps_its_claims(store: Objects, clock: Clock) -> None:
    one, other = Build(store, clock), Build(store, clock)
    assert one.claim(0) == [0]
    for _ in range(10):
        assert other.claim(0) == []
        clock.now_s += EVERY_S
        one.presence.mark()


@pytest.mark.parametrize("ahead_s", [86_400.0, -86_400.0])
def test_clocks_that_differ_break_nothing(store: Objects, clock: Clock, ahead_s: float) -> None:
    """Where not even the store has one clock: the other's writes are a day off."""
    killed, other = Build(store, clock), Build(store, clock)
    assert killed.claim(0) == [0]
    older(store, killed.mark, -ahead_s)
    first = other.claim(0)
    assert first == ([] if ahead_s > 0 else [0]), "of the past: another may compute it too"
    clock.now_s += STALE_S
    assert other.claim(0, 1) == [0, 1], "of the future: it holds up nobody longer than that"
    # A mark that is replaced is of a build that runs, whatever time it has.
    alive = Build(store, clock)
    other.presence.look(within_s=0.0)
    alive.presence.mark()
    older(store, alive.mark, -ahead_s)
    other.presence.look(within_s=0.0)
    assert alive.claim(8) == [8]
    assert other.claim(8) == []


def test_a_claim_of_a_build_without_a_mark_does_not_count(store: Objects, clock: Clock) -> None:
    one, other = Build(store, clock), Build(store, clock)
    assert one.claim(0) == [0]
    store.delete([one.mark])
    assert other.claim(0) == [0]
    (path,) = claim.paths("units", "unit", task(9).units)
    store.put(path, b"{")
    assert other.claim(9) == [9], "nor one that cannot be read"


def test_a_claim_whose_answer_was_lost_is_ones_own(store: Objects, clock: Clock) -> None:
    one = Build(store, clock)
    assert one.claim(0) == [0]
    again = Claims(one.presence, "units")
    assert again.claim(task(0)) == task(0).units


def test_a_store_that_refuses_claims_ends_nothing(
    store: Objects, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise WriteError("the store is read-only")

    for name in ("put", "create", "delete", "list", "get"):
        monkeypatch.setattr(Objects, name, refuse)
    with Presence(store, clock=clock) as presence, Claims(presence, "units") as claims:
        presence.look(within_s=0.0)
        assert presence.met() == []
        assert claims.claim(task(0, 5)) == task(0, 5).units
        claims.note(TaskDone(task(0, 5), ()))


def test_nothing_is_left_of_a_run_nor_of_one_that_was_killed(store: Objects, clock: Clock) -> None:
    killed = Build(store, clock)
    assert killed.claim(0, 4) == [0, 4]
    beat = Heartbeat("worker", "units", 0.0, 0.0, 0.0, 1, 0, 0, None)
    with Presence(store, clock=clock) as presence, Claims(presence, "units") as claims:
        claims.claim(task(8))
        claims.note(TaskStarted(task(8), "worker"))
        heartbeat.write(store, beat)
        settle(presence)
        assert len(left(store)) == 6
    assert sorted(left(store)) == sorted(
        [killed.mark.rsplit("/", 1)[1], "unit-0.json", "unit-1.json"]
    )
    older(store, killed.mark, STALE_S + 1.0)
    with Presence(store, clock=clock):
        pass
    assert left(store) == []


def test_alone_a_build_waits_for_no_claim(store: Objects, clock: Clock) -> None:
    one = Build(store, clock)
    asked: list[str] = []
    hold, create = threading.Event(), one.presence.objects.create

    def slow(path: str, data: bytes) -> bool:
        hold.wait()
        asked.append(path)
        return create(path, data)

    one.presence.objects.create = slow  # type: ignore[method-assign, assignment]
    many = module._MOST_WAITING + 100
    for unit in range(0, 4 * many, 4):
        assert one.claims.claim(task(unit)) == task(unit).units
    hold.set()
    settle(one.presence)
    # Those under way when nobody answered were no longer among those that wait.
    assert module._MOST_WAITING <= len(asked) <= module._MOST_WAITING + module._LANES
    assert len(left(store)) == len(asked) + 1
    with one.presence:
        pass
    assert left(store) == []


def spec(folder: Path, units: Sequence[int] = tuple(range(24)), **run: int) -> BuildSpec:
    return BuildSpec.from_values(
        {
            "model": {"reference": "claims_model:tiny"},
            "preprocessing": {"resize": [8, 8]},
            "images": {"source": str(folder / "photos"), "held_out": "odd"},
            "layers": [{"name": "2", "units": list(units)}],
            "circuits": {"fractions": [0.5, 0.1], "top_images": 2},
            "run": {"store": str(folder / "atlas"), "self_check": False, **run},
        }
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "claims_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    write_noise(tmp_path / "photos", count=6, side=8)
    return tmp_path


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The units that workers computed, not those that they found committed."""
    numbers: list[int] = []
    whole = worker.open_block

    def noted(*arguments: object, **named: object) -> object:
        numbers.extend(arguments[3])  # type: ignore[call-overload]
        return whole(*arguments, **named)

    monkeypatch.setattr(worker, "open_block", noted)
    return numbers


def masks(location: Path) -> dict[tuple[int, str, int], bytes]:
    reader = Reader(location)
    return {
        (unit, criterion, level): reader.mask(commit, criterion, level).tobytes()
        for unit, commit in reader.commits("2").items()
        for criterion in reader.header.criteria
        for level in range(len(reader.header.fractions))
    }


def test_two_builds_at_once_share_the_work_and_both_end_whole(
    folder: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    together, enter = threading.Barrier(2, timeout=60), Claims.__enter__

    def at_once(claims: Claims) -> Claims:
        if claims._stage == UNITS.name:
            together.wait()
        return enter(claims)

    monkeypatch.setattr(Claims, "__enter__", at_once)

    def run(units_per_task: int) -> tuple[Summary, list[Event]]:
        events: list[Event] = []
        cut = spec(folder, units_per_task=units_per_task)
        return build(cut, executor=LocalExecutor(), on_event=events.append), events

    # They cut their work otherwise.
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(run, (2, 3)))
    for summary, events in runs:
        assert (summary.done, summary.failed) == (24, 0)
        (met,) = [event.build for event in events if isinstance(event, BuildMet)]
        assert met.pid == os.getpid()
    assert Counter(computed) == Counter(range(24)), "each unit is computed once"
    assert left(open_store(folder / "atlas")) == []
    assert verify(open_store(folder / "atlas")) == ()
    both = masks(folder / "atlas")
    monkeypatch.undo()
    monkeypatch.syspath_prepend(folder)
    for path in (folder / "atlas").iterdir():
        path.rename(folder / f"first-{path.name}")
    build(spec(folder), executor=LocalExecutor())
    assert both == masks(folder / "atlas")


def test_a_build_waits_for_another_and_takes_over_what_that_leaves(
    folder: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build(spec(folder, [0]), executor=LocalExecutor()).done == 1
    monkeypatch.setattr(module, "_LOOK_S", 0.0)
    computed.clear()
    store = open_store(folder / "atlas")
    other = Presence(store)
    other.mark()
    keys = [UnitKey("claims_model:tiny", "2", unit) for unit in range(4, 8)]
    (path,) = claim.paths("units", "unit", keys)
    assert other.claim([path])
    settle(other)
    events: list[Event] = []

    def watch(event: Event) -> None:
        events.append(event)
        if sum(isinstance(each, Waiting) for each in events) == 2:
            older(store, other._path, STALE_S)  # it was killed

    summary = build(spec(folder, range(12)), executor=LocalExecutor(), on_event=watch)
    assert summary.done == 11
    assert computed[-4:] == [4, 5, 6, 7], "what is another's is done last"
    assert Counter(computed) == Counter(range(1, 12))
    assert {event.units for event in events if isinstance(event, Waiting)} == {4}
    assert left(store) == []


def test_neither_verify_nor_status_minds_what_a_run_leaves(folder: Path) -> None:
    build(spec(folder, [0]), executor=LocalExecutor())
    store = open_store(folder / "atlas")
    other = Build(store, Clock())
    other.claim(0, 4)
    assert verify(store) == ()
    assert heartbeat.read(store) == ()
