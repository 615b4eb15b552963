"""Progress of a run, from its events: bars on a terminal, dated lines in a log."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from circuit_atlas.cluster.executor import Event, Planned, TaskProgress, WorkersReady
from circuit_atlas.cluster.json_log import JsonLog
from circuit_atlas.cluster.tally import Tally
from circuit_atlas.storage_schema.patience import Outage

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from circuit_atlas.storage_schema.heartbeat import Activity

# A line this often keeps a day's log readable, and shows within a minute that all is well.
_LINE_EVERY_S = 20.0
# A screen has room for so many workers, a line for a few.
_MOST_BARS = 16
_MOST_NAMED = 2


class View(Protocol):
    """A view of a run, entered around it; its `show` is the run's `on_event`."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def show(self, event: Event) -> None:
        """Shows what has changed by an event."""
        ...


def open_view(stream: TextIO, *, plain: bool = False, log_json: bool = False) -> View:
    """Opens a structured log where `log_json` is set; else bars where `stream` is a terminal, and
    lines where it is not, or `plain` is set."""
    if log_json:
        return JsonLog(stream)
    return Lines(stream) if plain or not stream.isatty() else Bars(stream)


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
            self._shown, self._last_s = 0, float("-inf")
            self._write(_planned(event))
        elif isinstance(event, WorkersReady):
            self._write(f"{event.count} workers ready" if event.count > 1 else "1 worker ready")
        elif isinstance(event, Outage):
            return
        elif self._has_news(event) and (
            (tally.ended == tally.total and not tally.running)
            or now_s - self._last_s >= _LINE_EVERY_S
        ):
            self._shown, self._last_s = tally.ended, now_s
            self._write(
                f"{tally.ended}/{tally.total} {tally.noun}, {tally.text(now_s)}{self._at()}"
            )

    def _has_news(self, event: Event) -> bool:
        return isinstance(event, TaskProgress) or self._tally.ended > self._shown

    def _at(self) -> str:
        """What the workers are at, the first of them by name."""
        activities = self._tally.activities
        named = [str(activity) for activity in activities[:_MOST_NAMED]]
        if len(activities) > _MOST_NAMED:
            named.append(f"{len(activities) - _MOST_NAMED} more")
        return "".join(f"; {each}" for each in named)

    def _write(self, line: str) -> None:
        self._stream.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {line}\n")
        self._stream.flush()


class Bars:
    """Live lines: a bar of all units and channels with rate, time left and failures, and below it
    one for each block of units in progress."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._tally = Tally()
        self._progress: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=Console(file=stream),
        )
        self._all = self._progress.add_task("units", total=None, text="reading the spec")
        self._blocks: list[TaskID] = []

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        """Moves the bars, and prints above them the lines that an event is worth."""
        tally, now_s = self._tally, time.monotonic()
        for line in tally.note(event, now_s):
            self._progress.console.print(line, markup=False, highlight=False)
        if isinstance(event, Outage):
            return  # it may come from any thread, and moves no bar
        self._progress.update(
            self._all,
            description=tally.noun,
            total=tally.total or None,
            completed=tally.ended,
            text=f"{tally.ended}/{tally.total}  {tally.text(now_s)}",
        )
        self._show_blocks(tally.activities)

    def _show_blocks(self, activities: tuple[Activity, ...]) -> None:
        shown = activities[:_MOST_BARS]
        while len(self._blocks) < len(shown):
            self._blocks.append(self._progress.add_task("", total=None, text=""))
        while len(self._blocks) > len(shown):
            self._progress.remove_task(self._blocks.pop())
        more = len(activities) - len(shown)
        for bar, activity in zip(self._blocks, shown, strict=True):
            self._progress.update(
                bar,
                description=f"  {activity.subject}",
                total=activity.total or None,
                completed=activity.done,
                text=f"{activity.step} {activity.amount}",
            )
        if more:
            self._progress.update(self._blocks[-1], text=f"and {more} more")


def _planned(event: Planned) -> str:
    """What is to be done, and what is done already."""
    counts = {event.stage.noun: event.count, "channel": event.channels}
    what = [f"{n} {name}{'' if n == 1 else 's'}" for name, n in counts.items() if n]
    tasks = f"{event.tasks} task{'' if event.tasks == 1 else 's'}"
    already = f"; {event.skipped} {event.stage.done} already" if event.skipped else ""
    nothing = f"0 {event.stage.noun}s"
    return f"{' and '.join(what) or nothing} {event.stage.to_do} in {tasks}{already}"
