"""A worker that is lost after some of its commits: no stage computes again what is committed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from circuit_atlas.cluster import images as image_stage
from circuit_atlas.cluster import responses as response_stage
from circuit_atlas.cluster.executor import Event, TaskLost
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.run import build
from circuit_atlas.cluster.visualizations import build_visualizations
from circuit_atlas.jobs.images import preparation
from circuit_atlas.jobs.images.preparation import Chunker
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks import worker
from circuit_atlas.jobs.tasks.response_worker import ResponseWorker
from circuit_atlas.jobs.visualization.worker import VisualizationWorker
from circuit_atlas.storage_schema import responses, visualization_paths
from circuit_atlas.storage_schema.errors import InfrastructureError
from circuit_atlas.storage_schema.layer_listing import list_committed
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify

MODEL = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 3, padding=1), nn.ReLU()
    )
"""
IMAGES, IMAGES_A_CHUNK = 24, 6
# What is put last of each, by stage: a chunk of images, one of responses, a unit, a visualization.
COMMITS = {
    "images": r"prepared/[0-9a-f]{64}/\d+\.json",
    "responses": r"layers/[^/]+/responses/[0-9a-f]{64}/\d+-.*",
    "units": r"layers/[^/]+/commits/.*",
    "features": r"features/\d+/\d+/[^/]+\.json",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network and images of noise, in small chunks that go to workers."""
    (tmp_path / "lost_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    images = np.random.default_rng(0).normal(size=(IMAGES, 3, 6, 6)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    for module in (preparation, responses):
        monkeypatch.setattr(module, "CHUNK_IMAGES", IMAGES_A_CHUNK)
    for stage in (image_stage, response_stage):
        monkeypatch.setattr(stage, "_FEW_CHUNKS", 0)
    return tmp_path


def spec(folder: Path, store: str, *, sampled: bool) -> BuildSpec:
    sample = {"scoring": {"top": 4, "random": 2}, "held_out": {"top": 2, "random": 2}}
    return BuildSpec.from_values(
        {
            "model": {"reference": "lost_model:network"},
            "images": {"source": str(folder / "images.npy"), "held_out": 0.4},
            "preprocessing": {"mean": [0, 0, 0], "std": [1, 1, 1]},
            "layers": [{"name": "2"}, {"name": "0"}],
            "circuits": {
                "criteria": ["actgrad"],
                "fractions": [0.5, 0.2],
                "top_images": 2,
                **(sample if sampled else {}),
            },
            "features": {"steps": 24, "node_steps": 24, "tries": 1},
            "run": {"store": str(folder / store), "self_check": False, "units_per_task": 4},
        }
    )


class Kill:
    """Loses a worker just after its k-th commit of a stage."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stage: str, after: int) -> None:
        self.stage, self.left, create = stage, after, Objects.create

        def killing(objects: Objects, path: str, data: bytes | memoryview) -> bool:
            new = create(objects, path, data)
            if re.fullmatch(COMMITS[stage], path):
                self.left -= 1
                if self.left == 0:
                    raise InfrastructureError("the worker was killed")
            return new

        monkeypatch.setattr(Objects, "create", killing)


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What workers computed though it was committed; and that they computed at all."""
    found: list[object] = []

    def watch(of: Any, name: str, committed: Callable[..., Sequence[object]]) -> None:
        whole = getattr(of, name)

        def watching(*arguments: Any, **named: Any) -> Any:
            found.extend(committed(*arguments))
            return whole(*arguments, **named)

        monkeypatch.setattr(of, name, watching)

    def image_chunk(chunker: Chunker, objects: Objects, chunk: int) -> Sequence[object]:
        return [chunk] if chunk in chunker.prepared(objects) else []

    def response_chunk(of: ResponseWorker, layers: Any, images: Sequence[int]) -> Sequence[object]:
        names = {layer.index.layer for layer in layers}
        (chunk,) = (n for n, some in of._chunks.items() if some == images)
        there = {
            name
            for name, key in of._keys.items()
            if chunk in responses.chunks(of._objects, name, key)
        }
        return sorted(names & there)

    def units(opened: Any, layer: Any, header: Any, numbers: Sequence[int]) -> Sequence[object]:
        del header
        store = open_store(opened.spec.run.store)
        return sorted(set(numbers) & list_committed(store, layer.index.layer).keys())

    def visualizations(of: VisualizationWorker, batch: Any) -> Sequence[object]:
        objects = of._reader.objects
        paths = [
            visualization_paths.visualization(v.key.layer, v.key.unit, v.name)
            for v in batch.variants
        ]
        return [path for path in paths if objects.exists(path)]

    watch(Chunker, "prepare", image_chunk)
    watch(ResponseWorker, "_in_one_pass", response_chunk)
    watch(worker, "open_block", units)
    watch(VisualizationWorker, "_best_attempts", visualizations)
    return found


@pytest.mark.parametrize(
    ("stage", "after"),
    [
        ("images", 1),
        ("images", 3),
        ("responses", 1),
        ("responses", 4),
        ("units", 1),
        ("units", 3),
        ("units", 7),
        ("features", 1),
        ("features", 5),
    ],
)
def test_what_is_committed_is_not_computed_again(
    folder: Path, again: list[object], monkeypatch: pytest.MonkeyPatch, stage: str, after: int
) -> None:
    events: list[Event] = []
    one = spec(folder, "atlas", sampled=stage == "responses")
    kill = Kill(monkeypatch, stage, after)
    summary = build(one, executor=LocalExecutor(), on_event=events.append)
    assert (summary.done + summary.dead, summary.failed, summary.lost) == (9, 0, 0)
    if stage == "features":
        seen = build_visualizations(one, executor=LocalExecutor(), on_event=events.append)
        assert (seen.failed, seen.lost) == (0, 0), seen.failures[0]
    assert kill.left <= 0, "it was killed"
    assert [event.will_retry for event in events if isinstance(event, TaskLost)] == [True]
    assert again == []
    assert verify(open_store(folder / "atlas")) == ()
    assert {layer: len(Reader(folder / "atlas").commits(layer)) for layer in "20"} == {
        "2": 4,
        "0": 5,
    }


def test_the_check_sees_what_is_computed_again(
    folder: Path, again: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ResponseWorker, "_lacks", lambda *_: True)
    Kill(monkeypatch, "responses", 1)
    build(spec(folder, "atlas", sampled=True), executor=LocalExecutor())
    assert again != []
