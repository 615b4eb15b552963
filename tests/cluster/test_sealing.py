"""Layers are sealed as they are finished, while others run, and a run may stop after some units."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from circuit_atlas.cluster import sealing
from circuit_atlas.cluster.executor import Event, Planned, TaskDone, TaskStarted
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.run import Summary, build
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.errors import SpecError, WriteError
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.sealed import generations
from circuit_atlas.storage_schema.verify import verify
from tests.jobs.builds import write_noise
from tests.patience import until

MODEL = """
import torch
from torch import nn


def network():
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)]
    return nn.Sequential(*(part for each in convolutions for part in (each, nn.ReLU())))
"""
LAYERS = ("0", "2", "4")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sealed_network.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    write_noise(tmp_path / "pictures", count=4, side=12)
    return tmp_path


def spec(folder: Path, layers: object = "all") -> BuildSpec:
    return BuildSpec.from_values(
        {
            "model": {"reference": "sealed_network:network"},
            "preprocessing": {"resize": [12, 12]},
            "images": {"source": str(folder / "pictures")},
            "layers": layers,
            "circuits": {"fractions": [1, 0.3], "top_images": 2},
            "run": {"store": str(folder / "atlas"), "units_per_task": 4},
        }
    )


def sealed(folder: Path) -> list[str]:
    objects = open_store(folder / "atlas")
    return [name for name in LAYERS if any(one.whole for one in generations(objects, name))]


def run(folder: Path, layers: object = "all", **options: int) -> tuple[Summary, list[Event]]:
    events: list[Event] = []
    summary = build(
        spec(folder, layers), executor=LocalExecutor(), on_event=events.append, **options
    )
    return summary, events


def test_a_finished_layer_is_sealed_and_read_while_others_run(folder: Path) -> None:
    seen: list[list[str]] = []

    def watch(event: Event) -> None:
        if isinstance(event, TaskStarted):
            done = list(LAYERS[: LAYERS.index(event.task.layer)])
            until(lambda: sealed(folder) == done, f"{done} to be sealed")
            seen.append(done)
            reader = Reader(folder / "atlas")
            assert [len(reader.commits(name)) for name in done] == [4] * len(done)

    build(spec(folder), executor=LocalExecutor(), on_event=watch)
    assert seen == [[], ["0"], ["0", "2"]]
    assert sealed(folder) == list(LAYERS)
    assert not verify(open_store(folder / "atlas"))


def test_nobody_waits_for_a_layer_that_is_being_sealed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def slow(*arguments: object) -> object:
        assert ended.wait(60)
        return compact(*arguments)

    monkeypatch.setattr(sealing, "compact", slow)

    def watch(event: Event) -> None:
        if isinstance(event, TaskDone) and event.task.layer == LAYERS[-1]:
            assert sealed(folder) == []
            ended.set()

    build(spec(folder), executor=LocalExecutor(), on_event=watch)
    assert sealed(folder) == list(LAYERS)


def test_a_layer_that_cannot_be_sealed_ends_the_run_when_all_is_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise WriteError("the disk is full; free some and run again")

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "compact", refuse)
        with pytest.raises(WriteError, match="the disk is full"):
            run(folder)
    assert [len(Reader(folder / "atlas").commits(name)) for name in LAYERS] == [4] * 3
    summary, events = run(folder)
    assert (summary.skipped, events) == (12, [Planned(0, skipped=12, tasks=0)])
    assert sealed(folder) == list(LAYERS)


def test_a_run_that_is_stopped_waits_for_no_layer_and_begins_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, stopped = threading.Event(), threading.Event()
    begun: list[str] = []
    ended: list[str] = []

    def slow(*arguments: LayerIndex) -> None:
        begun.append(arguments[-1].layer)
        under_way.set()
        stopped.wait(60)
        ended.append("0")

    monkeypatch.setattr(sealing, "compact", slow)

    def watch(event: Event) -> None:
        if isinstance(event, TaskStarted) and event.task.layer == LAYERS[2]:
            under_way.wait(60)
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            build(spec(folder), executor=LocalExecutor(), on_event=watch)
        assert not ended, "it waited for the layer"
    finally:
        stopped.set()
    assert begun == ["0"]


def test_what_another_build_asked_for_is_waited_for(folder: Path) -> None:
    one = [{"name": "2", "units": [0]}]
    run(folder, [{"name": "2", "units": [0, 1]}])
    assert sealed(folder) == ["2"]
    objects = open_store(folder / "atlas")
    objects.delete([layer_paths.commit("2", 1)])
    for generation in generations(objects, "2"):
        objects.delete([entry.path for entry in generation.files])
    run(folder, one)
    assert sealed(folder) == [], "unit 1 is asked for, and not there"


def test_a_run_may_stop_after_so_many_units(folder: Path) -> None:
    summary, events = run(folder, max_units=5)
    assert (summary.done + summary.dead, summary.skipped, summary.left) == (5, 0, 7)
    planned = next(event for event in events if isinstance(event, Planned))
    assert planned.count == 5
    assert planned.remarks[-1] == "5 of 12 missing units are built this time; 7 are left"
    reader = Reader(folder / "atlas")
    assert [sorted(reader.commits(name)) for name in LAYERS] == [[0, 1, 2, 3], [0], []]
    assert sealed(folder) == ["0"]
    summary, _ = run(folder, max_units=5)
    assert (summary.done + summary.dead, summary.skipped, summary.left) == (5, 5, 2)
    summary, _ = run(folder, max_units=5)
    assert (summary.done + summary.dead, summary.skipped, summary.left) == (2, 10, 0)
    assert sealed(folder) == list(LAYERS)
    with pytest.raises(SpecError, match="max_units=0: give 1 or more"):
        run(folder, max_units=0)
