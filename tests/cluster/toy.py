"""A job whose units do as they are told, so that what an executor makes of it can be seen.

`Task` has the two fields that executors look at; the real one is in
`circuit_atlas.jobs.tasks.plan`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from circuit_atlas.jobs.tasks.progress import Progress
from circuit_atlas.storage_schema.errors import (
    InfrastructureError,
    ModelError,
    WriteError,
)
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.records import Receipt

UNIT_BYTES, UNIT_S = 1000, 0.25
"""What a unit that is done says that it takes."""


@dataclass(frozen=True)
class Task:
    layer: str
    units: tuple[UnitKey, ...]
    of: str = "unit"


def tasks(*blocks: tuple[int, ...]) -> tuple[Task, ...]:
    return tuple(Task("conv", tuple(UnitKey("toy", "conv", u) for u in block)) for block in blocks)


@dataclass(frozen=True)
class ToyJob:
    """`log` receives a file for each start of a worker and each try of a unit, that names the
    machine where the variable TOY_MACHINE does. No worker starts on one that is called bad,
    nor, for ten minutes, on one that is called slow."""

    log: Path
    units: Mapping[int, str] = field(default_factory=dict)
    start: str = "well"
    workers: int = 1

    def sharing(self, workers: int) -> ToyJob:
        return replace(self, workers=workers)

    def open(self) -> ToyWorker:
        _note(self.log, "start")
        if self.start == "model":
            raise ModelError("the weights of 'toy' lack conv.weight; give weights that fit")
        if self.start == "bug":
            raise RuntimeError("no such\ndevice")
        if self.start == "die":
            os._exit(3)
        if self.start == "hang":
            time.sleep(600)
        if os.environ.get("TOY_MACHINE") == "bad":
            os._exit(3)
        if os.environ.get("TOY_MACHINE") == "slow":
            time.sleep(600)
        return ToyWorker(self)

    def tries(self, unit: int) -> int:
        return len(list(self.log.glob(f"unit{unit}-*")))

    def starts(self) -> int:
        return len(list(self.log.glob("start-*")))


class ToyWorker:
    def __init__(self, job: ToyJob) -> None:
        self.job = job
        self.progress = Progress()

    def run(self, task: Task) -> tuple[Receipt, ...]:
        self.progress.begin("unit")
        self.progress.together(task.units)
        receipts = []
        for key in task.units:
            receipts.append(self.unit(key))
            self.progress.ended(receipts[-1])
        return tuple(receipts)

    def unit(self, key: UnitKey) -> Receipt:
        orders = self.job.units.get(key.unit, "well")
        first = _note(self.job.log, f"unit{key.unit}") == 1
        if orders == "fail":
            return Receipt(key, "failed", 1, 0, 0.0, kind="non_finite", message="NaN in scores")
        if orders == "bug" or (orders == "bug once" and first):
            raise ValueError(f"unit {key.unit}\nis odd")
        if orders == "lost" or (orders == "lost once" and first):
            raise InfrastructureError("the network store did not answer")
        if orders == "full":
            raise WriteError("no space left on the disk; free some and run again")
        if orders == "die" or (orders == "die once" and first):
            os._exit(3)
        if orders == "hang" or (orders == "hang once" and first):
            time.sleep(600)
        if orders == "threads":
            return Receipt(key, "done", 1, int(os.environ["OMP_NUM_THREADS"]), 0.0)
        if orders == "arenas":
            return Receipt(key, "done", 1, int(os.environ["MALLOC_ARENA_MAX"]), 0.0)
        if orders == "sharing":
            return Receipt(key, "done", 1, self.job.workers, 0.0)
        if orders == "told":
            self.progress.step("scores", 20, "images")
            self.progress.advance(5)
            time.sleep(5.0)
            self.progress.advance()
        if orders == "slow":
            time.sleep(1.0)
        if orders == "steady" and not (self.job.log / "hurry").exists():
            time.sleep(0.4)
        return Receipt(key, "done", 1, UNIT_BYTES, UNIT_S)


def _note(log: Path, name: str) -> int:
    """Leave a trace that outlives the process; how many of that name there are now."""
    machine = os.environ.get("TOY_MACHINE", "")
    (log / f"{name}-{os.getpid()}-{time.monotonic_ns()}-{machine}").touch()
    return len(list(log.glob(f"{name}-*")))
