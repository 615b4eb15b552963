"""What a run has to do, and the doing of it: tasks go to the executor, and events come back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from circuit_atlas.cluster.claims import Claims, Presence
from circuit_atlas.cluster.executor import BuildMet, Event, Executor, Job, Planned
from circuit_atlas.cluster.ledger import Ledger, Summary
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.retries import Policy
from circuit_atlas.jobs.spec.run import RunSpec
from circuit_atlas.jobs.tasks.plan import Task
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.records import FailureRecord, Receipt

# A store that does not answer holds up no build for what is a hint.
_HINTS_S = 1.0


@dataclass(frozen=True)
class Work:
    """The work of one run, settled before any worker starts.

    Attributes:
        planned: how much there is; its tasks are not counted yet.
        tasks: gives the tasks, cut for so many workers.
        job: what each worker is made from.
        fail: records a unit as failed whose worker was lost; returns the receipt of its commit
            where there is one all the same.
        channels: how many channels of convolutions the spec asks for, done before or not.
    """

    planned: Planned
    tasks: Callable[[int], Sequence[Task]]
    job: Job
    fail: Callable[[FailureRecord], Receipt]
    channels: int = 0


class Session:
    """An executor through the stages of one run, and the run's presence in its store: entered when
    there is the first work, and left once, at the end."""

    def __init__(self, executor: Executor) -> None:
        """Takes the executor, and enters nothing yet."""
        self._executor = executor
        self._presence: Presence | None = None
        self._entered = contextlib.ExitStack()
        self._is_entered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._entered.close()

    def executor(self) -> Executor:
        """Gives the executor, entered."""
        if not self._is_entered:
            self._entered.enter_context(self._executor)
            self._is_entered = True
        return self._executor

    def presence(self, store: str) -> Presence:
        """Gives the run's presence in its store, entered."""
        if self._presence is None:
            self._presence = self._entered.enter_context(
                Presence(open_store(store, patience_s=_HINTS_S))
            )
        return self._presence


def run_work(
    work: Work,
    run: RunSpec,
    *,
    session: Session,
    on_event: Callable[[Event], None] | None,
    started_s: float,
    here: bool = False,
) -> Summary:
    """Runs the work's tasks to their end; without work, no executor is entered.

    Args:
        work: what to do.
        run: names the store, and gives retries and deadline.
        session: how tasks reach workers.
        on_event: sees every event as it comes.
        started_s: when the run began, by `time.monotonic`.
        here: whether tasks run in this process all the same. Default: not.
    """
    ledger = Ledger()
    if work.planned.count or work.planned.channels:
        executor = LocalExecutor() if here else session.executor()
        presence = session.presence(run.store)

        def note(event: Event) -> None:
            executor.observe(event)
            if on_event is None:
                return
            on_event(event)
            for other in presence.met():
                on_event(BuildMet(other))

        tasks = work.tasks(executor.workers)
        note(replace(work.planned, tasks=len(tasks)))
        policy = Policy(retries=run.retries, deadline_s=run.deadline_s)
        with Claims(presence, work.planned.stage.name) as claims:
            running = executor.run(
                tasks, work.job, policy=policy, claim=claims.claim, on_progress=note
            )
            with contextlib.closing(running) as events:
                for event in events:
                    claims.note(event)
                    ledger.note(event, work.fail)
                    note(event)
    elif on_event is not None:
        on_event(work.planned)
    return ledger.summary(
        skipped=work.planned.skipped,
        wall_s=time.monotonic() - started_s,
        channels=work.channels,
    )


def ignore(event: Event) -> None:
    """Is told of events where nobody looks on."""
    del event
