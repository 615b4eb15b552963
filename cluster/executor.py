"""What every way of running tasks has in common: a worker, a job that opens one, and events.

An executor takes tasks and says what becomes of them, one event at a time. It knows no store: the
workers write there, and what comes back is a receipt a unit. The caller (`work.run_work`) turns
events into failure records, counts and progress.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from circuit_atlas.cluster.retries import Policy, unclaimed
from circuit_atlas.storage_schema.claim import Claim
from circuit_atlas.storage_schema.errors import InfrastructureError
from circuit_atlas.storage_schema.heartbeat import Activity
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.patience import Outage
from circuit_atlas.storage_schema.records import Receipt

if TYPE_CHECKING:  # at run time a driver would load torch for the name of a type alone
    from circuit_atlas.jobs.tasks.plan import Task
    from circuit_atlas.jobs.tasks.progress import Progress

PROGRESS_EVERY_S = 2.0
"""How often an executor tells what the workers are at."""


class Worker(Protocol):
    """Runs tasks one after the other, in one process."""

    @property
    def progress(self) -> Progress:
        """What it is at; another thread may look while a task runs."""
        ...

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
class Stage:
    """One kind of work; a run goes through one stage or several, one after the other.

    Attributes:
        name: in logs and metrics.
        noun: what is counted, in the singular.
        to_do: what is still to be done with them, after their number.
        done: what was done with others before.
    """

    name: str
    noun: str
    to_do: str
    done: str


UNITS = Stage("units", "unit", "to build", "are there")
"""Circuits of units are computed."""
IMAGES = Stage("images", "chunk", "of images to prepare", "are prepared")
"""Images are decoded and stored, many to a chunk."""
RESPONSES = Stage("responses", "chunk", "of images to put through the network", "are done")
"""What all images do to units is found, many images to a chunk."""
FEATURES = Stage("features", "unit", "to get feature visualizations", "have theirs")
"""Feature visualizations are made."""


@dataclass(frozen=True)
class Planned:
    """What a stage has to do, told before any of its tasks starts.

    Attributes:
        count: how many units it has to do, or whatever else its noun names.
        skipped: how many, channels included, were done before.
        tasks: how many tasks they are done in.
        remarks: what a person should know beforehand, a line each. Default: nothing.
        channels: how many channels of convolutions get feature visualizations beside the units.
            Default: 0.
        stage: which it is. Default: `UNITS`.
    """

    count: int
    skipped: int
    tasks: int
    remarks: tuple[str, ...] = ()
    channels: int = 0
    stage: Stage = UNITS


@dataclass(frozen=True)
class WorkersReady:
    """One more worker has loaded the model; `count` are at work or could be."""

    count: int


@dataclass(frozen=True)
class StartFailed:
    """A worker did not start, or was lost while it did; another is started in its place, the
    machine left alone for a while."""

    error: InfrastructureError


@dataclass(frozen=True)
class HeadLost:
    """The head of the cluster is gone, with all workers: it is waited for, and what they were at is
    tried again."""

    error: InfrastructureError


@dataclass(frozen=True)
class BuildMet:
    """Another build of this atlas is at work; what it is at is left to it, to the last."""

    build: Claim


@dataclass(frozen=True)
class Waiting:
    """A worker has nothing to do: other builds are at all units, so many, that wait."""

    units: int


@dataclass(frozen=True)
class TaskStarted:
    """A worker, of that name, has begun with a task."""

    task: Task
    worker: str = ""


@dataclass(frozen=True)
class TaskProgress:
    """What a worker is at: told every two seconds or so, and missing where a task is short.

    Attributes:
        task: its task.
        worker: its name.
        receipts: of the task's units that are stored or failed so far. They come again with
            `TaskDone`.
        activity: the units that it computes, and the step; None before the first.
    """

    task: Task
    worker: str
    receipts: tuple[Receipt, ...]
    activity: Activity | None


@dataclass(frozen=True)
class TaskDone:
    """A task has ended, with one receipt a unit."""

    task: Task
    receipts: tuple[Receipt, ...]
    worker: str = ""


@dataclass(frozen=True)
class TaskLost:
    """The worker failed or was too late, not the units. Without another try, the run records the
    units as failed."""

    task: Task
    error: InfrastructureError
    will_retry: bool
    worker: str = ""


@dataclass(frozen=True)
class Damaged:
    """The atlas is damaged: what was met, or what was done about it, a line each. The run begins
    anew after that."""

    lines: tuple[str, ...]


Event = (
    Planned
    | WorkersReady
    | StartFailed
    | HeadLost
    | BuildMet
    | Waiting
    | TaskStarted
    | TaskProgress
    | TaskDone
    | TaskLost
    | Outage
    | Damaged
)


def unwatched(progress: TaskProgress) -> None:
    """Is told of progress where nobody looks on."""
    del progress


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

    def observe(self, event: Event) -> None:
        """Sees every event of a run, `Planned` first, for metrics of the executor's own."""
        ...

    def run(
        self,
        tasks: Sequence[Task],
        job: Job,
        *,
        policy: Policy,
        claim: Callable[[Task], Sequence[UnitKey]] = unclaimed,
        on_progress: Callable[[TaskProgress], None] = unwatched,
    ) -> Generator[Event, None, None]:
        """Runs every task to its end or past its retries, in any order.

        Before a task is given to a worker, `claim` gives those of its units that no other build is
        at; the rest comes last. While a task runs, `on_progress` is told what its worker is at, in
        this thread.

        Closing the generator, or an exception in it, stops the workers at once. Raises the
        worker's AtlasError where the whole run cannot go on.
        """
        ...
