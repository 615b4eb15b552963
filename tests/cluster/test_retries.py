"""The policy by itself: what is queued again, and which errors end a run."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace

import pytest

from circuit_atlas.cluster.retries import Backlog, Policy, describe, one_line, retryable
from circuit_atlas.storage_schema.errors import (
    DeadlineError,
    InfrastructureError,
    WriteError,
)
from circuit_atlas.storage_schema.keys import UnitKey


@dataclass(frozen=True)
class Task:
    layer: str
    units: tuple[UnitKey, ...]
    of: str = "unit"


def task(*units: int, layer: str = "conv") -> Task:
    return Task(layer, tuple(UnitKey("toy", layer, unit) for unit in units))


def test_a_block_is_split_without_blame_and_goes_to_the_end() -> None:
    backlog = Backlog([task(0, 1), task(2)], Policy(retries=1))
    block = backlog.take()
    assert backlog.lost(block)
    assert [backlog.take() for _ in range(len(backlog))] == [task(2), task(0), task(1)]


def test_what_is_lost_of_a_layer_comes_at_its_end_where_a_worker_has_it_at_hand() -> None:
    first, second, later = task(0, 1), task(2), task(5, layer="later")
    backlog = Backlog([first, second, later], Policy())
    assert backlog.take(layer="later") == first, "earlier layers go before"
    assert backlog.lost(first)
    assert backlog.take(layer="conv") == second
    assert backlog.take(layer="conv") == task(0), "not the later layer's"
    assert backlog.take(layer="later") == later
    assert backlog.lost(later, machine=True)
    assert backlog.units == 2
    assert backlog.take(layer="later") == later
    assert backlog.take(layer="later") == task(1)
    with pytest.raises(IndexError):
        backlog.take(layer="conv")


def test_a_part_of_a_task_in_the_middle_leaves_the_rest_there() -> None:
    block, later = task(0, 1, 2, 3), task(5, layer="later")
    backlog = Backlog([task(9), later], Policy())
    backlog.take()
    backlog._waiting.append(block)
    assert backlog.take(3, layer="conv") == task(0, 1)
    assert list(backlog._waiting) == [later, task(2, 3)]


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_unit_alone_has_as_many_retries_as_the_policy_says(retries: int) -> None:
    backlog = Backlog([task(5)], Policy(retries=retries))
    tries = 1
    while backlog.lost(backlog.take()):
        tries += 1
    assert tries == retries + 1
    assert len(backlog) == 0


def test_a_lost_machine_uses_up_no_retry_and_splits_no_block() -> None:
    backlog = Backlog([task(0, 1), task(2)], Policy(retries=0, machine_losses=3))
    for _ in range(3):
        assert backlog.lost(backlog.take(), machine=True)
    assert backlog.take() == task(0, 1), "it is the next"
    # By now its own units are suspected.
    assert backlog.lost(task(0, 1), machine=True)
    assert [backlog.take() for _ in range(3)] == [task(2), task(0), task(1)]
    assert not backlog.lost(task(0), machine=True)
    assert backlog.lost(task(2), machine=True)


def test_a_task_is_cut_where_more_workers_wait_than_tasks() -> None:
    backlog = Backlog([task(*range(16)), task(*range(16, 32))], Policy())
    assert backlog.take(2) == task(*range(16))
    sizes = []
    while backlog:
        sizes.append(len(backlog.take(6 - len(sizes)).units))
        assert backlog.units == 16 - sum(sizes)
    assert sizes == [3, 3, 3, 3, 2, 2]


@pytest.mark.parametrize("machine", [False, True])
def test_units_that_wait_are_counted(machine: bool) -> None:
    backlog = Backlog([task(0, 1, 2), task(3)], Policy(retries=0, machine_losses=1))
    assert backlog.units == 4
    block = backlog.take()
    assert backlog.units == 1
    backlog.lost(block, machine=machine)
    assert backlog.units == 4
    while backlog:
        backlog.lost(backlog.take())
        assert backlog.units == sum(len(each.units) for each in backlog._waiting)


def test_units_that_another_build_is_at_come_last() -> None:
    held = {1, 2, 3}
    backlog = Backlog(
        [task(0, 1), task(2, 3), task(4)],
        Policy(),
        lambda asked: [unit for unit in asked.units if unit.unit not in held],
    )
    assert backlog.take() == task(0)
    assert backlog.take() == task(4)
    assert (len(backlog), backlog.units) == (2, 3)
    assert backlog.take() is None
    held.remove(3)
    assert backlog.take() == task(3)
    assert backlog.lost(task(4))
    assert backlog.take() == task(4), "what waits goes before what is another's"
    held.clear()
    assert [backlog.take(), backlog.take()] == [task(1), task(2)]
    assert not backlog
    with pytest.raises(IndexError):
        backlog.take()


def test_losses_of_one_unit_are_not_anothers() -> None:
    backlog = Backlog([task(0)], Policy(retries=0))
    assert not backlog.lost(task(0))
    assert backlog.lost(task(1, 2))
    assert not backlog.lost(task(1))


def test_an_infrastructure_error_stays_itself() -> None:
    error = DeadlineError("late")
    assert retryable(error, doing="x") is error


def test_an_error_that_another_try_cannot_help_is_raised() -> None:
    with pytest.raises(WriteError, match="full"):
        retryable(WriteError("full"), doing="x")


def test_an_error_nobody_foresaw_is_one_line_with_its_trace() -> None:
    try:
        raise ValueError("odd\n  thing")
    except ValueError as error:
        found = retryable(error, doing="conv unit 3 stopped its worker")
    assert type(found) is InfrastructureError
    assert str(found) == "conv unit 3 stopped its worker: ValueError: odd thing"
    assert "test_retries.py" in found.__notes__[0]
    assert str(pickle.loads(pickle.dumps(found))) == str(found)


def test_messages_stay_short() -> None:
    assert describe(task(3)) == "conv unit 3"
    assert describe(task(*range(16))) == "conv units 0, 1, 2 and 13 more"
    assert describe(replace(task(4, 5), of="channel")) == "conv channels 4, 5"
    assert one_line("a\n\tb " * 200).startswith("a b a b")
    assert len(one_line("word " * 200)) == 300
