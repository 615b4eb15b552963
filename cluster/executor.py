"""What every way of running tasks has in common: a worker, a job that opens one, and events.

An executor takes tasks and says what becomes of them, one event at a time. It knows no store: the
workers write there, and what comes back is a receipt a unit. The caller (`run.build`) turns events
into failure records, counts and progress.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self

from circuit_atlas.cluster.retries import Policy
from circuit_atlas.storage_schema.errors import InfrastructureError
from circuit_atlas.storage_schema.records import Receipt

if TYPE_CHECKING:  # at run time a driver would load torch for the name of a type alone
    from circuit_atlas.jobs.tasks.plan import Task


class Worker(Protocol):
    """Runs tasks one after the other, in one process."""

    def run(self, task: Task) -> tuple[Receipt, ...]:
        """One receipt a unit, failed units included.

        Raises InfrastructureError when the task is worth another try elsewhere, another AtlasError
        when no task of this run can succeed (a full disk).
        """
        ...


class Job(Protocol):
    """What a worker is made from. Picklable, and small enough to send to every worker."""

    @property
    def threads(self) -> int:
        """Threads a worker computes with."""
        ...

    def open(self) -> Worker:
        """Load what all tasks share. An AtlasError from here ends the run."""
        ...


@dataclass(frozen=True)
class Planned:
    """Before any worker starts: what this run has to do, what was there already, and what a person
    should know beforehand.

    Attributes:
        units: units that it has to do.
        skipped: units and channels that were done before.
        tasks: what they are done in.
        remarks: a line each.
        channels: channels of convolutions beside the units, which get feature visualizations too.
        work: what is done.
    """

    units: int
    skipped: int
    tasks: int
    remarks: tuple[str, ...] = ()
    channels: int = 0
    work: Literal["build", "features"] = "build"


@dataclass(frozen=True)
class WorkersReady:
    """One more worker has loaded the model; `count` are at work or could be."""

    count: int


@dataclass(frozen=True)
class TaskStarted:
    task: Task


@dataclass(frozen=True)
class TaskDone:
    task: Task
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True)
class TaskLost:
    """The worker or its deadline failed, not the units. Without another try, `run.build` records
    the units as failed."""

    task: Task
    error: InfrastructureError
    will_retry: bool


Event = Planned | WorkersReady | TaskStarted | TaskDone | TaskLost


class Executor(Protocol):
    """Entered once around `run`; leaving it gives back every process that entering it started."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    @property
    def workers(self) -> int:
        """How many tasks run at once, known once entered."""
        ...

    def run(
        self, tasks: Sequence[Task], job: Job, *, policy: Policy
    ) -> Generator[Event, None, None]:
        """Run every task to its end or past its retries, in any order.

        Closing the generator, or an exception in it, stops the workers at once. Raises the
        worker's AtlasError where the whole run cannot go on.
        """
        ...
