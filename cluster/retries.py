"""Which tasks are tried again, how often, and for how long one may run.

A failure that is the unit's (NaN in its scores) is the same everywhere: the worker records it and
it is not tried again. What is tried again is a task that was lost with its worker. Nobody knows
which of its units took the worker down, so a lost task comes back unit by unit, without blame; only
a unit that was lost alone has used up one of its retries.
"""

from __future__ import annotations

import traceback
from collections import Counter, deque
from collections.abc import Sequence
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
        deadline_s: seconds that a task may run before its worker is ended. Default: 3600.
        failed_starts: workers that may fail to start, one after the other, before the run ends.
            Default: 3.
        start_s: seconds to wait for the first worker; an autoscaler may need minutes for a machine.
            Default: 900.
    """

    retries: int = 2
    deadline_s: float = 3600.0
    failed_starts: int = 3
    start_s: float = 900.0


class Backlog:
    """The tasks that wait for a worker. Its length counts them."""

    def __init__(self, tasks: Sequence[Task], policy: Policy) -> None:
        self._waiting = deque(tasks)
        self._policy = policy
        self._losses: Counter[UnitKey] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Task:
        """Takes the next task; IndexError when none waits."""
        return self._waiting.popleft()

    def lost(self, task: Task) -> bool:
        """Queues a lost task again where it may be, and says whether.

        At the end of the queue: a unit that kills its worker holds up nobody else.
        """
        if len(task.units) > 1:
            self._waiting.extend(replace(task, units=(unit,)) for unit in task.units)
            return True
        unit = task.units[0]
        self._losses[unit] += 1
        if self._losses[unit] > self._policy.retries:
            return False
        self._waiting.append(task)
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
