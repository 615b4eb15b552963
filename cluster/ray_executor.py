"""Tasks run on Ray: one actor a worker, and a loop in the driver that makes every decision.

Ray restarts and retries nothing here (`max_restarts=0`, `max_task_retries=0`). The driver waits on
one call an actor, replaces an actor that died or ran past its deadline, and queues its task again.
Actors that Ray restarts under such a loop livelocked it in one of four runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import ray

from circuit_atlas.cluster.executor import (
    Event,
    Job,
    TaskDone,
    TaskLost,
    TaskStarted,
    WorkersReady,
)
from circuit_atlas.cluster.process import interrupts_deferred
from circuit_atlas.cluster.ray_crew import Crew
from circuit_atlas.cluster.ray_session import cluster_resources, ray_session
from circuit_atlas.cluster.retries import Backlog, Policy
from circuit_atlas.storage_schema.errors import InfrastructureError, InputError

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task


class RayExecutor:
    """Workers on a Ray cluster.

    Args:
        address: "local" starts a Ray on this machine and ends it afterwards; "auto" finds the one
            that this process is part of (inside a Ray job); else a cluster's "host:port".
            A Ray that this process is connected to already is used, and left as it is.
            Default: "local".
        workers: how many. Default: 0, as many as the cluster has room for when it is entered.
        threads: CPUs that a worker takes, and threads that it computes with. Default: 1.
        device: "cuda" gives each worker a GPU, "auto" does so where the cluster has any.
            Default: "auto".
        temp_dir: where a local Ray keeps its sockets and logs. It should be short: the path of a
            socket may have 107 bytes, of which Ray's part takes some 65. Default: Ray's choice.
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
        if ":" in device:
            raise InputError(
                f"device {device!r} names a GPU of one machine, but Ray gives each worker its own: "
                'use device "cuda", and CUDA_VISIBLE_DEVICES to leave GPUs out'
            )
        if "://" in address:
            raise InputError(
                f"address {address!r}: a build from outside would end with its connection; hand it "
                "over with `circuit-atlas submit`, or give host:port on a machine of the cluster"
            )
        self._address = address
        self._workers = workers
        self._threads = threads
        self._device = device
        self._temp_dir = temp_dir
        self._session = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if not ray.is_initialized():
            cpus = self._workers * self._threads or None
            with contextlib.ExitStack() as session:
                session.enter_context(
                    ray_session(self._address, cpus=cpus, temp_dir=self._temp_dir)
                )
                self._check_room()
                self._session = session.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._session.close()

    @property
    def workers(self) -> int:
        """How many tasks run at once, as `Executor.workers` says."""
        if self._workers:
            return self._workers
        total = cluster_resources()
        room = total.get("CPU", 0) // self._threads
        return max(1, int(min(room, total.get("GPU", 0)) if self._gpus() else room))

    def run(
        self, tasks: Sequence[Task], job: Job, *, policy: Policy
    ) -> Generator[Event, None, None]:
        """Runs the tasks as `Executor.run` says."""
        backlog = Backlog(tasks, policy)
        crew = Crew(job, threads=self._threads, gpus=self._gpus())
        size, failed_starts = self.workers, 0
        try:
            while backlog or crew.busy:
                while backlog and crew.idle:
                    yield TaskStarted(crew.assign(backlog.take()))
                crew.hire(min(len(backlog) - crew.starting, size - crew.size))
                for task, outcome in crew.finished(policy):
                    if not isinstance(outcome, InfrastructureError):
                        if task is None:
                            failed_starts = 0
                            yield WorkersReady(crew.size - crew.starting)
                        else:
                            yield TaskDone(task, outcome)
                    elif task is None:
                        failed_starts += 1
                        if failed_starts >= policy.failed_starts:
                            raise outcome
                    else:
                        yield TaskLost(task, outcome, backlog.lost(task))
        finally:
            with interrupts_deferred():
                crew.dismiss()

    def _check_room(self) -> None:
        total = cluster_resources()
        short = total.get("CPU", 0) < self._threads or total.get("GPU", 0) < self._gpus()
        if self._address == "local" and short:
            raise InputError(
                f"no worker fits on this machine: each takes {self._threads} CPUs and "
                f"{self._gpus()} GPUs, and Ray finds {total.get('CPU', 0):.0f} and "
                f"{total.get('GPU', 0):.0f}; lower `threads` or change `device` under [run]"
            )

    def _gpus(self) -> int:
        if self._device == "auto":
            return int(cluster_resources().get("GPU", 0) >= 1)
        return int(self._device == "cuda")
