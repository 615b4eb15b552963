"""The loop over a task's units, with work that runs out of memory and units that fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from circuit_atlas.jobs.tasks.progress import Progress
from circuit_atlas.jobs.tasks.unit_loop import run_units
from circuit_atlas.storage_schema.errors import InfrastructureError, StoreError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.records import FailureRecord, Receipt


class Work:
    """Stores units one by one; `bad` is raised at unit 3, and memory holds `room` of them."""

    fatal: tuple[type[Exception], ...] = (StoreError, InfrastructureError)

    def __init__(self, *, room: int, bad: Exception | None = None) -> None:
        self.progress = Progress()
        self.room = room
        self.together = 8
        self.bad = bad
        self.groups: list[list[int]] = []

    def units_together(self, keys: Sequence[UnitKey]) -> int:
        del keys
        return self.together

    def compute(self, keys: Sequence[UnitKey]) -> Iterator[Receipt]:
        self.groups.append([key.unit for key in keys])
        if len(keys) > self.room:
            raise MemoryError("no room")
        for key in keys:
            if key.unit == 3 and self.bad is not None:
                raise self.bad
            yield receipt(key)

    def halve(self, keys: Sequence[UnitKey], error: Exception) -> None:
        del keys
        if self.together == 1:
            raise InfrastructureError("no half") from error
        self.together //= 2

    def fail(self, record: FailureRecord) -> Receipt:
        return Receipt(record.key, "failed", 0, 0, 0.0, kind=record.kind, message=record.message)


def receipt(key: UnitKey) -> Receipt:
    return Receipt(key, "done", 0, 1, 1.0)


KEYS = tuple(UnitKey("m", "conv", unit) for unit in range(6))


def test_every_unit_has_a_receipt_in_order():
    work = Work(room=8)
    assert run_units(KEYS, work) == tuple(receipt(key) for key in KEYS)
    assert work.groups == [[0, 1, 2, 3, 4, 5]]


def test_memory_that_runs_out_halves_the_groups():
    work = Work(room=2)
    assert run_units(KEYS, work) == tuple(receipt(key) for key in KEYS)
    assert work.groups == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3], [0, 1], [2, 3], [4, 5]]


def test_a_unit_that_fails_fails_alone():
    """Those stored before it are not computed again, those after it one by one."""
    work = Work(room=8, bad=ValueError("odd\nunit"))
    receipts = run_units(KEYS, work)
    assert [receipt.state for receipt in receipts] == ["done"] * 3 + ["failed"] + ["done"] * 2
    assert (receipts[3].kind, receipts[3].message) == ("ValueError", "odd")
    assert work.groups == [[0, 1, 2, 3, 4, 5], [3], [4], [5]]


@pytest.mark.parametrize("error", [StoreError("full"), InfrastructureError("lost")])
def test_what_is_no_units_fault_ends_the_task(error):
    with pytest.raises(type(error), match=str(error)):
        run_units(KEYS, Work(room=8, bad=error))


def test_no_room_for_one_unit_ends_the_task():
    with pytest.raises(InfrastructureError, match="no half"):
        run_units(KEYS, Work(room=0))
