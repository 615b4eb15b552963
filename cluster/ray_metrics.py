"""What a run tells Ray's own metrics, which Prometheus reads from every machine of the cluster.

The driver counts, from the events of the run. Ray puts `ray_` before each name, and `_total` behind
that of a counter.
"""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

from circuit_atlas.cluster.executor import (
    UNITS,
    Event,
    Planned,
    TaskDone,
    TaskLost,
    TaskStarted,
    WorkersReady,
)

_STAGE = ("stage",)
# Seconds that a unit takes: from a tiny network to one that takes hours.
_SECONDS = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0]


class RayMetrics:
    """The metrics of the runs of one executor; Ray has to be connected. Each has the tag `stage`,
    the name of an `executor.Stage`, but for the number of workers."""

    def __init__(self) -> None:
        self._done = Counter(
            "circuit_atlas_units_done",
            "Units, or whatever else the stage counts, that are stored, dead units included.",
            _STAGE,
        )
        self._failed = Counter(
            "circuit_atlas_units_failed", "Those that failed, past all retries.", _STAGE
        )
        self._bytes = Counter("circuit_atlas_bytes_written", "Bytes of the stored ones.", _STAGE)
        self._seconds = Counter(
            "circuit_atlas_compute_seconds",
            "Seconds that the stored ones took their workers, together.",
            _STAGE,
        )
        # Its sum is made of the middles of its intervals, so it is no second way to the same.
        self._spread = Histogram(
            "circuit_atlas_unit_seconds",
            "Seconds that each of the stored ones took its worker.",
            _SECONDS,
            _STAGE,
        )
        self._waiting = Gauge(
            "circuit_atlas_units_waiting", "Those that wait for a worker.", _STAGE
        )
        self._workers = Gauge("circuit_atlas_workers", "Workers that are ready or at a task.")
        self._stage = {"stage": UNITS.name}
        self._queued = 0

    def note(self, event: Event) -> None:
        """Counts an event."""
        if isinstance(event, Planned):
            self._stage = {"stage": event.stage.name}
            self._queued = 0
            self._queue(event.count + event.channels)
        elif isinstance(event, WorkersReady):
            self._workers.set(event.count)
        elif isinstance(event, TaskStarted):
            self._queue(-len(event.task.units))
        elif isinstance(event, TaskDone):
            stored = [receipt for receipt in event.receipts if receipt.state != "failed"]
            self._count(self._done, len(stored))
            self._count(self._failed, len(event.receipts) - len(stored))
            self._count(self._bytes, sum(receipt.size_bytes for receipt in stored))
            self._count(self._seconds, sum(receipt.compute_s for receipt in stored))
            for receipt in stored:
                self._spread.observe(receipt.compute_s, self._stage)
        elif isinstance(event, TaskLost) and event.will_retry:
            self._queue(len(event.task.units))
        elif isinstance(event, TaskLost):
            self._count(self._failed, len(event.task.units))

    def _count(self, counter: Counter, count: float) -> None:
        # Ray takes it for an error to add nothing.
        if count:
            counter.inc(count, self._stage)

    def _queue(self, more: int) -> None:
        self._queued += more
        self._waiting.set(self._queued, self._stage)
