"""Heartbeats: written, read while others come and go, and in nobody's way."""

from __future__ import annotations

import pytest

from circuit_atlas.storage_schema import heartbeat, layout
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.heartbeat import STALE_S, Activity, Heartbeat
from circuit_atlas.storage_schema.verify import verify

AT = Activity("conv", "unit", (4, 5), "learned", 2, 5)
BEAT = Heartbeat("node 1-12-ab", "units", 50.0, 100.0, 130.0, 8, 4, 1, AT)


def test_what_is_written_is_read(objects):
    heartbeat.write(objects, BEAT)
    heartbeat.write(objects, Heartbeat("other", "features", 1.0, 1.0, 2.0, 1, 0, 0, None))
    first, second = heartbeat.read(objects)
    assert first.activity == AT
    assert (first.worker, first.units, first.ended, first.failed) == ("node 1-12-ab", 8, 4, 1)
    assert second.activity is None
    assert first.written_s > 1e9, "by the store's clock, not the worker's"
    heartbeat.remove(objects, "other")
    assert [beat.worker for beat in heartbeat.read(objects)] == ["node 1-12-ab"]


def test_there_may_be_none(objects):
    assert heartbeat.read(objects) == ()
    heartbeat.remove(objects, "nobody")


def test_what_cannot_be_read_is_left_out(objects):
    objects.put(layout.heartbeat("cut"), BEAT.to_json().encode()[:40])
    objects.put("runs/note.txt", b"by somebody else")
    heartbeat.write(objects, BEAT)
    assert [beat.worker for beat in heartbeat.read(objects)] == ["node 1-12-ab"]
    with pytest.raises(CorruptError, match="is cut or altered"):
        Heartbeat.from_json(b"{", location="x")


def test_those_of_killed_workers_are_removed_when_they_are_old(objects):
    heartbeat.write(objects, BEAT)
    (written,) = heartbeat.read(objects)
    heartbeat.remove_stale(objects, now_s=written.written_s + STALE_S - 1)
    assert heartbeat.read(objects)
    heartbeat.remove_stale(objects, now_s=written.written_s + STALE_S + 1)
    assert not heartbeat.read(objects)


def test_verify_passes_over_them(objects):
    before = verify(objects)
    heartbeat.write(objects, BEAT)
    objects.put(layout.heartbeat("cut"), b"{")
    assert verify(objects) == before
