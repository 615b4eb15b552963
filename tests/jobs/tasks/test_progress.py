"""What a worker is at, as whoever looks on sees it: in memory, and in the store."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks import beating
from circuit_atlas.jobs.tasks.beating import Beating
from circuit_atlas.jobs.tasks.plan import Task
from circuit_atlas.jobs.tasks.progress import Progress
from circuit_atlas.jobs.tasks.worker import CircuitJob
from circuit_atlas.storage_schema import heartbeat
from circuit_atlas.storage_schema.errors import WriteError
from circuit_atlas.storage_schema.heartbeat import Activity
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.patience import Outage
from circuit_atlas.storage_schema.records import Receipt
from tests.jobs.builds import lay_out, write_noise
from tests.patience import PATIENCE_S, until

KEYS = (UnitKey("toy", "conv", 3), UnitKey("toy", "conv", 4))
TASK = Task("conv", KEYS)


def test_batches_count_when_they_have_been_computed() -> None:
    progress = Progress()
    progress.begin("unit")
    assert progress.activity() is None
    progress.together(KEYS)
    seen = []
    for _ in progress.images([torch.zeros(4, 1), torch.zeros(2, 1)], "scores", 6):
        seen.append(str(progress.activity()))
    assert seen == ["conv units 3-4: scores 0/6 images", "conv units 3-4: scores 4/6 images"]
    assert str(progress.activity()) == "conv units 3-4: scores 6/6 images"


def test_a_task_begins_anew() -> None:
    progress, heard = Progress(), []
    progress.listener = lambda: heard.append(progress.receipts())
    progress.begin("unit")
    progress.ended(Receipt(KEYS[0], "done", 1, 10, 1.0))
    assert [len(receipts) for receipts in heard] == [1]
    progress.begin("channel")
    assert progress.receipts() == ()
    progress.together(KEYS[:1])
    assert progress.activity() == Activity("conv", "channel", (3,))


def test_a_worker_that_waits_for_the_store_says_so_in_place_of_its_step() -> None:
    progress = Progress()
    progress.begin("unit")
    progress.together(KEYS)
    progress.step("scores", 6, "images")
    outage = Outage("s3://bucket/atlas", "no answer", 1000.0, 600.0)
    progress.waits(outage)
    assert str(progress.activity()) == f"conv units 3-4: {outage}"
    progress.waits(replace(outage, ended_s=1042.0))
    assert str(progress.activity()) == "conv units 3-4: scores 0/6 images"


def test_a_worker_tells_each_step_and_each_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "progress_models.py").write_text(
        "from torch import nn\n\n\ndef network():\n    return nn.Sequential(nn.Conv2d(3, 4, 3))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    write_noise(tmp_path / "pictures", count=4, side=8)
    spec = BuildSpec.from_values(
        {
            "model": {"reference": "progress_models:network"},
            "preprocessing": {"resize": [8, 8]},
            "images": {"source": str(tmp_path / "pictures"), "held_out": "odd"},
            "layers": [{"name": "0"}],
            "circuits": {
                "criteria": ["actgrad", "force", "learned"],
                "fractions": [1, 0.5],
                "ablation": ["mean"],
                "top_images": 2,
                "force_steps": 2,
            },
            "learned": {"steps": 3},
            "run": {"store": str(tmp_path / "atlas"), "batch_size": 2},
        }
    )
    lay_out(spec)
    worker = CircuitJob(spec, 1).open()
    steps: dict[str, Activity] = {}
    ended = []

    def listen() -> None:
        activity = worker.progress.activity()
        assert activity is not None
        steps[activity.step] = activity
        ended.append(len(worker.progress.receipts()))

    worker.progress.listener = listen
    units = tuple(UnitKey(spec.model.reference, "0", unit) for unit in (0, 1))
    worker.run(Task("0", units))
    told = ["", "network", "responses", "means", "scores", "force", "learned", "circuits"]
    assert list(steps) == told
    assert all(step.units == (0, 1) for step in steps.values())
    # FORCE makes no pass after a step that takes no kernel away.
    assert steps.pop("force").done > 0
    assert all(step.done == step.total > 0 for name, step in steps.items() if name)
    assert ended[-1] == 2


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Objects:
    monkeypatch.setattr(beating, "_FIRST_S", 0.01)
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.01)
    return open_store(tmp_path / "atlas", create=True)


def test_a_heartbeat_is_in_the_store_while_a_task_runs(store: Objects) -> None:
    progress = Progress()
    progress.begin("unit")
    with Beating(store, progress, "units").during(TASK):
        until(lambda: heartbeat.read(store), "a heartbeat")
        progress.together(KEYS)
        progress.ended(Receipt(KEYS[0], "failed", 1, 10, 1.0))
        until(lambda: heartbeat.read(store)[0].failed, "a later one")
        (beat,) = heartbeat.read(store)
        assert (beat.worker, beat.stage) == (progress.worker, "units")
        assert (beat.units, beat.ended, beat.failed) == (2, 1, 1)
        assert beat.activity == Activity("conv", "unit", (3, 4))
    assert not store.list("runs")


def test_a_short_task_leaves_no_trace(tmp_path: Path) -> None:
    objects = open_store(tmp_path / "atlas", create=True)
    with Beating(objects, Progress(), "units").during(TASK):
        pass
    assert not objects.list("")


def test_a_store_that_refuses_a_heartbeat_ends_no_task(
    store: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()

    def refuse(*_: object) -> None:
        tried.set()
        raise WriteError("the disk is full")

    monkeypatch.setattr(Objects, "put", refuse)
    monkeypatch.setattr(Objects, "delete", refuse)
    with Beating(store, Progress(), "units").during(TASK):
        assert tried.wait(PATIENCE_S)
