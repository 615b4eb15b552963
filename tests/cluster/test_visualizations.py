"""Visualizations of a real atlas: resumed, and honest about losses."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pytest

from circuit_atlas.cluster.executor import (
    FEATURES,
    Event,
    Planned,
    TaskDone,
    TaskLost,
    TaskProgress,
    TaskStarted,
    unwatched,
)
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.retries import Policy, unclaimed
from circuit_atlas.cluster.run import build
from circuit_atlas.cluster.visualizations import build_visualizations
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.plan import Task
from circuit_atlas.jobs.visualization.worker import VisualizationJob
from circuit_atlas.service import Atlas
from circuit_atlas.storage_schema.errors import DeadlineError, MismatchError, NotAnAtlasError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify

LAYER = "features.3.squeeze"
SPEC = """
[model]
reference = "demo:squeezenet1_1"
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
fractions = [1, 0.3, 0.1]
top_images = 2
[features]
steps = 8
node_steps = 4
node_fraction = 0.1
tries = 1
[run]
store = "atlas"
"""


def spec(folder: Path, text: str = SPEC) -> BuildSpec:
    return BuildSpec.from_toml(text, folder=folder)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas without pictures."""
    folder = tmp_path_factory.mktemp("built")
    assert build(spec(folder), executor=LocalExecutor()).done == 3
    return folder


@pytest.fixture(scope="module")
def local(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with pictures made in this process."""
    folder = tmp_path_factory.mktemp("local")
    shutil.copytree(built, folder, dirs_exist_ok=True)
    summary = build_visualizations(spec(folder), executor=LocalExecutor())
    assert summary.done > 3
    assert (summary.failed, summary.lost, summary.skipped) == (0, 0, 0)
    assert summary.size_bytes > 10_000
    assert 0 < summary.compute_s < summary.wall_s
    return folder


def pictures(folder: Path) -> dict[tuple[str, int, str], bytes]:
    reader = Reader(folder / "atlas")
    return {
        (layer, unit, record.variant): reader.visualization_image(record)
        for layer in (LAYER, "features.0")
        for unit in reader.feature_variants(layer)
        for record in reader.feature_visualizations(layer, unit)
    }


def test_units_and_the_channels_of_their_circuits_have_pictures(local: Path) -> None:
    found = pictures(local)
    variants = ["negative", "negative.actgrad.0.3", "positive", "positive.actgrad.0.3"]
    assert Reader(local / "atlas").feature_variants(LAYER) == dict.fromkeys(
        (0, 1, 2), tuple(variants)
    )
    nodes = {unit for layer, unit, _ in found if layer == "features.0"}
    assert nodes
    assert len(found) == 3 * len(variants) + len(nodes)
    assert verify(open_store(local / "atlas")) == ()


def test_a_second_run_has_nothing_to_do_and_changes_nothing(local: Path) -> None:
    before = {path: path.read_bytes() for path in local.rglob("*") if path.is_file()}
    events: list[Event] = []
    # Settings of pictures are no part of what an atlas is, and make no picture anew.
    other = spec(local, SPEC.replace("steps = 8", "steps = 9"))
    summary = build_visualizations(other, executor=LocalExecutor(), on_event=events.append)
    assert summary.done == 0
    assert summary.skipped > 3
    assert events == [Planned(count=0, skipped=summary.skipped, tasks=0, stage=FEATURES)]
    assert before == {path: path.read_bytes() for path in local.rglob("*") if path.is_file()}


def test_what_is_missing_is_made_and_no_more(local: Path, tmp_path: Path) -> None:
    shutil.copytree(local, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "atlas" / "features" / LAYER / "1").glob("negative*"):
        path.unlink()
    events: list[Event] = []
    summary = build_visualizations(spec(tmp_path), executor=LocalExecutor(), on_event=events.append)
    assert summary.done == 1
    started = [event.task for event in events if isinstance(event, TaskStarted)]
    assert [key.unit for task in started for key in task.units] == [1]
    assert pictures(tmp_path).keys() == pictures(local).keys()


class Late(LocalExecutor):
    """Runs tasks here, but for one unit, which runs past its deadline and all retries."""

    def __init__(self, unit: int) -> None:
        self._unit = unit

    def run(
        self,
        tasks: Sequence[Task],
        job: VisualizationJob,
        *,
        policy: Policy,
        claim: Callable[[Task], Sequence[UnitKey]] = unclaimed,
        on_progress: Callable[[TaskProgress], None] = unwatched,
    ) -> Generator[Event, None, None]:
        del policy, claim, on_progress
        worker = job.open()
        for task in tasks:
            lost = tuple(k for k in task.units if k.unit == self._unit and k.layer == LAYER)
            kept = Task(task.layer, tuple(key for key in task.units if key not in lost))
            yield TaskDone(kept, worker.run(kept))
            if lost:
                yield TaskLost(Task(task.layer, lost), DeadlineError("late"), False)


def test_a_unit_given_up_is_recorded_and_the_next_run_makes_its_pictures(
    built: Path, tmp_path: Path
) -> None:
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    summary = build_visualizations(spec(tmp_path), executor=Late(1))
    assert (summary.failed, summary.lost) == (0, 1)
    assert [(r.key.unit, r.kind, r.message) for r in summary.failures] == [(1, "deadline", "late")]
    assert Reader(tmp_path / "atlas").feature_visualizations(LAYER, 1) == ()
    assert counts(tmp_path)[LAYER, "unit"] == (3, 2, 1, 0)
    failed = Atlas.open(tmp_path / "atlas").visualization_failures().to_pylist()
    assert failed == [
        {
            "layer": LAYER,
            "of": "unit",
            "unit": 1,
            "name": "1",
            "kind": "deadline",
            "message": "late",
        }
    ]
    assert verify(open_store(tmp_path / "atlas")) == ()
    again = build_visualizations(spec(tmp_path), executor=LocalExecutor())
    assert (again.done, again.lost) == (1, 0)
    assert counts(tmp_path)[LAYER, "unit"] == (3, 3, 0, 0)
    assert Atlas.open(tmp_path / "atlas").visualization_failures().num_rows == 0
    assert len(Reader(tmp_path / "atlas").feature_visualizations(LAYER, 1)) == 4


def counts(folder: Path) -> dict[tuple[str, str], tuple[int, ...]]:
    """Of layer or convolution: planned, done, failed, missing, as `circuit-atlas status` has it."""
    return {
        (row["layer"], row["of"]): (row["planned"], row["done"], row["failed"], row["missing"])
        for row in Atlas.open(folder / "atlas").visualization_status().to_pylist()
    }


def test_a_run_that_is_stopped_tells_what_is_missing_and_goes_on(
    built: Path, local: Path, tmp_path: Path
) -> None:
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    assert counts(tmp_path) == {}
    whole = counts(local)
    nodes = whole["features.0", "channel"][0]
    assert whole == {(LAYER, "unit"): (3, 3, 0, 0), ("features.0", "channel"): (nodes, nodes, 0, 0)}

    def stop(event: Event) -> None:
        if isinstance(event, TaskDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_visualizations(spec(tmp_path), executor=LocalExecutor(), on_event=stop)
    made = pictures(tmp_path)
    assert made
    assert counts(tmp_path) == {
        (LAYER, "unit"): (3, 1, 0, 2),
        ("features.0", "channel"): (nodes, 0, 0, nodes),
    }
    summary = build_visualizations(spec(tmp_path), executor=LocalExecutor())
    assert (summary.skipped, summary.done, summary.channels) == (1, 2 + nodes, nodes)
    assert counts(tmp_path) == whole
    after = pictures(tmp_path)
    assert {key: after[key] for key in made} == made, "what was there is kept"
    assert after.keys() == pictures(local).keys()


def test_before_the_first_picture_all_is_missing(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)

    def stop(event: Event) -> None:
        assert isinstance(event, Planned)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_visualizations(spec(tmp_path), executor=LocalExecutor(), on_event=stop)
    found = counts(tmp_path)
    assert found[LAYER, "unit"] == (3, 0, 0, 3)
    planned, *_, missing = found["features.0", "channel"]
    assert planned == missing > 0


def test_another_atlas_or_none_is_refused(built: Path, tmp_path: Path) -> None:
    other = spec(built, SPEC.replace("[1, 0.3, 0.1]", "[1, 0.3]"))
    with pytest.raises(MismatchError, match="fractions"):
        build_visualizations(other, executor=LocalExecutor())
    with pytest.raises(NotAnAtlasError, match="does not exist"):
        build_visualizations(spec(tmp_path), executor=LocalExecutor())


def test_units_that_are_not_built_are_told_of(built: Path) -> None:
    events: list[Event] = []

    def stop(event: Event) -> None:
        events.append(event)
        raise KeyboardInterrupt

    more = spec(built, SPEC.replace("units = [0, 1, 2]", "units = [0, 1, 2, 5]"))
    with pytest.raises(KeyboardInterrupt):
        build_visualizations(more, executor=LocalExecutor(), on_event=stop)
    assert events[0].remarks == (
        "1 units of the spec are not built yet: they get no visualizations",
    )
