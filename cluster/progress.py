"""Progress of a run, from its events: a bar on a terminal, dated lines in a log."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from circuit_atlas.cluster.executor import (
    Event,
    Planned,
    TaskDone,
    TaskLost,
    WorkersReady,
)

if TYPE_CHECKING:
    from rich.progress import Progress

# A line this often keeps a day's log readable, and shows within a minute that all is well.
_LINE_EVERY_S = 20.0
_WORK = {
    "build": ("to build", "are there"),
    "features": ("to get feature visualizations", "have theirs"),
    "images": ("of images to prepare", "are prepared"),
}


class View(Protocol):
    """A view of a run, entered around it; its `show` is the run's `on_event`."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def show(self, event: Event) -> None:
        """Shows what has changed by an event."""
        ...


def open_view(stream: TextIO, *, plain: bool = False) -> View:
    """Opens a bar where `stream` is a terminal; lines where it is not, or `plain` is set."""
    return Lines(stream) if plain or not stream.isatty() else Bar(stream)


class Tally:
    """Counts units so far, for the rate and the time left. A channel of a convolution that gets a
    feature visualization counts as a unit does, and is called a channel."""

    def __init__(self) -> None:
        self.noun = "units"
        self.total = 0
        self.skipped = 0
        self.ended = 0
        self.failed = 0
        self._started_s: float | None = None

    def note(self, event: Event, now_s: float) -> list[str]:
        """Counts an event; returns the lines that it is worth."""
        if isinstance(event, Planned):
            self.total, self.skipped = event.units + event.channels, event.skipped
            if event.channels:
                self.noun = "units and channels" if event.units else "channels"
            return [f"note: {remark}" for remark in event.remarks]
        if isinstance(event, WorkersReady) and self._started_s is None:
            # Not from the start: starting Ray and loading the model would pass for slow units.
            self._started_s = now_s
        elif isinstance(event, TaskDone):
            self.ended += len(event.receipts)
            failed = [receipt for receipt in event.receipts if receipt.state == "failed"]
            self.failed += len(failed)
            of = event.task.of
            return [f"failed: {r.key.layer} {of} {r.key.unit}: {r.message}" for r in failed]
        elif isinstance(event, TaskLost):
            if event.will_retry:
                return [f"trying again: {event.error}"]
            self.ended += len(event.task.units)
            self.failed += len(event.task.units)
            return [f"given up: {event.error}"]
        return []

    def rate(self, now_s: float) -> float | None:
        """Gives units a second since the first worker was ready; None before the first unit."""
        if self._started_s is None or not self.ended or now_s <= self._started_s:
            return None
        return self.ended / (now_s - self._started_s)

    def text(self, now_s: float) -> str:
        """Writes rate, time left and failures, as far as known."""
        rate = self.rate(now_s)
        parts = []
        if rate is not None:
            # Both nouns would be long, and the count beside it names them.
            each = "" if " " in self.noun else f" {self.noun}"
            parts.append(f"{rate * 60:.1f}{each}/min" if rate < 1 else f"{rate:.1f}{each}/s")
            parts.append(f"{_duration((self.total - self.ended) / rate)} left")
        elif self.total:
            parts.append("starting" if self._started_s is None else f"first {self.noun} under way")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)


class Lines:
    """Dated lines, at most one every 20 s besides failures and the last."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._tally = Tally()
        self._last_s = float("-inf")
        self._shown = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def show(self, event: Event) -> None:
        """Writes the lines that are due after an event."""
        tally, now_s = self._tally, time.monotonic()
        for line in tally.note(event, now_s):
            self._write(line)
        if isinstance(event, Planned):
            self._write(_planned(event))
        elif isinstance(event, WorkersReady):
            self._write(f"{event.count} workers ready" if event.count > 1 else "1 worker ready")
        elif tally.ended > self._shown and (
            tally.ended == tally.total or now_s - self._last_s >= _LINE_EVERY_S
        ):
            self._shown, self._last_s = tally.ended, now_s
            self._write(f"{tally.ended}/{tally.total} {tally.noun}, {tally.text(now_s)}")

    def _write(self, line: str) -> None:
        self._stream.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {line}\n")
        self._stream.flush()


class Bar:
    """One live line: a bar, units and channels so far, rate, time left, failures."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._tally = Tally()
        self._progress: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(file=stream),
        )
        self._bar = self._progress.add_task("units", total=None, text="reading the spec")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        """Moves the bar, and prints above it the lines that an event is worth."""
        now_s = time.monotonic()
        for line in self._tally.note(event, now_s):
            self._progress.console.print(line, markup=False, highlight=False)
        self._progress.update(
            self._bar,
            description=self._tally.noun,
            total=self._tally.total or None,
            completed=self._tally.ended,
            text=self._tally.text(now_s),
        )


def _planned(event: Planned) -> str:
    """What is to be done, and what is done already."""
    counts = {"unit": event.units, "channel": event.channels}
    what = [f"{n} {name}{'' if n == 1 else 's'}" for name, n in counts.items() if n] or ["0 units"]
    told, there = _WORK[event.work]
    tasks = f"{event.tasks} task{'' if event.tasks == 1 else 's'}"
    already = f"; {event.skipped} {there} already" if event.skipped else ""
    return f"{' and '.join(what)} {told} in {tasks}{already}"


def _duration(seconds: float) -> str:
    """
    >>> _duration(42.4), _duration(605), _duration(7260)
    ('42s', '10m05s', '2h01m')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"
