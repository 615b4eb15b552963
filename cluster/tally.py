"""What a run has done so far, counted from its events: the rate, the time left, what runs now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from circuit_atlas.cluster.executor import (
    UNITS,
    BuildMet,
    Damaged,
    Event,
    HeadLost,
    Planned,
    StartFailed,
    TaskDone,
    TaskLost,
    TaskProgress,
    TaskStarted,
    Waiting,
    WorkersReady,
)
from circuit_atlas.storage_schema.claim import Claim
from circuit_atlas.storage_schema.heartbeat import Activity
from circuit_atlas.storage_schema.patience import Outage
from circuit_atlas.storage_schema.records import Receipt

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task


class Tally:
    """Counts units of the present stage, for the rate and the time left. A channel of a convolution
    that gets a feature visualization counts as a unit does, and is called a channel.

    Attributes:
        stage: the stage.
        noun: what is counted, in the plural.
        total: how many there are to do.
        skipped: how many were done before.
        ended: how many are stored or failed, those of tasks that still run included.
        failed: how many of them failed.
        is_waiting: whether other builds are at all that is left.
        running: tasks that a worker is at, with what was told of each last; None where nothing was.
    """

    def __init__(self) -> None:
        self.stage = UNITS
        self.noun = "units"
        self.total = 0
        self.skipped = 0
        self.running: dict[Task, TaskProgress | None] = {}
        self.ended = 0
        self.failed = 0
        self.is_waiting = False
        self._started_s: float | None = None

    @property
    def activities(self) -> tuple[Activity, ...]:
        """What the workers are at, as far as they have said so, those first that began first."""
        told = (each.activity for each in self.running.values() if each)
        return tuple(activity for activity in told if activity is not None)

    def note(self, event: Event, now_s: float) -> list[str]:
        """Counts an event; returns the lines that it is worth."""
        if isinstance(event, Planned):
            self._begin(event)
            return [f"note: {remark}" for remark in event.remarks]
        if isinstance(event, Outage):
            return [str(event)]
        if isinstance(event, Damaged):
            return [f"damaged: {line}" for line in event.lines]
        if isinstance(event, WorkersReady | TaskStarted) and self._started_s is None:
            # Not from the start: starting Ray and loading the model would pass for slow units.
            self._started_s = now_s
        if isinstance(event, BuildMet):
            return [f"note: {met_text(event.build)}"]
        if isinstance(event, StartFailed):
            return [f"starting another: {event.error}"]
        if isinstance(event, HeadLost):
            return [f"waiting for the cluster: {event.error}"]
        if isinstance(event, Waiting):
            before, self.is_waiting = self.is_waiting, True
            return [] if before else [waiting_text(event.units, self.noun)]
        if isinstance(event, TaskStarted):
            self.is_waiting = False
            self.running[event.task] = None
        elif isinstance(event, TaskProgress):
            self._take_back(event.task)
            self.running[event.task] = event
            self._count(event.receipts)
        elif isinstance(event, TaskDone):
            self._forget(event.task)
            failed = self._count(event.receipts)
            of = event.task.of
            return [f"failed: {r.key.layer} {of} {r.key.unit}: {r.message}" for r in failed]
        elif isinstance(event, TaskLost):
            self._forget(event.task)
            if event.will_retry:
                return [f"trying again: {event.error}"]
            self.ended += len(event.task.units)
            self.failed += len(event.task.units)
            return [f"given up: {event.error}"]
        return []

    def _begin(self, planned: Planned) -> None:
        self.stage, self.noun = planned.stage, f"{planned.stage.noun}s"
        self.total, self.skipped = planned.count + planned.channels, planned.skipped
        if planned.channels:
            self.noun = f"{self.noun} and channels" if planned.count else "channels"
        self.running, self.ended, self.failed, self._started_s = {}, 0, 0, None
        self.is_waiting = False

    def _count(self, receipts: Sequence[Receipt], sign: int = 1) -> list[Receipt]:
        """Counts units, or takes them back; gives those that failed."""
        failed = [receipt for receipt in receipts if receipt.state == "failed"]
        self.ended += sign * len(receipts)
        self.failed += sign * len(failed)
        return failed

    def _take_back(self, task: Task) -> None:
        """Takes back what was counted of a task while it ran."""
        told = self.running.get(task)
        if told is not None:
            self._count(told.receipts, -1)

    def _forget(self, task: Task) -> None:
        self._take_back(task)
        self.running.pop(task, None)

    def rate(self, now_s: float) -> float | None:
        """Gives units a second since the first worker was ready; None before the first unit."""
        if self._started_s is None or not self.ended or now_s <= self._started_s:
            return None
        return self.ended / (now_s - self._started_s)

    def text(self, now_s: float) -> str:
        """Writes rate, time left and failures, as far as known."""
        rate, parts = self.rate(now_s), []
        if rate is not None:
            parts += [
                rate_text(rate, self.noun),
                f"{duration((self.total - self.ended) / rate)} left",
            ]
        elif self.total:
            parts.append("starting" if self._started_s is None else f"first {self.noun} under way")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)


def met_text(other: Claim) -> str:
    """Tells of another build.

    >>> met_text(Claim("node7-12-ab", "node7", 12, 0.0))[:60]
    'another build of this atlas is at work (process 12 on node7,'
    """
    return (
        f"another build of this atlas is at work ({other}): what it is at is left to it, and both "
        "end with the whole"
    )


def waiting_text(count: int, noun: str) -> str:
    """Tells that a worker has nothing to do while another build is at the rest."""
    return f"waiting for another build, which is at the {count} {noun} that are left"


def rate_text(rate: float, noun: str) -> str:
    """Writes a rate, given a second.

    >>> rate_text(0.2, "units"), rate_text(3, "units and channels")
    ('12.0 units/min', '3.0/s')
    """
    # Both nouns would be long, and the count beside it names them.
    each = "" if " " in noun else f" {noun}"
    return f"{rate * 60:.1f}{each}/min" if rate < 1 else f"{rate:.1f}{each}/s"


def duration(seconds: float) -> str:
    """Writes a duration.

    >>> duration(42.4), duration(605), duration(7260)
    ('42s', '10m05s', '2h01m')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"
