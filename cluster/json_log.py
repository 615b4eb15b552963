"""A run as a structured log: each event is one JSON object on one line.

Every line has `time`, `level`, `event`, `stage` and `message`; what else it has, by event, is in
`docs/pages/watching.md`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self, TextIO

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
from circuit_atlas.cluster.retries import describe
from circuit_atlas.cluster.tally import met_text, waiting_text
from circuit_atlas.storage_schema.heartbeat import Activity
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.patience import Outage
from circuit_atlas.storage_schema.records import Receipt

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task

# Within a step. Every two seconds, a thousand workers would fill a disk with it.
_AGAIN_S = 60.0

Level = Literal["info", "warning", "error"]
_Line = tuple[Level, str, dict[str, Any]]


class JsonLog:
    """Writes a line for each event, and for each unit as soon as it is stored or failed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stage, self._noun = UNITS.name, f"{UNITS.noun}s"
        self._is_waiting = False
        self._told: dict[Task, set[UnitKey]] = {}
        self._steps: dict[Task, tuple[str, float]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def show(self, event: Event) -> None:
        """Writes the lines of an event."""
        if isinstance(event, Planned):
            self._stage, self._noun = event.stage.name, f"{event.stage.noun}s"
            self._is_waiting = False
        for level, name, more in self._lines(event):
            line = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "level": level,
                "event": name,
                "stage": self._stage,
                **more,
            }
            self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._stream.flush()

    def _lines(self, event: Event) -> Iterator[_Line]:
        if isinstance(event, Planned):
            for remark in event.remarks:
                yield "warning", "remark", {"message": remark}
            counts = {
                "count": event.count,
                "channels": event.channels,
                "skipped": event.skipped,
                "tasks": event.tasks,
            }
            text = f"{event.count + event.channels} to do in {event.tasks} tasks"
            yield "info", "planned", {**counts, "message": text}
        elif isinstance(event, Damaged):
            for text in event.lines:
                yield "warning", "damaged", {"message": text}
        elif isinstance(event, WorkersReady):
            message = f"{event.count} worker{'' if event.count == 1 else 's'} ready"
            yield "info", "workers_ready", {"count": event.count, "message": message}
        elif isinstance(event, StartFailed | HeadLost):
            name = "start_failed" if isinstance(event, StartFailed) else "head_lost"
            yield "warning", name, {"kind": event.error.kind, "message": str(event.error)}
        elif isinstance(event, BuildMet):
            more = {**asdict(event.build), "message": met_text(event.build)}
            yield "warning", "build_met", more
        elif isinstance(event, Waiting):
            if not self._is_waiting:
                message = waiting_text(event.units, self._noun)
                yield "info", "waiting", {"count": event.units, "message": message}
            self._is_waiting = True
        elif isinstance(event, TaskStarted):
            self._is_waiting = False
            yield "info", "task_started", _of(event, f"{describe(event.task)} started")
        elif isinstance(event, TaskProgress):
            yield from self._units(event)
            if event.activity is not None and self._is_news(event.task, event.activity):
                activity = {"activity": asdict(event.activity)}
                yield "info", "task_progress", _of(event, str(event.activity)) | activity
        elif isinstance(event, TaskDone):
            yield from self._units(event)
            self._forget(event.task)
            yield "info", "task_done", _of(event, f"{describe(event.task)} done")
        elif isinstance(event, Outage):
            told = {**asdict(event), "message": str(event)}
            if event.ended_s is None:
                yield "warning", "store_out", told
            else:
                yield "info", "store_back", told
        else:
            self._forget(event.task)
            error = {"kind": event.error.kind, "will_retry": event.will_retry}
            level: Level = "warning" if event.will_retry else "error"
            yield level, "task_lost", _of(event, str(event.error)) | error

    def _is_news(self, task: Task, activity: Activity) -> bool:
        """Whether a task's worker is at another step than was told last, or a minute has passed."""
        now_s = time.monotonic()
        last = self._steps.get(task)
        if last is not None and last[0] == activity.step and now_s - last[1] < _AGAIN_S:
            return False
        self._steps[task] = (activity.step, now_s)
        return True

    def _forget(self, task: Task) -> None:
        self._told.pop(task, None)
        self._steps.pop(task, None)

    def _units(self, event: TaskProgress | TaskDone) -> Iterator[_Line]:
        """Those of its units that were not told of before."""
        told = self._told.setdefault(event.task, set())
        for receipt in event.receipts:
            if receipt.key not in told:
                told.add(receipt.key)
                yield _unit(receipt, event)


def _unit(receipt: Receipt, event: TaskProgress | TaskDone) -> _Line:
    of, key = event.task.of, receipt.key
    failed = receipt.state == "failed"
    named = f"{key.layer} {of} {key.unit}"
    more = {
        "layer": key.layer,
        "of": of,
        "unit": key.unit,
        "key": str(key),
        "worker": event.worker,
        "attempt": receipt.attempt,
        "state": receipt.state,
        "compute_s": round(receipt.compute_s, 3),
        "size_bytes": receipt.size_bytes,
        "message": f"{named}: {receipt.message}" if failed else f"{named} {receipt.state}",
    }
    if failed:
        return "error", "unit_failed", more | {"kind": receipt.kind}
    return "info", "unit_done", more


def _of(event: TaskStarted | TaskProgress | TaskDone | TaskLost, message: str) -> dict[str, Any]:
    return {
        "layer": event.task.layer,
        "of": event.task.of,
        "units": [key.unit for key in event.task.units],
        "worker": event.worker,
        "message": message,
    }
