"""What a worker is at: told by the code that computes, and read by whoever looks on.

The code that computes tells of every step and batch, which costs it an assignment. Whoever looks on
does so from another thread, at any time, or is called after each step.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from circuit_atlas.storage_schema.heartbeat import Activity
from circuit_atlas.storage_schema.keys import Numbered, UnitKey
from circuit_atlas.storage_schema.patience import Outage
from circuit_atlas.storage_schema.records import Receipt

if TYPE_CHECKING:
    from torch import Tensor


class Progress:
    """How far a worker is with its task.

    Attributes:
        worker: the worker's name: its machine, its process and four letters.
        listener: is called without arguments after each step, batch and unit, in the thread that
            computes. Default: nobody.
    """

    def __init__(self) -> None:
        self.worker = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.listener: Callable[[], None] = _nobody
        self._of: Numbered = "unit"
        self._receipts: list[Receipt] = []
        self._keys: Sequence[UnitKey] = ()
        # Replaced as a whole, so that another thread never sees one step with another's numbers.
        self._step: tuple[str, int, int, str] = ("", 0, 0, "")
        self._outage: Outage | None = None

    def begin(self, of: Numbered) -> None:
        """Begins with a task, of units, channels or chunks of images."""
        self._of, self._keys, self._receipts = of, (), []
        self._step = ("", 0, 0, "")

    def together(self, keys: Sequence[UnitKey]) -> None:
        """Tells which units are computed together from now on."""
        self._keys, self._step = keys, ("", 0, 0, "")
        self.listener()

    def step(self, name: str, total: int, noun: str = "") -> None:
        """Begins with a step.

        Args:
            name: of the step.
            total: how much there is to do.
            noun: what is counted. Default: nothing that has a name, so a share is shown.
        """
        self._step = (name, 0, total, noun)
        self.listener()

    def advance(self, count: int = 1) -> None:
        """Tells that more of the step is done. Default: one more."""
        name, done, total, noun = self._step
        self._step = (name, min(done + count, total), total, noun)
        self.listener()

    def counted(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yields batches of images, (batch, channels, height, width), and counts them as done when
        the next is asked for."""
        for batch in batches:
            yield batch
            self.advance(len(batch))

    def images(self, batches: Iterable[Tensor], name: str, total: int) -> Iterator[Tensor]:
        """Does the same of one step over `total` images, which begins with the first."""
        self.step(name, total, "images")
        yield from self.counted(batches)

    def ended(self, receipt: Receipt) -> None:
        """Tells that a unit is stored, or has failed."""
        self._receipts.append(receipt)
        self.listener()

    def waits(self, outage: Outage) -> None:
        """Tells that the worker waits for the store, or that it does so no longer."""
        self._outage = outage if outage.ended_s is None else None

    def receipts(self) -> tuple[Receipt, ...]:
        """Gives the receipts of the task's units so far."""
        return tuple(self._receipts)

    def activity(self) -> Activity | None:
        """Says what the worker is at; None before the first units of its task."""
        keys, outage = self._keys, self._outage
        if not keys:
            return None
        name, done, total, noun = self._step if outage is None else (str(outage), 0, 0, "")
        numbers = tuple(key.unit for key in keys)
        return Activity(keys[0].layer, self._of, numbers, name, done, total, noun)


def _nobody() -> None:
    return None
