"""Tasks run on Ray: one actor a worker, and a loop in the driver that makes every decision.

Ray restarts and retries nothing here (`max_restarts=0`, `max_task_retries=0`). The driver waits on
one call an actor, replaces an actor that died or ran past its deadline, and queues its task again.
It looks at the cluster again and again, and has a worker wherever there is room for one. Where the
head of the cluster is gone, it lets go of all actors, waits for a head, and goes on with new ones.
Actors that Ray restarts under such a loop livelocked it in one of four runs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import ray

from circuit_atlas.cluster.awake_clock import AwakeClock
from circuit_atlas.cluster.executor import (
    Event,
    HeadLost,
    Job,
    StartFailed,
    TaskDone,
    TaskLost,
    TaskProgress,
    TaskStarted,
    Waiting,
    WorkersReady,
    unwatched,
)
from circuit_atlas.cluster.machines import Machines
from circuit_atlas.cluster.process import interrupts_deferred
from circuit_atlas.cluster.ray_crew import Crew
from circuit_atlas.cluster.ray_head import Head, HeadLostError, cluster_resources
from circuit_atlas.cluster.ray_metrics import RayMetrics
from circuit_atlas.cluster.ray_session import ray_session
from circuit_atlas.cluster.ray_watch import Watch
from circuit_atlas.cluster.retries import Backlog, Policy, unclaimed
from circuit_atlas.storage_schema.errors import InfrastructureError, InputError
from circuit_atlas.storage_schema.keys import UnitKey

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task

# Tasks are cut for so many workers at least where machines may come later.
_MAY_BECOME = 16
# How often is looked whether a cluster has come back.
_KNOCK_EVERY_S = 2.0


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
        patience_s: for how long a cluster whose head is gone is waited for. Default: 600.
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
        patience_s: float = 600.0,
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
        self._patience_s = patience_s
        self._temp_dir = temp_dir
        self._is_own = False
        self._session = contextlib.ExitStack()
        self._metrics: RayMetrics | None = None

    def __enter__(self) -> Self:
        if not ray.is_initialized():
            self._connect()
        return self

    def __exit__(self, *exception: object) -> None:
        self._session.close()

    @property
    def workers(self) -> int:
        """How many the tasks are cut for, as `Executor.workers` says."""
        machines = self._machines(Head())
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
        claim: Callable[[Task], Sequence[UnitKey]] = unclaimed,
        on_progress: Callable[[TaskProgress], None] = unwatched,
    ) -> Generator[Event, None, None]:
        """Runs the tasks as `Executor.run` says."""
        backlog = Backlog(tasks, policy, claim)
        while True:
            head = Head()
            machines = self._machines(head)
            most = self._workers or self._max_workers or None
            crew = Crew(job, machines, policy, threads=self._threads, gpus=self._gpus(), most=most)
            try:
                yield from self._run(backlog, crew, machines, head, on_progress)
                return
            except HeadLostError as error:
                lost = error
            finally:
                with interrupts_deferred():
                    crew.dismiss(directly=head.is_silent)
            yield HeadLost(lost)
            for task, worker in crew.under_way():
                yield TaskLost(task, lost, backlog.lost(task, machine=True), worker)
            del crew
            self._reconnect(lost)

    def _run(
        self,
        backlog: Backlog,
        crew: Crew,
        machines: Machines,
        head: Head,
        on_progress: Callable[[TaskProgress], None],
    ) -> Generator[Event, None, None]:
        """Runs what waits on one crew; HeadLostError where the cluster is gone."""
        watch = Watch()
        while backlog or crew.busy:
            while backlog and crew.idle:
                following = backlog.take(crew.idle + crew.opening, layer=crew.layer)
                if following is None:
                    yield Waiting(backlog.units)
                    break
                yield TaskStarted(following, crew.assign(following))
            for progress in watch.look(crew.at_work()):
                on_progress(progress)
            machines.look()
            head.check()
            crew.hire(min(backlog.units, self._size(crew.room()) - crew.ready))
            for ended in crew.ended():
                outcome = ended.outcome
                if isinstance(outcome, InfrastructureError):
                    if ended.task is None:
                        yield StartFailed(outcome)
                    else:
                        again = backlog.lost(ended.task, machine=ended.machine_lost)
                        yield TaskLost(ended.task, outcome, again, ended.worker)
                elif ended.task is None:
                    yield WorkersReady(crew.ready)
                else:
                    yield TaskDone(ended.task, outcome, ended.worker)

    def _connect(self) -> None:
        """Connects to the Ray, or starts one."""
        cpus = self._workers * self._threads or None
        with contextlib.ExitStack() as session:
            session.enter_context(ray_session(self._address, cpus=cpus, temp_dir=self._temp_dir))
            self._check_room()
            self._session = session.pop_all()
            self._is_own = True

    def _reconnect(self, lost: HeadLostError) -> None:
        """Connects again, as soon as there is a Ray; raises the error where there is none in time,
        or where the connection is somebody else's."""
        if not self._is_own:
            raise lost
        self._session.close()
        until_s = time.monotonic() + self._patience_s
        while True:
            try:
                return self._connect()
            except InfrastructureError as error:
                if time.monotonic() > until_s:
                    raise InfrastructureError(
                        f"{lost}, and there is none at {self._address!r} after "
                        f"{self._patience_s:g} s; what is committed stays: run the same command "
                        "again once the cluster is back"
                    ) from error
            time.sleep(_KNOCK_EVERY_S)

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

    def _machines(self, head: Head) -> Machines:
        return Machines(
            threads=self._threads,
            gpus=self._gpus(),
            list_nodes=head.machines,
            clock=AwakeClock().now_s,
        )

    def _gpus(self) -> int:
        if self._device == "auto":
            return int(cluster_resources().get("GPU", 0) >= 1)
        return int(self._device == "cuda")
