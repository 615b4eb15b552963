"""Tasks run in this process, one after the other: for debugging, and for most tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Self

from circuit_atlas.cluster.executor import (
    PROGRESS_EVERY_S,
    Event,
    Job,
    TaskDone,
    TaskLost,
    TaskProgress,
    TaskStarted,
    Waiting,
    Worker,
    WorkersReady,
    unwatched,
)
from circuit_atlas.cluster.retries import Backlog, Policy, describe, retryable, unclaimed
from circuit_atlas.storage_schema.errors import InfrastructureError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.records import Receipt

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task

# How often is asked again for units that other builds are at.
_TICK_S = 0.5


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

    def observe(self, event: Event) -> None:
        """Keeps no metrics."""
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
        """Runs the tasks as `Executor.run` says."""
        backlog = Backlog(tasks, policy, claim)
        if not backlog:
            return
        worker = _open(job)
        yield WorkersReady(1)
        layer: str | None = None
        while backlog:
            task = backlog.take(layer=layer)
            if task is None:
                yield Waiting(backlog.units)
                time.sleep(_TICK_S)
                continue
            layer, name = task.layer, worker.progress.worker
            yield TaskStarted(task, name)
            looking = _Looking(worker, task, on_progress)
            worker.progress.listener = looking.look
            outcome = _outcome(worker, task)
            looking.end()
            if isinstance(outcome, InfrastructureError):
                yield TaskLost(task, outcome, backlog.lost(task), name)
            else:
                yield TaskDone(task, outcome, name)


class _Looking:
    """Passes on what the worker is at, called by the code that computes.

    What `on_progress` raises is no fault of that code: it is raised once the task has ended.
    """

    def __init__(
        self, worker: Worker, task: Task, on_progress: Callable[[TaskProgress], None]
    ) -> None:
        self._worker, self._task, self._on_progress = worker, task, on_progress
        self._due_s = time.monotonic() + PROGRESS_EVERY_S
        self._raised: Exception | None = None

    def look(self) -> None:
        if time.monotonic() < self._due_s or self._raised is not None:
            return
        self._due_s = time.monotonic() + PROGRESS_EVERY_S
        progress = self._worker.progress
        try:
            self._on_progress(
                TaskProgress(self._task, progress.worker, progress.receipts(), progress.activity())
            )
        except Exception as error:
            self._raised = error

    def end(self) -> None:
        if self._raised is not None:
            raise self._raised


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
