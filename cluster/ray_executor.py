"""Tasks run on Ray: one actor a worker, and a loop in the driver that makes every decision.

Ray restarts and retries nothing here (`max_restarts=0`, `max_task_retries=0`). The driver waits on
one call an actor, replaces an actor that died or ran past its deadline, and queues its task again.
Actors that Ray restarts under such a loop livelocked it in one of four runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
import warnings
from collections.abc import Callable, Generator, Sequence
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
from circuit_atlas.cluster.process import environment, interrupts_deferred, sigterm_kept
from circuit_atlas.cluster.retries import Backlog, Policy, describe, late, one_line, retryable
from circuit_atlas.storage_schema.errors import (
    InfrastructureError,
    InputError,
    WorkerLostError,
)
from circuit_atlas.storage_schema.records import Receipt

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task

# Only receipts pass through the object store; Ray's default is a third of the memory.
_OBJECT_STORE_BYTES = 256 * 2**20
# How often the driver looks at deadlines when nothing happens.
_TICK_S = 0.5
_KNOCK_S = 10.0
# How often an actor is told to end that does not: a process may take seconds to start.
_KILLS = 60
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# What Ray leaves in this process' environment, where it would reach programs started later.
_LEFT = ("RAY_AUTH_MODE", "RAY_CLIENT_MODE", "PYTHONBREAKPOINT")
# By default a Ray reports its use to its makers over the network.
_NO_REPORTS = {"RAY_USAGE_STATS_ENABLED": "0"}


class _Host:
    """The actor. It opens the job in a method, so that an error from there arrives as itself."""

    _worker: Worker

    def open(self, job: Job) -> tuple[Receipt, ...]:
        self._worker = job.open()
        return ()

    def run(self, task: Task) -> tuple[Receipt, ...]:
        return self._worker.run(task)


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
            with contextlib.ExitStack() as session:
                session.enter_context(environment({name: os.environ.get(name) for name in _LEFT}))
                session.callback(_shut_down)
                self._connect()
                self._session = session.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._session.close()

    @property
    def workers(self) -> int:
        """How many tasks run at once, as `Executor.workers` says."""
        if self._workers:
            return self._workers
        total = _resources()
        room = total.get("CPU", 0) // self._threads
        return max(1, int(min(room, total.get("GPU", 0)) if self._gpus() else room))

    def run(
        self, tasks: Sequence[Task], job: Job, *, policy: Policy
    ) -> Generator[Event, None, None]:
        """Runs the tasks as `Executor.run` says."""
        backlog = Backlog(tasks, policy)
        actor = ray.remote(_Host).options(
            num_cpus=self._threads,
            num_gpus=self._gpus(),
            max_restarts=0,
            max_task_retries=0,
            # Read once, when torch and its libraries load: so it must stand there before.
            runtime_env={"env_vars": dict.fromkeys(_THREADS, str(self._threads))},
        )
        crew = _Crew(actor, job)
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

    def _connect(self) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address == "local":
            options |= {
                "num_cpus": self._workers * self._threads or None,
                "object_store_memory": _OBJECT_STORE_BYTES,
                "include_dashboard": False,
                "_temp_dir": None if self._temp_dir is None else str(self._temp_dir),
            }
        # Nobody knows the processes of a Ray that is half started; joining one starts none.
        local = interrupts_deferred() if self._address == "local" else contextlib.nullcontext()
        try:
            _knock(self._address)
            with local, environment(_NO_REPORTS), sigterm_kept(), warnings.catch_warnings():
                # Some versions announce a change of CUDA_VISIBLE_DEVICES for workers without GPU.
                warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
                ray.init(self._address, **options)
        except Exception as error:
            # A Ray that does not start in time raises a bare Exception.
            known = (OSError, RuntimeError, ValueError, RayError)
            if type(error) is not Exception and not isinstance(error, known):
                raise
            raise InfrastructureError(_unconnected(self._address, error)) from error
        total = _resources()
        short = total.get("CPU", 0) < self._threads or total.get("GPU", 0) < self._gpus()
        if self._address == "local" and short:
            raise InputError(
                f"no worker fits on this machine: each takes {self._threads} CPUs and "
                f"{self._gpus()} GPUs, and Ray finds {total.get('CPU', 0):.0f} and "
                f"{total.get('GPU', 0):.0f}; lower `threads` or change `device` under [run]"
            )

    def _gpus(self) -> int:
        if self._device == "auto":
            return int(_resources().get("GPU", 0) >= 1)
        return int(self._device == "cuda")


def _unconnected(address: str, error: Exception) -> str:
    if address == "local":
        return (
            f"Ray does not start on this machine: {one_line(str(error))}; try again when it is "
            "less busy, or do without Ray by `--executor local`"
        )
    return (
        f"cannot connect to a Ray at {address!r}: {one_line(str(error))}; "
        'start one with `ray start --head`, or use the address "local"'
    )


_Outcome = tuple[Receipt, ...] | InfrastructureError


@dataclass(frozen=True)
class _Duty:
    """What an actor is at: a task, or (None) its start."""

    actor: Any
    task: Task | None
    since_s: float


class _Crew:
    """The actors of one run, each starting, at a task, or idle."""

    def __init__(self, actor: Any, job: Job) -> None:
        self._actor = actor
        self._job = ray.put(job)
        self._duties: dict[Any, _Duty] = {}
        self.idle: list[Any] = []

    @property
    def size(self) -> int:
        return len(self._duties) + len(self.idle)

    @property
    def starting(self) -> int:
        return sum(duty.task is None for duty in self._duties.values())

    @property
    def busy(self) -> bool:
        return self.starting < len(self._duties)

    def hire(self, count: int) -> None:
        for _ in range(count):
            actor = self._actor.remote()
            self._duties[actor.open.remote(self._job)] = _Duty(actor, None, time.monotonic())

    def assign(self, task: Task) -> Task:
        actor = self.idle.pop()
        self._duties[actor.run.remote(task)] = _Duty(actor, task, time.monotonic())
        return task

    def finished(self, policy: Policy) -> list[tuple[Task | None, _Outcome]]:
        """Wait for a moment; then what ended, was lost, or is late. No task: a worker's start."""
        done, _ = ray.wait(list(self._duties), num_returns=1, timeout=_TICK_S)
        results: list[tuple[Task | None, _Outcome]] = []
        for reference in done:
            duty = self._duties.pop(reference)
            outcome = _outcome(reference, duty.task)
            if isinstance(outcome, InfrastructureError):
                ray.kill(duty.actor)
            else:
                self.idle.append(duty.actor)
            results.append((duty.task, outcome))
        now_s = time.monotonic()
        for reference, duty in list(self._duties.items()):
            late_s = now_s - duty.since_s
            if duty.task is not None and late_s > policy.deadline_s:
                del self._duties[reference]
                ray.kill(duty.actor)
                results.append((duty.task, late(duty.task, policy)))
            elif late_s > policy.start_s and self.starting == self.size:
                raise WorkerLostError(
                    f"no worker started within {policy.start_s:g} s; the cluster has "
                    f"{one_line(str(_resources()))}; ask for less under [run], or add "
                    "machines"
                )
        return results

    def dismiss(self) -> None:
        """End every actor at once; what they have committed stays."""
        for actor in self.idle:
            ray.kill(actor)
        for _ in range(_KILLS):
            for duty in self._duties.values():
                ray.kill(duty.actor)
            # A kill can miss an actor whose process is just starting, which would then hold its
            # CPUs for ever. Its call fails once it is gone.
            waiting = list(self._duties)
            done = (
                ray.wait(waiting, num_returns=len(waiting), timeout=_TICK_S)[0] if waiting else []
            )
            for reference in done:
                del self._duties[reference]
            if not self._duties:
                return


def _shut_down() -> None:
    with interrupts_deferred():
        ray.shutdown()


def _outcome(reference: Any, task: Task | None) -> _Outcome:
    doing = "a worker could not start" if task is None else f"{describe(task)} stopped its worker"
    try:
        receipts: tuple[Receipt, ...] = ray.get(reference)
        return receipts
    except RayTaskError as error:
        cause, trace = error.cause, str(error)
    except RayError as error:
        return WorkerLostError(
            f"{doing}: its process ended ({one_line(str(error))}); where memory ran out, use "
            "fewer workers or a smaller batch_size"
        )
    return retryable(cause, doing=doing, trace=trace)


def _knock(address: str) -> None:
    """OSError where nobody listens at "host:port": Ray itself would try for three minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def _resources() -> dict[str, float]:
    """What the cluster has in all, in use or not: "CPU", "GPU" and others."""
    total: Callable[[], dict[str, float]] = ray.cluster_resources
    return total()
