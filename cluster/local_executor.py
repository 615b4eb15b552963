"""Tasks run in this process, one after the other: for debugging, and for most tests."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Self

from circuit_atlas.cluster.executor import (
    Event,
    Job,
    TaskDone,
    TaskLost,
    TaskStarted,
    Worker,
    WorkersReady,
)
from circuit_atlas.cluster.retries import Backlog, Policy, describe, retryable
from circuit_atlas.storage_schema.errors import InfrastructureError
from circuit_atlas.storage_schema.records import Receipt

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task


class LocalExecutor:
    """One worker in this process.

    Nothing can end a task that hangs, so the policy's deadline is not kept. A task that takes its
    process down takes the run with it; the next run resumes.
    """

    workers = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def run(
        self, tasks: Sequence[Task], job: Job, *, policy: Policy
    ) -> Generator[Event, None, None]:
        """Runs the tasks as `Executor.run` says."""
        backlog = Backlog(tasks, policy)
        if not backlog:
            return
        worker = _open(job)
        yield WorkersReady(1)
        layer: str | None = None
        while backlog:
            task = backlog.take(layer=layer)
            layer = task.layer
            yield TaskStarted(task)
            outcome = _outcome(worker, task)
            if isinstance(outcome, InfrastructureError):
                yield TaskLost(task, outcome, backlog.lost(task))
            else:
                yield TaskDone(task, outcome)


def _open(job: Job) -> Worker:
    try:
        return job.open()
    except Exception as error:
        raise retryable(error, doing="a worker could not start") from error


def _outcome(worker: Worker, task: Task) -> tuple[Receipt, ...] | InfrastructureError:
    try:
        return worker.run(task)
    except Exception as error:
        return retryable(error, doing=f"{describe(task)} stopped its worker")
