"""A whole build of a real network: resumed, sealed, and honest about losses."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np
import pytest

from circuit_atlas.cluster.executor import (
    Event,
    Executor,
    Planned,
    TaskDone,
    TaskLost,
    TaskProgress,
    TaskStarted,
    unwatched,
)
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.retries import Policy, unclaimed
from circuit_atlas.cluster.run import Summary, build
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.plan import Task
from circuit_atlas.jobs.tasks.worker import CircuitJob
from circuit_atlas.storage_schema import compaction, heartbeat, layer_paths, layout
from circuit_atlas.storage_schema.errors import DeadlineError, MismatchError, WriteError
from circuit_atlas.storage_schema.heartbeat import Heartbeat
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.sealed import Generation, generations
from circuit_atlas.storage_schema.verify import verify

LAYER = "features.3.squeeze"
SPEC = """
[model]
reference = "demo:squeezenet1_1"
[preprocessing]
resize = [64, 64]
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
[images]
source = "demo:photos"
held_out = "odd"
limit = 4
[[layers]]
name = "features.3.squeeze"
units = [0, 1, 2]
[circuits]
criteria = ["actgrad", "random"]
fractions = [1, 0.3, 0.1]
top_images = 2
[run]
store = "atlas"
units_per_task = 2
"""


class Unlucky(LocalExecutor):
    """Runs tasks here, but for a unit that is lost past all retries, after its commit or before."""

    def __init__(self, unit: int, *, committed: bool) -> None:
        self._unit = unit
        self._committed = committed

    def run(
        self,
        tasks: Sequence[Task],
        job: CircuitJob,
        *,
        policy: Policy,
        claim: Callable[[Task], Sequence[UnitKey]] = unclaimed,
        on_progress: Callable[[TaskProgress], None] = unwatched,
    ) -> Generator[Event, None, None]:
        del policy, claim, on_progress
        worker = job.open()
        for task in tasks:
            lost = tuple(key for key in task.units if key.unit == self._unit)
            kept = Task(task.layer, tuple(key for key in task.units if key not in lost))
            yield TaskDone(kept, worker.run(kept))
            if lost and self._committed:
                worker.run(Task(task.layer, lost))
            if lost:
                yield TaskLost(task, DeadlineError("late"), True)
                yield TaskLost(Task(task.layer, lost), DeadlineError("late"), False)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas that was built in this process."""
    folder = tmp_path_factory.mktemp("local")
    summary = build(spec(folder), executor=LocalExecutor())
    assert (summary.done, summary.failed, summary.lost, summary.skipped) == (3, 0, 0, 0)
    assert summary.size_bytes > 0
    assert 0 < summary.compute_s < summary.wall_s
    return folder / "atlas"


def spec(folder: Path, text: str = SPEC) -> BuildSpec:
    return BuildSpec.from_toml(text, folder=folder)


def test_what_killed_workers_left_goes_with_the_next_build(tmp_path: Path) -> None:
    one = spec(tmp_path, SPEC.replace("[0, 1, 2]", "[0]"))
    assert build(one, executor=LocalExecutor()).done == 1
    store = open_store(tmp_path / "atlas")
    for worker in ("killed", "alive"):
        heartbeat.write(store, Heartbeat(worker, "units", 0.0, 0.0, 0.0, 1, 0, 0, None))
    os.utime(tmp_path / "atlas" / layout.heartbeat("killed"), (0, 0))
    assert build(one, executor=LocalExecutor()).skipped == 1
    assert [beat.worker for beat in heartbeat.read(store)] == ["alive"]


def masks(location: Path) -> dict[tuple[int, str, int], bytes]:
    reader = Reader(location)
    return {
        (unit, criterion, level): np.packbits(reader.mask(commit, criterion, level)).tobytes()
        for unit, commit in reader.commits(LAYER).items()
        for criterion in reader.header.criteria
        for level in range(len(reader.header.fractions))
    }


def test_a_second_run_has_nothing_to_do_and_changes_nothing(local: Path) -> None:
    before = {path: path.read_bytes() for path in local.rglob("*") if path.is_file()}
    events: list[Event] = []
    summary = build(spec(local.parent), executor=LocalExecutor(), on_event=events.append)
    assert (summary.done, summary.skipped) == (0, 3)
    assert events == [Planned(count=0, skipped=3, tasks=0)]
    assert before == {path: path.read_bytes() for path in local.rglob("*") if path.is_file()}


@pytest.mark.parametrize("committed", [False, True])
def test_a_unit_given_up_is_recorded_and_the_next_run_builds_it(
    tmp_path: Path, committed: bool
) -> None:
    executor: Executor = Unlucky(1, committed=committed)
    summary = build(spec(tmp_path), executor=executor)
    assert summary.retried == 1
    reader = Reader(tmp_path / "atlas")
    assert [generation.whole for generation in _generations(tmp_path)] == [True] * committed
    if committed:
        assert (summary.done, summary.lost, summary.failures) == (3, 0, ())
        assert reader.failures(LAYER) == {}
        return
    assert (summary.done, summary.failed, summary.lost) == (2, 0, 1)
    assert [(r.key.unit, r.kind, r.message) for r in summary.failures] == [(1, "deadline", "late")]
    assert reader.failures(LAYER)[1].kind == "deadline"
    events: list[Event] = []
    again = build(spec(tmp_path), executor=LocalExecutor(), on_event=events.append)
    assert (again.done, again.skipped, again.lost) == (1, 2, 0)
    started = [event.task for event in events if isinstance(event, TaskStarted)]
    assert [key.unit for task in started for key in task.units] == [1]
    assert [generation.whole for generation in _generations(tmp_path)] == [True]
    assert not verify(open_store(tmp_path / "atlas"))


def _generations(folder: Path) -> tuple[Generation, ...]:
    return generations(open_store(folder / "atlas"), LAYER)


def test_a_layer_is_sealed_when_it_has_all_units_that_any_build_asked_for(tmp_path: Path) -> None:
    def run(units: str) -> list[str]:
        text = SPEC.replace("units = [0, 1, 2]", f"units = {units}")
        build(spec(tmp_path, text), executor=LocalExecutor())
        return [generation.name.partition("-")[0] for generation in _generations(tmp_path)]

    assert run("[0]") == ["1"]
    before = masks(tmp_path / "atlas")
    assert run("[0, 1, 2]") == ["1", "2"]
    assert run("[0]") == ["1", "2"]
    assert masks(tmp_path / "atlas").items() >= before.items()
    open_store(tmp_path / "atlas").delete([layer_paths.commit(LAYER, 2)])
    assert run("[0]") == ["1", "2"]


def test_a_finished_atlas_that_cannot_be_written_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(spec(tmp_path), executor=LocalExecutor())
    objects = open_store(tmp_path / "atlas")
    for generation in _generations(tmp_path):
        objects.delete([entry.path for entry in generation.files])

    def refuse(*_: object) -> bool:
        raise WriteError("cannot write it: it is read-only")

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "_put_new", refuse)
        assert build(spec(tmp_path), executor=LocalExecutor()).skipped == 3
        objects.delete([layer_paths.commit(LAYER, 2)])
        with pytest.raises(WriteError, match="read-only"):
            build(spec(tmp_path), executor=LocalExecutor())
    assert Reader(objects).commits(LAYER).keys() == {0, 1, 2}
    assert build(spec(tmp_path), executor=LocalExecutor()).skipped == 3
    assert len(_generations(tmp_path)) == 1
    assert Reader(tmp_path / "atlas").failures(LAYER) == {}


NETWORK = """
from torch import nn
def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
"""


def test_a_build_that_names_no_directions_keeps_the_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    text = SPEC.replace("demo:squeezenet1_1", "run_network:network").replace(LAYER, "2")
    text = text.replace("[64, 64]", "[8, 8]")

    def built(units: str) -> Summary:
        wanted = text.replace("units = [0, 1, 2]", f"units = {units}")
        return build(spec(tmp_path, wanted), executor=LocalExecutor())

    assert built("[0]\ndirections = {curve = [0.5, -1, 0, 0]}").done == 2
    first = Reader(tmp_path / "atlas").layer("2")
    more = built("[0, 1]")
    assert (more.done, more.skipped) == (1, 2)
    assert Reader(tmp_path / "atlas").layer("2") == first
    with pytest.raises(MismatchError, match=r"directions 'curve'; given: 'edge' .added 'edge'"):
        built("[2]\ndirections = {edge = [0.5, -1, 0, 0]}")


def test_another_spec_is_refused_before_any_worker_starts(local: Path) -> None:
    other = SPEC.replace("[1, 0.3, 0.1]", "[1, 0.3]")
    before = masks(local)
    with pytest.raises(MismatchError, match="fractions"):
        build(spec(local.parent, other), executor=Unlucky(0, committed=False))
    assert masks(local) == before
