"""The actors of one run on Ray: hired, given tasks, watched, and dismissed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError

from circuit_atlas.cluster.executor import Job, Worker
from circuit_atlas.cluster.ray_session import cluster_resources
from circuit_atlas.cluster.retries import Policy, describe, late, one_line, retryable
from circuit_atlas.storage_schema.errors import InfrastructureError, WorkerLostError
from circuit_atlas.storage_schema.records import Receipt

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task

# How often the driver looks at deadlines when nothing happens.
_TICK_S = 0.5
# How often an actor is told to end that does not: a process may take seconds to start.
_KILLS = 60
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


class _Host:
    """The actor. It opens the job in a method, so that an error from there arrives as itself."""

    _worker: Worker

    def open(self, job: Job) -> tuple[Receipt, ...]:
        self._worker = job.open()
        return ()

    def run(self, task: Task) -> tuple[Receipt, ...]:
        return self._worker.run(task)


_Outcome = tuple[Receipt, ...] | InfrastructureError


@dataclass(frozen=True)
class _Duty:
    """What an actor is at: a task, or (None) its start."""

    actor: Any
    task: Task | None
    since_s: float


class Crew:
    """The actors of one run, each starting, at a task, or idle.

    Args:
        job: what each opens its worker from.
        threads: CPUs that each takes, and threads that it computes with.
        gpus: GPUs that each takes.
    """

    def __init__(self, job: Job, *, threads: int, gpus: int) -> None:
        self._actor = ray.remote(_Host).options(
            num_cpus=threads,
            num_gpus=gpus,
            max_restarts=0,
            max_task_retries=0,
            # Read once, when torch and its libraries load: so it must stand there before.
            runtime_env={"env_vars": dict.fromkeys(_THREADS, str(threads))},
        )
        self._job = ray.put(job)
        self._duties: dict[Any, _Duty] = {}
        self.idle: list[Any] = []

    @property
    def size(self) -> int:
        """How many there are, those that start included."""
        return len(self._duties) + len(self.idle)

    @property
    def starting(self) -> int:
        """How many have not loaded the model yet."""
        return sum(duty.task is None for duty in self._duties.values())

    @property
    def busy(self) -> bool:
        """Whether any is at a task."""
        return self.starting < len(self._duties)

    def hire(self, count: int) -> None:
        """Has so many more start, each where the cluster has room for it."""
        for _ in range(count):
            actor = self._actor.remote()
            self._duties[actor.open.remote(self._job)] = _Duty(actor, None, time.monotonic())

    def assign(self, task: Task) -> Task:
        """Gives an idle actor a task, and returns the task."""
        actor = self.idle.pop()
        self._duties[actor.run.remote(task)] = _Duty(actor, task, time.monotonic())
        return task

    def finished(self, policy: Policy) -> list[tuple[Task | None, _Outcome]]:
        """Waits for a moment; gives what ended, was lost, or is late. No task: a worker's start."""
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
                    f"{one_line(str(cluster_resources()))}; ask for less under [run], or add "
                    "machines"
                )
        return results

    def dismiss(self) -> None:
        """Ends every actor at once; what they have committed stays."""
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
