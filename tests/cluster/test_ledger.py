"""What a run did, counted from its events: units, and channels of convolutions."""

from __future__ import annotations

from circuit_atlas.cluster.executor import StartFailed, TaskDone, TaskLost
from circuit_atlas.cluster.ledger import Ledger
from circuit_atlas.service.commands.report import summary_text
from circuit_atlas.storage_schema.errors import WorkerLostError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.records import FailureRecord, Receipt
from tests.cluster.toy import Task

KEYS = tuple(UnitKey("toy", "edges", channel) for channel in range(4))


def failed(record: FailureRecord) -> Receipt:
    return Receipt(record.key, "failed", 1, 0, 0.0, kind=record.kind, message=record.message)


def test_what_failed_is_told_of_as_what_it_is() -> None:
    ledger = Ledger()
    grey = Receipt(KEYS[1], "failed", 1, 0, 1.0, kind="unit", message="all but grey")
    done = Receipt(KEYS[0], "done", 1, 10, 1.0)
    events = [
        TaskDone(Task("edges", KEYS[:2], of="channel"), (done, grey)),
        TaskLost(Task("edges", KEYS[2:3], of="channel"), WorkerLostError("ended"), True),
        TaskLost(Task("edges", KEYS[2:3], of="channel"), WorkerLostError("ended"), False),
        TaskLost(Task("edges", KEYS[3:]), WorkerLostError("ended"), False),
        StartFailed(WorkerLostError("a worker could not start")),
    ]
    for event in events:
        ledger.note(event, failed)
    found = ledger.summary(skipped=5, wall_s=1.0, channels=8)
    assert [(r.key.unit, r.of, r.kind) for r in found.failures] == [
        (1, "channel", "unit"),
        (2, "channel", "worker_lost"),
        (3, "unit", "worker_lost"),
    ]
    assert (found.done, found.failed, found.lost, found.retried) == (1, 1, 2, 1)
    assert (found.skipped, found.channels, found.failed_starts) == (5, 8, 1)
    assert "; 1 worker did not start" in summary_text(found, location="here")


def test_however_many_fail_a_thousand_are_told_of() -> None:
    ledger = Ledger()
    for unit in range(1500):
        key = UnitKey("toy", "edges", unit)
        receipt = Receipt(key, "failed", 1, 0, 1.0, kind="unit", message="all but grey")
        ledger.note(TaskDone(Task("edges", (key,)), (receipt,)), failed)
    found = ledger.summary(skipped=0, wall_s=1.0)
    assert (found.failed, found.lost, len(found.failures)) == (1500, 0, 1000)
    assert summary_text(found, location="here").splitlines()[-1] == (
        "  and 500 more failed: see `circuit-atlas status here`"
    )
