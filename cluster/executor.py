"""What every way of running tasks has in common: a worker, a job that opens one, and events.

An executor takes tasks and says what becomes of them, one event at a time. It knows no store: the
workers write there, and what comes back is a receipt a unit. The caller (`work.run_work`) turns
events into failure records, counts and progress.
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
        """Runs a task and gives one receipt a unit, failed units included.

        Raises InfrastructureError when the task is worth another try elsewhere, another AtlasError
        when no task of this run can succeed (a full disk).
        """
        ...


class Job(Protocol):
    """What a worker is made from: picklable, and small enough to send to every worker."""

    @property
    def threads(self) -> int:
        """Threads that a worker computes with."""
        ...

    def open(self) -> Worker:
        """Loads what all tasks share. An AtlasError from here ends the run."""
        ...

    def sharing(self, workers: int) -> Job:
        """Gives the job for a machine that so many workers may share, and its memory with it."""
        ...


@dataclass(frozen=True)
class Planned:
    """What this run has to do, told before any worker starts.

    Attributes:
        units: how many units it has to do.
        skipped: how many units and channels were done before.
        tasks: how many tasks they are done in.
        remarks: what a person should know beforehand, a line each. Default: nothing.
        channels: how many channels of convolutions get feature visualizations beside the units.
            Default: 0.
        work: whether circuits are built, feature visualizations made, or images prepared, of
            which `units` then counts chunks. Default: "build".
    """

    units: int
    skipped: int
    tasks: int
    remarks: tuple[str, ...] = ()
    channels: int = 0
    work: Literal["build", "features", "images"] = "build"


@dataclass(frozen=True)
class WorkersReady:
    """One more worker has loaded the model; `count` are at work or could be."""

    count: int


@dataclass(frozen=True)
class TaskStarted:
    """A worker has begun with a task."""

    task: Task


@dataclass(frozen=True)
class TaskDone:
    """A task has ended, with one receipt a unit."""

    task: Task
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True)
class TaskLost:
    """The worker failed or was too late, not the units. Without another try, the run records the
    units as failed."""

    task: Task
    error: InfrastructureError
    will_retry: bool


Event = Planned | WorkersReady | TaskStarted | TaskDone | TaskLost


class Executor(Protocol):
    """What runs tasks. It is entered once around `run`; leaving it gives back every process that
    entering it started."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    @property
    def workers(self) -> int:
        """How many workers tasks are cut for, known once entered: more than there are at first
        where the cluster may grow."""
        ...

    def run(
        self, tasks: Sequence[Task], job: Job, *, policy: Policy
    ) -> Generator[Event, None, None]:
        """Runs every task to its end or past its retries, in any order.

        Closing the generator, or an exception in it, stops the workers at once. Raises the
        worker's AtlasError where the whole run cannot go on.
        """
        ...
