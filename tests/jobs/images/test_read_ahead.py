"""Images that are read in their order, and ahead."""

from __future__ import annotations

import threading

import pytest
from obstore.store import MemoryStore

from circuit_atlas.jobs.images.entry import Entry
from circuit_atlas.jobs.images.object_files import Bucket
from circuit_atlas.jobs.images.object_folder import ObjectBytes
from circuit_atlas.jobs.images.read_ahead import AT_ONCE, read_in_order
from circuit_atlas.storage_schema.errors import InfrastructureError
from circuit_atlas.storage_schema.patience import Patience

ENTRIES = [Entry(str(row), None, row) for row in range(3 * AT_ONCE)]


class Waiting(ObjectBytes):
    """Answers only when as many are asked for as are at once."""

    together = threading.Barrier(AT_ONCE)

    def __call__(self, entry: Entry) -> bytes:
        self.together.wait(timeout=60)
        if entry.row == 5:
            raise FileNotFoundError("5 is missing")
        return entry.name.encode()


def test_objects_are_asked_for_at_once_and_come_in_order() -> None:
    found = list(read_in_order(Waiting(Bucket(MemoryStore(), "memory:", Patience(0)), ""), ENTRIES))
    assert str(found.pop(5)) == "5 is missing"
    assert found == [entry.name.encode() for entry in ENTRIES if entry.row != 5]


def test_other_sources_are_read_one_by_one_when_taken() -> None:
    taken: list[int] = []

    def read(entry: Entry) -> bytes:
        if entry.row == 2:
            raise InfrastructureError("no answer")
        taken.append(entry.row)
        return b""

    found = read_in_order(read, ENTRIES)
    assert next(found) == b""
    assert taken == [0]
    assert next(found) == b""
    with pytest.raises(InfrastructureError):
        next(found)
