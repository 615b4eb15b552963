"""One suite over every executor: what becomes of tasks that end well, fail, or are lost, and that
a whole build gives the same atlas on each. One Ray serves them all."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from circuit_atlas.cluster.executor import (
    Event,
    Executor,
    Planned,
    Stage,
    TaskDone,
    TaskLost,
    TaskProgress,
    TaskStarted,
    Waiting,
    WorkersReady,
)
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.retries import Policy
from circuit_atlas.cluster.run import build, executor_for
from circuit_atlas.cluster.visualizations import build_visualizations
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.storage_schema.errors import (
    DeadlineError,
    InfrastructureError,
    ModelError,
    WorkerLostError,
    WriteError,
)
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify
from tests.patience import until


def _load_toy() -> ModuleType:
    """Under importlib mode a test module is no package's: load its neighbour by path."""
    spec = importlib.util.spec_from_file_location("toy", Path(__file__).with_name("toy.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy"] = module
    spec.loader.exec_module(module)
    return module


toy = _load_toy()


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "local":
        yield LocalExecutor()
    else:
        yield request.getfixturevalue("ray_executor")


@pytest.fixture
def ray_executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    request.getfixturevalue("own_ray")
    from ray import cloudpickle

    from circuit_atlas.cluster.ray_executor import RayExecutor

    cloudpickle.register_pickle_by_value(toy)
    with RayExecutor(workers=2) as executor:
        yield executor
    cloudpickle.unregister_pickle_by_value(toy)


def run(executor: Executor, tasks: object, job: object, **policy: float) -> list[Event]:
    return list(executor.run(tasks, job, policy=Policy(**policy)))


def done(events: list[Event]) -> Counter[int]:
    return Counter(
        receipt.key.unit
        for event in events
        if isinstance(event, TaskDone)
        for receipt in event.receipts
    )


def lost(events: list[Event]) -> list[TaskLost]:
    return [event for event in events if isinstance(event, TaskLost)]


def test_every_unit_comes_back_once(executor: Executor, tmp_path: Path) -> None:
    job = toy.ToyJob(tmp_path)
    events = run(executor, toy.tasks((0, 1, 2), (3,), (4, 5)), job)
    assert done(events) == Counter(range(6))
    assert not lost(events)
    # Tasks are cut where more workers wait than tasks.
    assert 3 <= sum(isinstance(event, TaskStarted) for event in events) <= 5
    assert 1 <= job.starts() <= executor.workers
    assert isinstance(events[0], WorkersReady)


def test_what_a_worker_is_at_is_told_while_it_is(executor: Executor, tmp_path: Path) -> None:
    job = toy.ToyJob(tmp_path, {1: "told"})
    told: list[TaskProgress] = []
    # A task that waits alone would be cut where two workers are ready.
    task, other = toy.tasks((0, 1), (2,))
    events = list(executor.run((task, other), job, policy=Policy(), on_progress=told.append))
    last = [each for each in told if each.task == task][-1]
    assert [receipt.key.unit for receipt in last.receipts] == [0]
    assert last.activity is not None
    assert str(last.activity).startswith("conv units 0-1: scores ")
    of_task = [e for e in events if isinstance(e, TaskStarted | TaskDone) and e.task == task]
    assert [event.worker for event in of_task] == [last.worker] * 2


def test_units_of_another_build_are_waited_for(executor: Executor, tmp_path: Path) -> None:
    job = toy.ToyJob(tmp_path)
    held, events = {0, 3}, []

    def claim(task: toy.Task) -> list[object]:
        return [key for key in task.units if key.unit not in held]

    tasks = toy.tasks((0, 1), (2,), (3,))
    for event in executor.run(tasks, job, policy=Policy(), claim=claim):
        events.append(event)
        if isinstance(event, Waiting) and done(events) == Counter([1, 2]):
            assert event.units == len(held)
            held.clear()
    assert done(events) == Counter(range(4))
    assert sum(isinstance(event, Waiting) for event in events) >= 1


def test_nothing_to_do_starts_no_worker(executor: Executor, tmp_path: Path) -> None:
    job = toy.ToyJob(tmp_path)
    assert run(executor, (), job) == []
    assert job.starts() == 0


def test_a_unit_of_its_own_failing_is_not_tried_again(executor: Executor, tmp_path: Path) -> None:
    job = toy.ToyJob(tmp_path, {1: "fail"})
    events = run(executor, toy.tasks((0, 1, 2)), job)
    states = {r.key.unit: r.state for e in events if isinstance(e, TaskDone) for r in e.receipts}
    assert states == {0: "done", 1: "failed", 2: "done"}
    assert job.tries(1) == 1


def test_a_lost_block_is_tried_again_unit_by_unit(executor: Executor, tmp_path: Path) -> None:
    job = toy.ToyJob(tmp_path, {1: "lost once"})
    events = run(executor, toy.tasks((0, 1, 2)), job)
    assert done(events) == Counter(range(3))
    assert [(len(event.task.units), event.will_retry) for event in lost(events)] == [(3, True)]
    assert sum(isinstance(event, TaskStarted) for event in events) == 4


@pytest.mark.parametrize("retries", [0, 2])
def test_one_bad_unit_takes_nobody_along(executor: Executor, tmp_path: Path, retries: int) -> None:
    job = toy.ToyJob(tmp_path, {1: "lost", 4: "bug"})
    events = run(executor, toy.tasks((0, 1, 2), (3, 4)), job, retries=retries)
    assert done(events) == Counter([0, 2, 3])
    given_up = [event for event in lost(events) if not event.will_retry]
    assert sorted(event.task.units[0].unit for event in given_up) == [1, 4]
    assert job.tries(1) == job.tries(4) == retries + 2
    message = next(str(e.error) for e in given_up if e.task.units[0].unit == 4)
    assert message == "conv unit 4 stopped its worker: ValueError: unit 4 is odd"
    notes = next(e.error.__notes__ for e in given_up if e.task.units[0].unit == 4)
    assert "in unit" in notes[0], "the traceback goes along for whoever looks for the cause"


def test_an_error_that_all_workers_meet_ends_the_run(executor: Executor, tmp_path: Path) -> None:
    job = toy.ToyJob(tmp_path, {0: "full"})
    with pytest.raises(WriteError, match=r"^no space left on the disk; free some and run again$"):
        run(executor, toy.tasks((0,), (1,), (2,)), job)


def test_a_model_that_does_not_load_ends_the_run(executor: Executor, tmp_path: Path) -> None:
    job = toy.ToyJob(tmp_path, start="model")
    with pytest.raises(ModelError, match=r"^the weights of 'toy' lack conv\.weight; give"):
        run(executor, toy.tasks((0,), (1,)), job)
    assert job.tries(0) == 0


def test_a_start_that_nobody_foresaw_is_one_line(executor: Executor, tmp_path: Path) -> None:
    job = toy.ToyJob(tmp_path, start="bug")
    with pytest.raises(InfrastructureError) as caught:
        run(executor, toy.tasks((0,), (1,)), job)
    assert str(caught.value) == "a worker could not start: RuntimeError: no such device"


def test_closing_the_events_stops_the_run(executor: Executor, tmp_path: Path) -> None:
    job = toy.ToyJob(tmp_path, dict.fromkeys(range(20), "slow"))
    events = executor.run(toy.tasks(*((unit,) for unit in range(20))), job, policy=Policy())
    with contextlib.closing(events):
        next(event for event in events if isinstance(event, TaskDone))
    tried = sum(job.tries(unit) for unit in range(20))
    assert tried < 10
    # A run after it finds room for its workers: those of the first are gone.
    assert done(run(executor, toy.tasks((30,)), job)) == Counter([30])
    assert sum(job.tries(unit) for unit in range(20)) == tried


@pytest.mark.ray
def test_a_dead_worker_is_replaced(ray_executor: Executor, tmp_path: Path) -> None:
    job = toy.ToyJob(tmp_path, {3: "die once", 7: "die"})
    events = run(ray_executor, toy.tasks((0, 1), (2, 3), (4, 5), (6, 7)), job, retries=1)
    assert done(events) == Counter([0, 1, 2, 3, 4, 5, 6])
    final = [event for event in lost(events) if not event.will_retry]
    assert [event.task.units[0].unit for event in final] == [7]
    assert isinstance(final[0].error, WorkerLostError)
    assert "\n" not in str(final[0].error)
    assert job.tries(7) == 3
    assert job.starts() >= 4, "a death each of units 3 and 7 in a block, and two of 7 alone"


@pytest.mark.ray
def test_a_task_past_its_deadline_is_ended(ray_executor: Executor, tmp_path: Path) -> None:
    job = toy.ToyJob(tmp_path, {1: "hang", 2: "hang once"})
    events = run(ray_executor, toy.tasks((0,), (1,), (2,), (3,)), job, retries=1, deadline_s=2.0)
    assert done(events) == Counter([0, 2, 3])
    assert all(isinstance(event.error, DeadlineError) for event in lost(events))
    assert str(lost(events)[0].error).startswith("conv unit 1 ran past the deadline of 2 s; raise")
    assert [event.will_retry for event in lost(events) if event.task.units[0].unit == 1] == [
        True,
        False,
    ]


@pytest.mark.ray
def test_workers_that_die_at_their_start_end_the_run(
    ray_executor: Executor, tmp_path: Path
) -> None:
    job = toy.ToyJob(tmp_path, start="die")
    with pytest.raises(WorkerLostError, match=r"^a worker could not start: its process ended"):
        run(ray_executor, toy.tasks((0,), (1,)), job, failed_starts=2)
    assert 2 <= job.starts() <= 3


@pytest.mark.ray
def test_workers_that_never_start_end_the_run(ray_executor: Executor, tmp_path: Path) -> None:
    job = toy.ToyJob(tmp_path, start="hang")
    with pytest.raises(WorkerLostError, match=r"^no worker started within 3 s; the cluster has"):
        run(ray_executor, toy.tasks((0,)), job, start_s=3.0)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_executor")
def test_threads_and_arenas_are_set_before_the_worker_loads(tmp_path: Path) -> None:
    from circuit_atlas.cluster.ray_executor import RayExecutor

    with RayExecutor(threads=2) as executor:
        assert executor.workers == 1, "two CPUs, two threads each"
        events = run(executor, toy.tasks((0, 1)), toy.ToyJob(tmp_path, {0: "threads", 1: "arenas"}))
    assert [r.size_bytes for e in events if isinstance(e, TaskDone) for r in e.receipts] == [2, 1]


@pytest.mark.ray
@pytest.mark.parametrize(("workers", "sharing"), [(0, 2), (1, 1), (5, 2)])
def test_a_worker_knows_how_many_may_share_its_machine(
    ray_executor: Executor, tmp_path: Path, workers: int, sharing: int
) -> None:
    from circuit_atlas.cluster.ray_executor import RayExecutor

    del ray_executor
    with RayExecutor(workers=workers) as executor:
        events = run(executor, toy.tasks((0,)), toy.ToyJob(tmp_path, {0: "sharing"}))
    receipts = [r for e in events if isinstance(e, TaskDone) for r in e.receipts]
    assert [receipt.size_bytes for receipt in receipts] == [sharing]


@pytest.mark.ray
@pytest.mark.usefixtures("own_ray")
def test_tasks_are_cut_for_the_workers_that_may_come() -> None:
    from circuit_atlas.cluster.ray_executor import RayExecutor

    def planned(address: str, **numbers: int) -> int:
        with RayExecutor(address, **numbers) as executor:
            return executor.workers

    assert planned("local") == 2
    assert planned("local", max_workers=1) == 1
    assert planned("local", max_workers=9) == 2, "no machine comes to one that stands alone"
    assert planned("auto", workers=5) == 5
    assert planned("auto", max_workers=9) == 9
    assert planned("auto") == 16, "two now, and nobody knows how many later"


@pytest.mark.ray
def test_rays_endpoint_tells_what_a_run_does(ray_executor: Executor, tmp_path: Path) -> None:
    import ray

    # A stage of its own: counters are those of this process, whichever test counted.
    stage = Stage("toys", "unit", "to build", "are there")
    job = toy.ToyJob(tmp_path, {1: "fail", 3: "lost once", 4: "lost"})
    ray_executor.observe(Planned(6, 0, 4, stage=stage))
    tasks = toy.tasks((0, 1), (2,), (3,), (4,))
    for event in ray_executor.run(tasks, job, policy=Policy(retries=1)):
        ray_executor.observe(event)
    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    expected = {
        "units_done_total": 3,
        "units_failed_total": 2,
        "bytes_written_total": 3 * toy.UNIT_BYTES,
        "compute_seconds_total": 3 * toy.UNIT_S,
        "unit_seconds_count": 3,
        "units_waiting": 1,
    }
    found: dict[str, float] = {}

    def complete() -> bool:
        lines = httpx.get(address).text.splitlines()
        told = [line for line in lines if 'stage="toys"' in line]
        found.update(
            (line.partition("{")[0].removeprefix("ray_circuit_atlas_"), float(line.split()[-1]))
            for line in told
        )
        return expected.items() <= found.items()

    try:
        until(complete, "the metrics")
    finally:
        assert {name: found.get(name) for name in expected} == expected


LAYER = "features.3.squeeze"
CODE = "from circuit_atlas.jobs.demo import squeezenet1_1 as network"
SPEC = """
[model]
reference = "executed_network:network"
code = "../code"
[preprocessing]
resize = [64, 64]
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
[features]
steps = 8
node_steps = 4
node_fraction = 0.1
tries = 1
[run]
store = "atlas"
units_per_task = 2
"""


def made(folder: Path, executor: Executor | None = None) -> tuple[object, ...]:
    """The units' circuits and which visualizations there are, of a whole build in `folder`."""
    folder.mkdir()
    spec = BuildSpec.from_toml(SPEC, folder=folder)
    built = build(spec, executor=executor or executor_for(spec))
    assert (built.done, built.retried) == (3, 0)
    visualized = build_visualizations(spec, executor=executor or executor_for(spec))
    assert (visualized.failed, visualized.lost, visualized.retried) == (0, 0, 0)
    assert not verify(open_store(folder / "atlas"))
    reader = Reader(folder / "atlas")
    masks = {
        (unit, criterion, level): reader.mask(commit, criterion, level).tobytes()
        for unit, commit in reader.commits(LAYER).items()
        for criterion in reader.header.criteria
        for level in range(len(reader.header.fractions))
    }
    return masks, [reader.feature_variants(layer) for layer in (LAYER, "features.0")]


@pytest.mark.ray
@pytest.mark.usefixtures("own_ray")
def test_a_whole_build_on_ray_gives_the_same_atlas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "executed_network.py").write_text(CODE)
    assert made(tmp_path / "ray") == made(tmp_path / "local", LocalExecutor())
