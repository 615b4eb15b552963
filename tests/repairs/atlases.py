"""Small atlases with every kind of file, to be damaged: one whose units have all images, and one
whose units have images of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from circuit_atlas.cluster import responses as stage
from circuit_atlas.cluster.executor import Event
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.visualizations import build_visualizations
from circuit_atlas.jobs.images import preparation
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.service.compute.build import Finished, build
from circuit_atlas.storage_schema import heartbeat, pixels, responses
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.heartbeat import Heartbeat
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.visualizations import FeatureWriter
from tests.jobs.builds import write_noise

MODEL = """
import torch
from torch import nn

def network():
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 3, padding=1), nn.ReLU(),
        nn.Conv2d(5, 4, 3),
    )
    # Not the seed that all threads of a process share.
    own = torch.Generator().manual_seed(0)
    for weights in model.parameters():
        nn.init.uniform_(weights, -.2, .2, generator=own)
    with torch.no_grad():
        model[2].weight[1], model[2].bias[1] = 0, -1  # dead
        model[4].weight[3], model[4].bias[3] = 1e38, 3e38  # fails
    return model

def another():
    model = network()
    with torch.no_grad():
        model[0].weight[0] += 1e-3
    return model
"""
SIDE, IMAGES, CHUNK = 8, 20, 8
SAMPLED = {"scoring": {"top": 4, "random": 4}, "held_out": {"top": 2, "random": 2}}


@contextmanager
def prepared(folder: Path) -> Iterator[None]:
    """The network and the images of the specs in a folder; chunks of images are small, so that
    there are several."""
    folder.mkdir(exist_ok=True)
    if not (folder / "images").exists():
        (folder / "repair_models.py").write_text(MODEL)
        write_noise(folder / "images", count=IMAGES, side=SIDE)
        weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
        save_file(
            {"encoder.weight": weight, "encoder.bias": torch.zeros(6)}, folder / "sae.safetensors"
        )
        (folder / "labels.txt").write_text("one\ntwo\nthree\nfour\nfive\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        for module in (preparation, pixels):
            patch.setattr(module, "CHUNK_IMAGES", CHUNK)
        patch.setattr(responses, "CHUNK_IMAGES", CHUNK)
        patch.setattr(stage, "_FEW_CHUNKS", IMAGES)  # all are done here
        yield


def spec(folder: Path, store: Path | str, *, sampled: bool, **layer: Any) -> BuildSpec:
    """The spec of an atlas; `layer` overrides keys of its first layer."""
    directions = {"file": str(folder / "sae.safetensors"), "activation": "relu", "rows": [0, 3]}
    return BuildSpec.from_values(
        {
            "model": {"reference": "repair_models:network"},
            "preprocessing": {"resize": [SIDE, SIDE]},
            "images": {"source": str(folder / "images"), "held_out": 0.4},
            "layers": [
                {
                    "name": "2",
                    "units": [0, 1, 2, 3],
                    "directions": directions,
                    "labels": str(folder / "labels.txt"),
                    **layer,
                },
                {"name": "4", "units": [0, 2, 3], "activation": "pre"},
            ],
            "circuits": {
                "criteria": ["actgrad", "force"],
                "fractions": [1, 0.5, 0.1],
                "force_steps": 2,
                "top_images": 4,
                "stability": True,
                **(SAMPLED if sampled else {}),
            },
            "features": {"steps": 2, "tries": 1, "size": 16, "nodes": False, "groups": False},
            "run": {"store": str(store), "units_per_task": 1, "self_check": False},
        }
    )


def finish(asked: BuildSpec, *, pictures: bool = False, on_event: Any = None) -> Finished:
    """Builds what is missing, feature visualizations last where asked for; the end of the build."""
    events: list[Event | Finished] = []

    def note(event: Event | Finished) -> None:
        events.append(event)
        if on_event is not None:
            on_event(event)

    build(asked, executor="local", on_event=note)
    if pictures:
        build_visualizations(asked, executor=LocalExecutor())
    (end,) = (event for event in events if isinstance(event, Finished))
    return end


def make(folder: Path, store: Path, *, sampled: bool) -> None:
    """Builds an atlas in two runs, and seals what misses a unit; a worker was killed, and one
    failed at a picture."""
    (folder / "labels.txt").write_text("zero\none\ntwo\nthree\nfour\n")
    finish(spec(folder, store, sampled=sampled, units=[0]))
    (folder / "labels.txt").write_text("one\ntwo\nthree\nfour\nfive\n")
    finish(spec(folder, store, sampled=sampled), pictures=True)
    objects = open_store(store)
    reader = Reader(objects)
    for name in reader.layers():
        compact(objects, reader.header, reader.layer(name))
    key = UnitKey("repair_models:network", "2", 2)
    FeatureWriter(objects).fail(FailureRecord(key, "unit", "all but grey", "trace"))
    heartbeat.write(objects, Heartbeat("killed", "units", 0.0, 0.0, 0.0, 1, 0, 0, None))
