"""What an actor is at, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from circuit_atlas.cluster.retries import describe
from circuit_atlas.storage_schema.errors import InfrastructureError
from circuit_atlas.storage_schema.records import Receipt

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task

Outcome = tuple[Receipt, ...] | InfrastructureError


@dataclass(frozen=True)
class Duty:
    """What an actor is at: a task, or (None) its start; and where, None before it is placed."""

    actor: Any
    node: str | None
    task: Task | None
    since_s: float

    @property
    def text(self) -> str:
        """What an error of it says first."""
        if self.task is None:
            return "a worker could not start"
        return f"{describe(self.task)} stopped its worker"


@dataclass(frozen=True)
class Ended:
    """What has become of a task, or of a worker's start.

    Attributes:
        task: the task, None for a start.
        outcome: its receipts (none of a start), or why it was lost.
        worker: the worker's name, empty where it never came to have one.
        machine_lost: whether the machine was lost, and not the worker alone. Default: not.
    """

    task: Task | None
    outcome: Outcome
    worker: str
    machine_lost: bool = False
