"""What the workers on Ray are at: asked every two seconds, without waiting for an answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError

from circuit_atlas.cluster.executor import PROGRESS_EVERY_S, TaskProgress

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task

# Of a large crew some are asked each time, in turn: a thousand calls would take the driver a good
# part of two seconds, and nobody looks at so many lines.
_MOST_ASKED = 64


class Watch:
    """Asks actors what they are at. They answer beside their task, in a thread of their own."""

    def __init__(self) -> None:
        self._asked: dict[Any, Task] = {}
        self._turn = 0
        self._due_s = time.monotonic() + PROGRESS_EVERY_S

    def look(self, working: Sequence[tuple[Any, Task]]) -> list[TaskProgress]:
        """Gives the answers that have come, and asks again where it is time.

        Args:
            working: actors at a task, with the task. Answers about another are left out.
        """
        answers = self._answers({task for _, task in working}) if self._asked else []
        now_s = time.monotonic()
        if now_s >= self._due_s and working:
            self._due_s = now_s + PROGRESS_EVERY_S
            self._asked = dict(self._ask(working))
        return answers

    def _ask(self, working: Sequence[tuple[Any, Task]]) -> Iterator[tuple[Any, Task]]:
        start = self._turn % len(working)
        self._turn = start + _MOST_ASKED
        for actor, task in [*working[start:], *working[:start]][:_MOST_ASKED]:
            yield actor.progress.remote(), task

    def _answers(self, tasks: set[Task]) -> list[TaskProgress]:
        done, _ = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        answers = []
        for reference in done:
            task = self._asked.pop(reference)
            # Where its actor is lost, the call of its task says so.
            with contextlib.suppress(RayError):
                progress = ray.get(reference)
                if task in tasks:
                    answers.append(TaskProgress(task, *progress))
        return answers
