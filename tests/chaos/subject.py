"""What every trial builds: a tiny network, images of noise, and the atlas that no fault met."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tests.chaos import driver, stages
from tests.chaos.limits import Family
from tests.chaos.stages import LAYERS

CODE = Path(__file__).with_name("code")
UNITS = sum(LAYERS.values())
IMAGES, SIDE = 150, 6
"""Three chunks of pixels; each unit has a dozen images of its own."""
VISUALIZED_SIDE = 16
"""Of a visualization."""

_SPEC = """
[model]
reference = "chaos_network:network"
code = "{code}"
[images]
source = "{images}"
held_out = 0.4
[preprocessing]
mean = [0, 0, 0]
std = [1, 1, 1]
[[layers]]
name = "2"
[[layers]]
name = "5"
[circuits]
criteria = ["actgrad", "force", "random"]
fractions = [1, 0.5, 0.1]
top_images = 3
force_steps = 1
scoring = {{top = 5, random = 4}}
held_out = {{top = 2, random = 3}}
[features]
steps = 8
learning_rate = 0.5
tries = 2
groups = false
fractions = [0.5]
nodes = false
size = {visualized_side}
[run]
store = "atlas"
self_check = false
{run}
"""


@dataclass(frozen=True)
class Subject:
    """A folder with the images, and in the end the undisturbed atlas of them.

    Attributes:
        folder: it.
        stages_s: seconds that each stage took without a fault.
    """

    folder: Path
    stages_s: Mapping[str, float]

    @property
    def atlas(self) -> Path:
        """The atlas that no fault met."""
        return self.folder / "undisturbed"

    @property
    def images(self) -> Path:
        """An array of the images."""
        return self.folder / "images.npy"

    def write_spec(self, path: Path, *, images: Path, **run: object) -> None:
        """Write the spec of it, of these images or of others, with more of `[run]`."""
        path.write_text(
            _SPEC.format(
                code=CODE,
                images=images,
                visualized_side=VISUALIZED_SIDE,
                run="\n".join(f"{key} = {value}" for key, value in run.items()),
            )
        )


def undisturbed(folder: Path) -> Subject:
    """Build the atlas that trials are held against, and look how long its stages take."""
    write_images(folder)
    subject = Subject(folder, {})
    spec = folder / f"{subject.atlas.name}.toml"
    subject.write_spec(spec, images=subject.images)
    begun_s = dict[str, float]()
    family = Family(folder)
    for command in ("build", "features"):
        arguments = [command, str(spec), "--store", str(subject.atlas), "--executor", "local"]
        running = driver.forked(arguments, {}, folder / f"{subject.atlas.name}-{command}.log")
        family.add(running.pid)
        with family.limited():
            stages.watch(subject.atlas, lambda running=running: running.poll() is None, begun_s)
        # A visualization that stays grey has failed, always the same one.
        if running.wait() not in ((0,) if command == "build" else (0, 1)):
            raise RuntimeError(running.output())
        begun_s[f"end of {command}"] = time.monotonic()
    return replace(subject, stages_s=stages.durations(begun_s))


def write_images(folder: Path) -> None:
    """Noise of very different contrast, always the same."""
    random = np.random.default_rng(0)
    contrast = random.uniform(0.1, 3, (IMAGES, 1, 1, 1))
    images = random.normal(size=(IMAGES, 3, SIDE, SIDE)) * contrast
    np.save(folder / "images.npy", images.astype(np.float32))
