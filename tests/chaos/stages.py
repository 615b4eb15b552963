"""The stages of a build, as its store shows them from outside."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.chaos.limits import wait_until

LAYERS = {"2": 12, "5": 8}
"""Layers of every trial, in the order in which they are built, with their units."""
_FIRST_LAYER = next(iter(LAYERS))


def _images(atlas: Path) -> bool:
    return atlas.exists()


def _responses(atlas: Path) -> bool:
    return any(atlas.glob("prepared/*/whole.json"))


def _units(atlas: Path) -> bool:
    return any(atlas.glob("layers/*/network.json"))


def _sealing(atlas: Path) -> bool:
    commits = atlas.glob(f"layers/{_FIRST_LAYER}/commits/*.json")
    return sum(1 for _ in commits) == LAYERS[_FIRST_LAYER]


def _visualizations(atlas: Path) -> bool:
    return any(atlas.glob("features/plans/*.json"))


BEGUN: Mapping[str, Callable[[Path], bool]] = {
    "images": _images,
    "responses": _responses,
    "units": _units,
    "sealing": _sealing,
    "visualizations": _visualizations,
}
"""Tells of a folder whether its build has come to each stage, in their order."""


_END_OF = {"visualizations": "features", "units": "build", "sealing": "build"}


def watch(atlas: Path, running: Callable[[], bool], begun_s: dict[str, float]) -> None:
    """Note when each stage begins that has not begun, until the command has ended."""
    waiting = [stage for stage in BEGUN if stage not in begun_s]

    def ended() -> bool:
        if waiting and BEGUN[waiting[0]](atlas):
            begun_s[waiting.pop(0)] = time.monotonic()
        return not running()

    wait_until(ended, "the end of a command")


def durations(begun_s: Mapping[str, float]) -> dict[str, float]:
    """Give the seconds of each stage: to the next, or to the end of its command."""
    ends = {stage: f"end of {command}" for stage, command in _END_OF.items()}
    stages = [stage for stage in BEGUN if stage in begun_s]
    following = dict(itertools.pairwise(stages))
    return {
        stage: begun_s[ends.get(stage) or following[stage]] - begun_s[stage] for stage in stages
    }


def wait_for(stage: str, atlas: Path, running: Callable[[], bool], *, within_s: float) -> bool:
    """Wait until a stage begins; False where the build ended before."""
    begun = BEGUN[stage]
    wait_until(lambda: not running() or begun(atlas), f"the stage {stage}", within_s=within_s)
    return running()
