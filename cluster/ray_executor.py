"""Tasks run on Ray: one actor a worker, and a loop in the driver that makes every decision.

Ray restarts and retries nothing here (`max_restarts=0`, `max_task_retries=0`). The driver waits on
one call an actor, replaces an actor that died or ran past its deadline, and queues its task again.
It looks at the cluster again and again, and has a worker wherever there is room for one.
Actors that Ray restarts under such a loop livelocked it in one of four runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import ray

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
from circuit_atlas.cluster.machines import Machines
from circuit_atlas.cluster.process import interrupts_deferred
from circuit_atlas.cluster.ray_crew import Crew
from circuit_atlas.cluster.ray_metrics import RayMetrics
from circuit_atlas.cluster.ray_session import cluster_resources, ray_session
from circuit_atlas.cluster.ray_watch import Watch
from circuit_atlas.cluster.retries import Backlog, Policy
from circuit_atlas.storage_schema.errors import InfrastructureError, InputError

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task

# Tasks are cut for so many workers at least where machines may come later.
_MAY_BECOME = 16


class RayExecutor:
    """Workers on a Ray cluster.

    Args:
        address: "local" starts a Ray on this machine and ends it afterwards; "auto" finds the one
            that this process is part of (inside a Ray job); else a cluster's "host:port".
            A Ray that this process is connected to already is used, and left as it is.
            Default: "local".
        workers: how many, whatever room there is. Default: 0, as many as the cluster has room for
            at any moment, machines that come later too.
        max_workers: at most so many; what the cluster has no room for yet waits for it, which an
            autoscaler takes as demand. Not with `workers`. Default: 0, no limit, and no demand.
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
        max_workers: int = 0,
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
        self._max_workers = max_workers
        self._threads = threads
        self._device = device
        self._temp_dir = temp_dir
        self._session = contextlib.ExitStack()
        self._metrics: RayMetrics | None = None

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
        """How many the tasks are cut for, as `Executor.workers` says."""
        machines = Machines(threads=self._threads, gpus=self._gpus())
        machines.look()
        room = machines.room({})
        if self._workers or self._address == "local":
            return self._size(room)
        return self._max_workers or max(_MAY_BECOME, room)

    def observe(self, event: Event) -> None:
        """Counts an event of a run in Ray's metrics."""
        if self._metrics is None:
            self._metrics = RayMetrics()
        self._metrics.note(event)

    def run(
        self,
        tasks: Sequence[Task],
        job: Job,
        *,
        policy: Policy,
        on_progress: Callable[[TaskProgress], None] = unwatched,
    ) -> Generator[Event, None, None]:
        """Runs the tasks as `Executor.run` says."""
        watch = Watch()
        backlog = Backlog(tasks, policy)
        gpus = self._gpus()
        machines = Machines(threads=self._threads, gpus=gpus)
        most = self._workers or self._max_workers or None
        crew = Crew(job, machines, policy, threads=self._threads, gpus=gpus, most=most)
        try:
            while backlog or crew.busy:
                while backlog and crew.idle:
                    following = backlog.take(crew.idle + crew.opening, layer=crew.layer)
                    yield TaskStarted(following, crew.assign(following))
                for progress in watch.look(crew.at_work()):
                    on_progress(progress)
                machines.look()
                crew.hire(min(backlog.units, self._size(crew.room()) - crew.ready))
                for ended in crew.ended():
                    outcome = ended.outcome
                    if isinstance(outcome, InfrastructureError):
                        if ended.task is not None:
                            again = backlog.lost(ended.task, machine=ended.machine_lost)
                            yield TaskLost(ended.task, outcome, again, ended.worker)
                    elif ended.task is None:
                        yield WorkersReady(crew.ready)
                    else:
                        yield TaskDone(ended.task, outcome, ended.worker)
        finally:
            with interrupts_deferred():
                crew.dismiss()

    def _size(self, room: int) -> int:
        """How many workers there are to be, where the cluster has room for so many."""
        if self._workers:
            return self._workers
        if self._max_workers:
            # No machine comes to a Ray that lives on this one alone.
            return min(self._max_workers, room) if self._address == "local" else self._max_workers
        # One waits where there is no room at all, so that an autoscaler starts from nothing.
        return max(1, room)

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
