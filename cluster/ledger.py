"""What a run did: events counted as they come, and units recorded as failed when given up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from circuit_atlas.cluster.executor import Event, StartFailed, TaskDone, TaskLost
from circuit_atlas.storage_schema.records import FailureRecord, Receipt, State

# Nobody reads more of them in a terminal, and a run of any size keeps no more; the store has all.
_MOST_FAILURES = 1000


@dataclass(frozen=True)
class Summary:
    """What a run did. A unit counts once: in `done`, `dead`, `failed`, `lost` or `skipped`; and so
    does a channel of a convolution in a run that makes feature visualizations.

    Attributes:
        done: units computed and committed.
        dead: units committed whose response never changes.
        failed: units recorded as failed for a reason of their own.
        lost: units recorded as failed because their worker was lost or late, past all retries.
        skipped: units that were committed before.
        retried: tasks that were lost and tried again.
        failures: the receipts of the failed and the lost units, of either the first thousand.
        size_bytes: bytes of the committed units.
        compute_s: seconds that the committed units took their workers, together.
        wall_s: seconds that the run took.
        channels: how many of all these are channels.
        failed_starts: workers that did not start, or were lost while they did. Default: 0.
        left: missing units that the run was not to build. Default: 0.
        left_out: images that a build could not read. Default: 0.
        passed_over: how many files of each suffix a build found beside its images and took for
            none. Default: none.
    """

    done: int
    dead: int
    failed: int
    lost: int
    skipped: int
    retried: int
    failures: tuple[Receipt, ...]
    size_bytes: int
    compute_s: float
    wall_s: float
    channels: int = 0
    failed_starts: int = 0
    left: int = 0
    left_out: int = 0
    passed_over: Mapping[str, int] = field(default_factory=dict)


class Ledger:
    """Counts what events say, and records the units of tasks that are given up."""

    def __init__(self) -> None:
        self._states: Counter[State] = Counter()
        self._failed: list[Receipt] = []
        self._lost: list[Receipt] = []
        self._lost_units = 0
        self._retried = 0
        self._failed_starts = 0
        self._size_bytes = 0
        self._compute_s = 0.0

    def note(self, event: Event, fail: Callable[[FailureRecord], Receipt]) -> None:
        """Counts an event.

        Args:
            event: the event.
            fail: records a unit as failed; returns the receipt of its commit where the worker was
                lost just after that.
        """
        if isinstance(event, TaskDone):
            for stored in event.receipts:
                self._count(replace(stored, of=event.task.of), self._failed)
        elif isinstance(event, StartFailed):
            self._failed_starts += 1
        elif isinstance(event, TaskLost) and event.will_retry:
            self._retried += 1
        elif isinstance(event, TaskLost):
            trace = "".join(getattr(event.error, "__notes__", ()))
            for key in event.task.units:
                record = FailureRecord(key, event.error.kind, str(event.error), trace)
                receipt = replace(fail(record), of=event.task.of)
                self._lost_units += receipt.state == "failed"
                self._count(receipt, self._lost)

    def summary(self, *, skipped: int, wall_s: float, channels: int = 0) -> Summary:
        """Sums up the run.

        Args:
            skipped: how many units were there before.
            wall_s: seconds that the run took.
            channels: how many of all these are channels. Default: 0.
        """
        return Summary(
            done=self._states["done"],
            dead=self._states["dead"],
            failed=self._states["failed"] - self._lost_units,
            lost=self._lost_units,
            skipped=skipped,
            retried=self._retried,
            failures=(*self._failed, *self._lost),
            size_bytes=self._size_bytes,
            compute_s=self._compute_s,
            wall_s=wall_s,
            channels=channels,
            failed_starts=self._failed_starts,
        )

    def _count(self, receipt: Receipt, failures: list[Receipt]) -> None:
        """Counts a unit, and keeps its receipt where it failed and not too many did."""
        self._states[receipt.state] += 1
        if receipt.state != "failed":
            self._size_bytes += receipt.size_bytes
            self._compute_s += receipt.compute_s
        elif len(failures) < _MOST_FAILURES:
            failures.append(receipt)
