"""Which tasks are tried again, how often, and for how long one may run.

A failure that is the unit's (NaN in its scores) is the same everywhere: the worker records it and
it is not tried again. What is tried again is a task that was lost with its worker. Nobody knows
which of its units took the worker down, so a lost task comes back unit by unit, without blame; only
a unit that was lost alone has used up one of its retries.

A task whose machine was lost comes back whole, and no retry is used up: spot machines go when they
go. But a unit may take its machine down too, as where a container ends with the worker that overran
its memory. So a unit that has lost so many machines is treated as one that lost its worker.

Units that another build is at are left to the last, and then wait until it is done with them.
"""

from __future__ import annotations

import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from circuit_atlas.storage_schema.errors import AtlasError, DeadlineError, InfrastructureError
from circuit_atlas.storage_schema.keys import UnitKey

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task


@dataclass(frozen=True)
class Policy:
    """Limits on trying again.

    Attributes:
        retries: further tries of a unit whose worker was lost while it ran that unit alone.
            Default: 2.
        machine_losses: times that a unit may lose its machine beside. Default: 5.
        deadline_s: seconds that a task may run before its worker is ended. Default: 3600.
        failed_starts: workers that may fail to start while none lives, before the run ends where no
            machine is left to try. Default: 3.
        start_s: seconds that a run waits without a worker, since an autoscaler may need minutes for
            a machine, and that a worker may take to start. Default: 900.
    """

    retries: int = 2
    machine_losses: int = 5
    deadline_s: float = 3600.0
    failed_starts: int = 3
    start_s: float = 900.0


def unclaimed(task: Task) -> Sequence[UnitKey]:
    """Gives all units of a task, where no other build is at any."""
    return task.units


class Backlog:
    """The tasks that wait for a worker. Its length counts them.

    Attributes:
        units: how many units these are.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        policy: Policy,
        claim: Callable[[Task], Sequence[UnitKey]] = unclaimed,
    ) -> None:
        """Takes the tasks.

        Args:
            tasks: the tasks.
            policy: which are tried again.
            claim: gives those units of a task that no other build is at. Default: all.
        """
        self.units = sum(len(task.units) for task in tasks)
        self._waiting = deque(tasks)
        self._held: deque[Task] = deque()
        self._claim = claim
        self._order = {name: n for n, name in enumerate(dict.fromkeys(t.layer for t in tasks))}
        self._policy = policy
        self._losses: Counter[UnitKey] = Counter()
        self._machine_losses: Counter[UnitKey] = Counter()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._held)

    def take(self, workers: int = 1, *, layer: str | None = None) -> Task | None:
        """Takes the next task, or a part of it where fewer wait than workers could take one; None
        where other builds are at all that wait.

        Args:
            workers: how many could take a task now, the one that asks included. Default: 1.
            layer: what the worker has at hand. Where only later layers are next, what was lost of
                it is taken first, from the end of the queue. Default: nothing.

        Raises:
            IndexError: none waits.
        """
        if not self:
            raise IndexError("no task waits")
        while self._waiting:
            task = self._claimed(self._cut(workers, layer))
            if task is not None:
                return task
        for _ in range(len(self._held)):
            task = self._claimed(self._held.popleft())
            if task is not None:
                return task
        return None

    def _claimed(self, task: Task) -> Task | None:
        """The part of a task that no other build is at; the rest is held back."""
        units = self._claim(task)
        if len(units) < len(task.units):
            rest = tuple(unit for unit in task.units if unit not in units)
            self._held.append(replace(task, units=rest))
        self.units -= len(units)
        return replace(task, units=tuple(units)) if units else None

    def _cut(self, workers: int, layer: str | None) -> Task:
        """Takes the next task out of those that wait, or a part of it."""
        parts = -(-workers // max(1, len(self._waiting)))
        at = self._next(layer)
        task = self._waiting[at]
        count = -(-len(task.units) // parts)
        if count < len(task.units):
            self._waiting[at] = replace(task, units=task.units[count:])
            task = replace(task, units=task.units[:count])
        else:
            del self._waiting[at]
        return task

    def _next(self, layer: str | None) -> int:
        """Where the task stands that a worker with that layer at hand takes."""
        order = len(self._order) if layer is None else self._order[layer]
        if not self._waiting or order >= self._order[self._waiting[0].layer]:
            return 0
        return next((at for at, task in enumerate(self._waiting) if task.layer == layer), 0)

    def lost(self, task: Task, *, machine: bool = False) -> bool:
        """Queues a lost task again where it may be, and says whether.

        With its machine lost it is the next; else it goes to the end of the queue, unit by unit: a
        unit that kills its worker holds up nobody else.

        Args:
            task: the task.
            machine: whether its machine was lost too, and not its worker alone. Default: not.
        """
        if machine:
            self._machine_losses.update(task.units)
            losses = max(self._machine_losses[unit] for unit in task.units)
            if losses <= self._policy.machine_losses:
                self._waiting.appendleft(task)
                self.units += len(task.units)
                return True
        if len(task.units) > 1:
            self._waiting.extend(replace(task, units=(unit,)) for unit in task.units)
            self.units += len(task.units)
            return True
        unit = task.units[0]
        self._losses[unit] += 1
        if self._losses[unit] > self._policy.retries:
            return False
        self._waiting.append(task)
        self.units += 1
        return True


def retryable(error: BaseException, *, doing: str, trace: str | None = None) -> InfrastructureError:
    """Turns an error of a worker into one that another try may mend; raises it where none can.

    An InfrastructureError is returned as it is. Any other AtlasError (a full disk, a model that
    does not load) meets every worker alike, and is raised. An error outside that tree is one that
    nobody foresaw: it costs its unit, not the run.

    Args:
        error: the error.
        doing: what the worker was at, for the message.
        trace: its traceback, where the error has lost it on the way; it goes along as a note.
            Default: the error's.
    """
    if isinstance(error, InfrastructureError):
        return error
    if isinstance(error, AtlasError):
        raise error
    unforeseen = InfrastructureError(f"{doing}: {type(error).__name__}: {one_line(str(error))}")
    unforeseen.add_note(trace or "".join(traceback.format_exception(error)))
    return unforeseen


def late(task: Task, policy: Policy) -> DeadlineError:
    """Makes the error of a task that was ended at its deadline."""
    return DeadlineError(
        f"{describe(task)} ran past the deadline of {policy.deadline_s:g} s; raise `deadline_s` "
        "under [run], or ask for fewer images or criteria"
    )


def describe(task: Task) -> str:
    """Names the task in a message: its layer or convolution, and its units or channels."""
    numbers = [str(unit.unit) for unit in task.units]
    shown = ", ".join(numbers[:3]) + (f" and {len(numbers) - 3} more" if len(numbers) > 3 else "")
    return f"{task.layer} {task.of}{'s' if len(numbers) > 1 else ''} {shown}"


def one_line(text: str, *, limit: int = 300) -> str:
    """Shortens a library's error text to one line of at most `limit` characters. Default: 300."""
    words = " ".join(text.split())
    return words if len(words) <= limit else words[: limit - 1] + "…"
