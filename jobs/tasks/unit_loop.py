"""A task's units taken through memory group by group, whatever is computed of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from circuit_atlas.jobs.tasks.memory import is_out_of_memory
from circuit_atlas.jobs.tasks.progress import Progress
from circuit_atlas.jobs.tasks.units import failure
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.records import FailureRecord, Receipt


class UnitWork(Protocol):
    """What a task computes of its units.

    Attributes:
        fatal: errors that are no unit's, so that they end the task.
        progress: is told which units are computed together, and which have ended.
    """

    fatal: tuple[type[Exception], ...]
    progress: Progress

    def units_together(self, keys: Sequence[UnitKey]) -> int:
        """Says how many of these units fit into memory together, at least one."""
        ...

    def compute(self, keys: Sequence[UnitKey]) -> Iterable[Receipt]:
        """Computes and stores the units, and yields each one's receipt once it is stored."""
        ...

    def halve(self, keys: Sequence[UnitKey], error: Exception) -> None:
        """Uses half of the memory from now on; InfrastructureError where there is no half."""
        ...

    def fail(self, record: FailureRecord) -> Receipt:
        """Records a unit as failed."""
        ...


def run_units(keys: tuple[UnitKey, ...], work: UnitWork) -> tuple[Receipt, ...]:
    """Computes every unit or records it as failed: one receipt each, in the order of `keys`.

    As many units go together as fit into memory. Where memory runs out all the same, half of it is
    used. What goes wrong for several units at once is that of one of them, so each is then tried
    by itself. Errors in `work.fatal` are raised.
    """
    receipts: dict[UnitKey, Receipt] = {}
    waiting = deque([keys])
    while waiting:
        group = waiting.popleft()
        together = work.units_together(group)
        if len(group) > together:
            waiting.appendleft(group[together:])
            group = group[:together]
        work.progress.together(group)
        try:
            for receipt in work.compute(group):
                receipts[receipt.key] = receipt
                work.progress.ended(receipt)
        except work.fatal:
            raise
        except Exception as error:
            left = tuple(key for key in group if key not in receipts)
            if is_out_of_memory(error):
                work.halve(group, error)
                waiting.appendleft(left)
            elif len(left) == 1:
                receipt = receipts[left[0]] = work.fail(failure(left[0], error))
                work.progress.ended(receipt)
            else:
                waiting.extendleft((key,) for key in reversed(left))
    return tuple(receipts[key] for key in keys)
