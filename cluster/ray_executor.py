"""On Ray: one actor a worker, and a loop in the driver that owns every decision.

Ray restarts and retries nothing here (`max_restarts=0`, `max_task_retries=0`). The driver waits on
one call an actor, replaces an actor that died or ran past its deadline, and queues its task again.
Actors that Ray restarts under such a loop livelocked it in one of four runs.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import ray
from ray.exceptions import RayError, RayTaskError

from circuit_atlas.cluster.executor import (
    Event,
    Job,
    TaskDone,
    TaskLost,
    TaskStarted,
    Worker,
    WorkersReady,
)
from circuit_atlas.cluster.retries import Backlog, Policy, describe, one_line, retryable
from circuit_atlas.storage_schema.errors import (
    DeadlineError,
    InfrastructureError,
    WorkerLostError,
)
from circuit_atlas.storage_schema.records import Receipt

if TYPE_CHECKING:
    from circuit_atlas.jobs.plan import Task

# Receipts are all that passes through the object store; by default Ray would take a third of memory.
_OBJECT_STORE_BYTES = 256 * 2**20
# How often the driver looks at deadlines when nothing happens.
_TICK_S = 0.5


class _Host:
    """The actor. It opens the job in a method, so that an error from there arrives as itself."""

    _worker: Worker

    def open(self, job: Job) -> None:
        self._worker = job.open()

    def run(self, task: Task) -> tuple[Receipt, ...]:
        return self._worker.run(task)


@dataclass(frozen=True)
class _Duty:
    """What an actor is at: a task, or (None) its start."""

    actor: Any
    task: Task | None
    since_s: float


class RayExecutor:
    """Workers on a Ray cluster.

    Args:
        address: "local" starts a Ray of its own here and ends it afterwards; "auto" finds the one
            that this process is part of (inside a Ray job); else a cluster's "host:port".
            A Ray that this process is connected to already is used, and left as it is.
        workers: how many; 0 for as many as the cluster has room for when the run begins.
        threads: CPUs a worker takes, and threads it computes with.
        device: "cuda" gives each worker a GPU, "auto" does so where the cluster has any, "cpu" not.
        temp_dir: where a local Ray keeps sockets and logs. Keep it short: a socket's path may have
            107 characters, and Ray adds some 65.
    """

    def __init__(
        self,
        address: str = "local",
        *,
        workers: int = 0,
        threads: int = 1,
        device: str = "auto",
        temp_dir: Path | None = None,
    ) -> None:
        self._address = address
        self._wanted = workers
        self._threads = threads
        self._device = device
        self._temp_dir = temp_dir
        self._started = False

    def __enter__(self) -> Self:
        if not ray.is_initialized():
            self._started = True
            with _quiet(), _own_sigterm():
                _connect(self._address, self._wanted * self._threads or None, self._temp_dir)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._started:
            self._started = False
            ray.shutdown()

    @property
    def workers(self) -> int:
        """See `Executor.workers`."""
        if self._wanted:
            return self._wanted
        total = ray.cluster_resources()
        room = total.get("CPU", 0) // self._threads
        return max(1, int(min(room, total["GPU"]) if self._gpus() else room))

    def run(
        self, tasks: Sequence[Task], job: Job, *, policy: Policy
    ) -> Generator[Event, None, None]:
        """See `Executor.run`."""
        backlog = Backlog(tasks, policy)
        shipped = ray.put(job)
        duties: dict[Any, _Duty] = {}
        idle: list[Any] = []
        failed_starts = 0
        limit, started_s = self.workers, time.monotonic()
        try:
            while backlog or any(duty.task for duty in duties.values()):
                while idle and backlog:
                    actor, task = idle.pop(), backlog.take()
                    duties[actor.run.remote(task)] = _Duty(actor, task, time.monotonic())
                    yield TaskStarted(task)
                starting = sum(duty.task is None for duty in duties.values())
                for _ in range(min(len(backlog) - starting, limit - len(duties) - len(idle))):
                    actor = self._hire(job)
                    duties[actor.open.remote(shipped)] = _Duty(actor, None, time.monotonic())

                done, _ = ray.wait(list(duties), num_returns=1, timeout=_TICK_S)
                overdue = _overdue(duties, policy.deadline_s)
                for reference in {*done, *overdue}:
                    duty = duties.pop(reference)
                    outcome = (
                        _outcome(reference, duty)
                        if reference in done
                        else _late(duty, policy.deadline_s)
                    )
                    if isinstance(outcome, InfrastructureError):
                        ray.kill(duty.actor)
                        if duty.task is not None:
                            yield TaskLost(duty.task, outcome, backlog.lost(duty.task))
                            continue
                        failed_starts += 1
                        if failed_starts >= policy.failed_starts:
                            raise outcome
                        continue
                    idle.append(duty.actor)
                    if duty.task is None:
                        failed_starts = 0
                        yield WorkersReady(len(idle) + sum(d.task is not None for d in duties.values()))
                    else:
                        yield TaskDone(duty.task, outcome)
        finally:
            for actor in [*idle, *(duty.actor for duty in duties.values())]:
                ray.kill(actor)
