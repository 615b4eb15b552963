"""The stage that finds all responses: against the network's pass over the images alone."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from time import process_time

import numpy as np
import torch

from circuit_atlas.cluster.executor import RESPONSES, UNITS, Event, Planned
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.run import build
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.atlas_images import atlas_images
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.storage_schema.reader import Reader
from tests.benchmarks.measured import Row

_LAYER, _UNITS, _SIDE = "features.12.expand3x3", 256, 64


class _Found(Exception):  # noqa: N818
    """All responses are found, and no unit is computed yet."""


class _Stage:
    """Stops a build after the stage, and knows how long that took the processor."""

    def __init__(self) -> None:
        self._started_s = self.taken_s = 0.0

    def note(self, event: Event) -> None:
        """An event of the build, as it comes."""
        if isinstance(event, Planned) and event.stage is RESPONSES:
            self._started_s = process_time()
        elif isinstance(event, Planned) and event.stage is UNITS:
            self.taken_s = process_time() - self._started_s
            raise _Found


def responses(*, images: int, units: int, each: int = 128) -> Row:
    """SqueezeNet 1.1, untrained, on so many images of noise; all times are of the processor.

    The stage finds the responses of all 256 units of a layer, and starts a worker for it. So many
    of these units are then computed, each on `each` images of its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0).integers(0, 256, (images, 3, _SIDE, _SIDE), np.uint8)
        np.save(Path(folder, "images.npy"), noise)
        stage = _Stage()
        with contextlib.suppress(_Found):
            build(_spec(folder, "all", each), executor=LocalExecutor(), on_event=stage.note)
        of_units = process_time()
        build(_spec(folder, f"0:{units}", each), executor=LocalExecutor())
        of_units = (process_time() - of_units) / units
        spec = _spec(folder, "all", each)
        assert spec.preprocessing is not None
        prepared = atlas_images(Reader(spec.run.store), spec.preprocessing)
        opened = OpenedSpec(spec, images=prepared)
        network = opened.layer(_LAYER).network
        passed = process_time()
        with torch.no_grad():
            for batch in opened.batches(range(images), spec.run.batch_size):
                network.output(batch)
        passed = process_time() - passed
    whole = _UNITS * of_units
    return Row(
        work=f"responses of {_UNITS} units to {images:,} images of {_SIDE} x {_SIDE}, SqueezeNet",
        of="image",
        ours_s=stage.taken_s / images,
        facts={
            "the network's pass alone, seconds an image": passed / images,
            "times the pass": stage.taken_s / passed,
            f"a unit on {each} images of its own, seconds": of_units,
            "the layer, times the pass and its units": (stage.taken_s + whole) / (passed + whole),
        },
    )


def _spec(folder: str, units: str, each: int) -> BuildSpec:
    drawn = {"top": each // 4, "random": each // 4}
    return BuildSpec.from_values(
        {
            "model": {"reference": "torchvision:squeezenet1_1", "pretrained": False},
            "images": {"source": str(Path(folder, "images.npy")), "held_out": 0.5},
            "preprocessing": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
            "layers": [{"name": _LAYER, "units": units}],
            "circuits": {"top_images": min(10, each // 4), "scoring": drawn, "held_out": drawn},
            "run": {"store": str(Path(folder, "atlas")), "self_check": False},
        }
    )
