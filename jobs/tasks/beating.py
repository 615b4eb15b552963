"""A worker's heartbeat in the store, as long as it is at a task."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from circuit_atlas.jobs.tasks.plan import Task
from circuit_atlas.jobs.tasks.progress import Progress
from circuit_atlas.storage_schema import heartbeat
from circuit_atlas.storage_schema.errors import StoreError
from circuit_atlas.storage_schema.heartbeat import Heartbeat
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.patience import Patience

# A task that takes no longer costs no request.
_FIRST_S = 1.0
# A store that does not answer holds up the next task for so long at most.
_PATIENCE_S = 5.0
_INTERRUPTED_S = 0.5


@dataclass(frozen=True)
class Beating:
    """Writes what a worker is at into the store.

    Attributes:
        objects: the store.
        progress: the worker's.
        stage: of the run that it works for.
        joined_s: when the worker was ready, in seconds since 1970 UTC. Default: now.
    """

    objects: Objects
    progress: Progress
    stage: str
    joined_s: float = field(default_factory=time.time)

    @contextlib.contextmanager
    def during(self, task: Task) -> Iterator[None]:
        """Writes a heartbeat a second after the task's start and every 12 s from then, and removes
        it at its end. Whatever the store says to that, the task goes on."""
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(task, ended), daemon=True)
        beat.start()
        patience_s = _PATIENCE_S
        try:
            yield
        except KeyboardInterrupt:
            patience_s = _INTERRUPTED_S
            raise
        finally:
            ended.set()
            beat.join(patience_s)

    def _beat(self, task: Task, ended: threading.Event) -> None:
        started_s, wait_s, written = time.time(), _FIRST_S, False
        # What is late is of no use to anybody.
        store = Objects(self.objects.store, location=self.objects.location, patience=Patience(0))
        while not ended.wait(wait_s):
            wait_s, written = heartbeat.EVERY_S, True
            with contextlib.suppress(StoreError):
                heartbeat.write(store, self._now(task, started_s))
        if written:
            with contextlib.suppress(StoreError):
                heartbeat.remove(store, self.progress.worker)

    def _now(self, task: Task, started_s: float) -> Heartbeat:
        receipts = self.progress.receipts()
        return Heartbeat(
            worker=self.progress.worker,
            stage=self.stage,
            joined_s=self.joined_s,
            started_s=started_s,
            written_s=time.time(),
            units=len(task.units),
            ended=len(receipts),
            failed=sum(receipt.state == "failed" for receipt in receipts),
            activity=self.progress.activity(),
        )
