"""How far a build is, seen from the store alone: what is there, how fast it comes, who works."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from circuit_atlas.storage_schema import heartbeat, layout
from circuit_atlas.storage_schema.heartbeat import STALE_S, Activity, Heartbeat
from circuit_atlas.storage_schema.layer_listing import list_committed, list_failures
from circuit_atlas.storage_schema.reader import Reader

WINDOW_S = 300.0
"""The rate is that of the last five minutes."""


@dataclass(frozen=True)
class WorkerState:
    """Says what a worker was at when it last wrote so.

    Attributes:
        worker: its name.
        stage: what it works for: `units`, or `features`.
        running_s: how long its task has taken.
        units: units, or channels, of its task.
        ended: those of them that are stored or failed.
        activity: which it computes together, and how far it is; None before the first.
        silent_s: how long ago it wrote that.
        silent: whether that is so long ago that it was killed, or cannot write.
    """

    worker: str
    stage: str
    running_s: float
    units: int
    ended: int
    activity: Activity | None
    silent_s: float
    silent: bool


@dataclass(frozen=True)
class StageState:
    """Says how far the units of a layer are, or the feature visualizations of one.

    Attributes:
        stage: `units`, or `features`.
        layer: the layer, or the convolution.
        of: whether `unit`s of the layer are counted or `channel`s of the convolution.
        asked: how many some build asked for.
        done: those of them that are there, dead units included.
        failed: those that failed and are not there.
    """

    stage: str
    layer: str
    of: str
    asked: int
    done: int
    failed: int

    @property
    def missing(self) -> int:
        """Count those that nobody has tried yet."""
        return self.asked - self.done - self.failed


@dataclass(frozen=True)
class BuildState:
    """Says how far a build was when it was looked at.

    Attributes:
        time_s: when that was, in seconds since 1970 UTC.
        stages: each layer, then feature visualizations where some were asked for.
        rate: units that were stored a second, over the last five minutes or since the first; None
            where none was.
        left_s: seconds that the missing units take at that rate; None where it is not known.
        workers: those that are at a task, or were when they were killed.
    """

    time_s: float
    stages: tuple[StageState, ...]
    rate: float | None
    left_s: float | None
    workers: tuple[WorkerState, ...]

    @classmethod
    def read(cls, reader: Reader, *, now_s: float | None = None) -> BuildState:
        """Look at the store: some listings a layer, and a read a worker. `now_s` is the time; by
        default, this machine's."""
        now_s = time.time() if now_s is None else now_s
        beats = heartbeat.read(reader.objects)
        planned = dict(reader.plan().units)
        times: list[float] = []
        stages: list[StageState] = []
        for layer in reader.layers():
            failures = list_failures(reader.objects, layer)
            committed = list_committed(reader.objects, layer)
            times += [entry.modified_s for entry in committed.values() if entry.modified_s]
            asked = set(planned.get(layer, ()))
            done = len(asked & committed.keys())
            failed = len(asked & failures.keys() - committed.keys())
            stages.append(StageState("units", layer, "unit", len(asked), done, failed))
        rate = _rate(times, [beat.joined_s for beat in beats], now_s)
        missing = sum(stage.missing for stage in stages)
        return cls(
            time_s=now_s,
            stages=(*stages, *_features(reader)),
            rate=rate,
            left_s=missing / rate if rate else None,
            workers=tuple(_worker(beat, now_s) for beat in beats),
        )

    @property
    def finished(self) -> bool:
        """Tell whether nothing is missing and nobody is at work."""
        return not any(stage.missing for stage in self.stages) and all(
            worker.silent for worker in self.workers
        )

    @property
    def failed(self) -> int:
        """Count what failed."""
        return sum(stage.failed for stage in self.stages)


def _rate(times: Sequence[float], joined: Sequence[float], now_s: float) -> float | None:
    """Commits a second in the window, which begins no earlier than the first sign of work: a
    commit, or a worker that is ready."""
    recent = [time_s for time_s in times if time_s > now_s - WINDOW_S]
    if not recent:
        return None
    since_s = max(now_s - WINDOW_S, min((*times, *joined)))
    return len(recent) / max(now_s - since_s, 1.0)


def _features(reader: Reader) -> list[StageState]:
    if not reader.objects.names(layout.VISUALIZATIONS):
        return []
    stages: dict[tuple[str, str], list[str]] = {}
    for state in reader.visualization_states():
        stages.setdefault((state.layer, state.of), []).append(state.state)
    return [
        StageState("features", layer, of, len(states), states.count("done"), states.count("failed"))
        for (layer, of), states in stages.items()
    ]


def _worker(beat: Heartbeat, now_s: float) -> WorkerState:
    silent_s = max(0.0, now_s - beat.written_s)
    return WorkerState(
        worker=beat.worker,
        stage=beat.stage,
        running_s=max(0.0, now_s - beat.started_s),
        units=beat.units,
        ended=beat.ended,
        activity=beat.activity,
        silent_s=silent_s,
        silent=silent_s > STALE_S,
    )
