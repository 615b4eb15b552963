"""A cluster whose workers take no time: an executor that keeps a clock of its own.

The tasks are real, and so are the policy and the backlog; what a worker does to a unit is given.
Workers are lost at a steady rate, and others start in their place, as on machines that may be taken
away.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Self

from circuit_atlas.cluster.executor import (
    Event,
    Job,
    TaskDone,
    TaskLost,
    TaskProgress,
    TaskStarted,
    WorkersReady,
    unwatched,
)
from circuit_atlas.cluster.retries import Backlog, Policy, describe, unclaimed
from circuit_atlas.jobs.tasks.plan import Task
from circuit_atlas.storage_schema.errors import WorkerLostError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.records import Receipt

_START_S = 60.0
_UNIT_S = 60.0
_HOUR_S = 3600.0


@dataclass
class _Worker:
    """When it will be lost, and what it is at since when; no task: it starts."""

    lost_s: float
    task: Task | None = None
    since_s: float = 0.0


class VirtualCluster:
    """So many workers, each of which is lost with the same chance at any moment.

    Attributes:
        workers: how many.
        now_s: its clock, in seconds from the start.
        taken: how many tasks were begun.
        lost: how many workers were lost.
    """

    def __init__(
        self,
        store: Callable[[UnitKey], Receipt],
        *,
        workers: int = 1000,
        losses_an_hour: float = 0.01,
        seed: int = 0,
    ) -> None:
        """`store` does a unit's work; `losses_an_hour` is the share of workers."""
        self.workers = workers
        self.now_s = 0.0
        self.taken = 0
        self.lost = 0
        self._store = store
        self._rate = losses_an_hour / _HOUR_S
        self._draws = random.Random(seed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def observe(self, event: Event) -> None:
        """Keep no metrics."""
        del event

    def run(
        self,
        tasks: Sequence[Task],
        job: Job,
        *,
        policy: Policy,
        claim: Callable[[Task], Sequence[UnitKey]] = unclaimed,
        on_progress: Callable[[TaskProgress], None] = unwatched,
    ) -> Generator[Event, None, None]:
        """Run the tasks as `Executor.run` says, where no other build is at work."""
        del job, on_progress
        backlog = Backlog(tasks, policy, claim)
        order = itertools.count()
        ends: list[tuple[float, int, _Worker]] = []
        idle: list[_Worker] = []
        for _ in range(min(self.workers, len(backlog))):
            heapq.heappush(ends, (_START_S, next(order), self._start()))
        busy = 0
        while backlog or busy:
            while backlog and idle:
                task = backlog.take(len(idle))
                assert task is not None
                worker, busy = idle.pop(), busy + 1
                self.taken += 1
                worker.task, worker.since_s = task, self.now_s
                took_s = _UNIT_S * len(worker.task.units) * self._draws.uniform(0.5, 1.5)
                ends_s = max(self.now_s, min(worker.lost_s, self.now_s + took_s))
                heapq.heappush(ends, (ends_s, next(order), worker))
                yield TaskStarted(worker.task)
            self.now_s, _, worker = heapq.heappop(ends)
            task, worker.task = worker.task, None
            if task is None:
                idle.append(worker)
                yield WorkersReady(len(idle) + busy)
                continue
            busy -= 1
            if self.now_s < worker.lost_s:
                idle.append(worker)
                yield TaskDone(task, tuple(map(self._store, task.units)))
                continue
            self.lost += 1
            for unit in task.units[: int((self.now_s - worker.since_s) / _UNIT_S)]:
                self._store(unit)
            heapq.heappush(ends, (self.now_s + _START_S, next(order), self._start()))
            error = WorkerLostError(f"{describe(task)}: its machine was taken away")
            yield TaskLost(task, error, backlog.lost(task, machine=True))

    def _start(self) -> _Worker:
        life_s = self._draws.expovariate(self._rate) if self._rate else float("inf")
        return _Worker(self.now_s + _START_S + life_s)
