"""Objects and units over a store whose answers get lost, cut, late or refused."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from circuit_atlas.storage_schema import attempts, layer_paths, network, patience
from circuit_atlas.storage_schema.errors import (
    ContestedError,
    NotAnAtlasError,
    StoreError,
    WriteError,
)
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Entry, Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.patience import Outage, outages_told
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.writer import Writer
from tests.flaky_store import FAULTS, Faults, FlakyStore, flaky_store
from tests.patience import PATIENCE_S


@pytest.fixture
def store() -> Iterator[FlakyStore]:
    with flaky_store(seed=0) as started, started.environment():
        yield started


@pytest.fixture
def quick(monkeypatch) -> None:
    """Outages that are told of at once, and short pauses."""
    monkeypatch.setattr(patience, "_QUIET_S", 0.0)
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(patience, "_LONGEST_PAUSE_S", 0.05)


def opened(store: FlakyStore, patience_s: float = PATIENCE_S) -> Objects:
    return open_store(store.location, create=True, patience_s=patience_s)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("quick")
def test_every_question_is_answered_right_whatever_goes_wrong(store, fault):
    store.faults = Faults(rate=0.4, kinds=(fault,), slow_s=0.02)
    objects = opened(store)
    data = {f"folder/{n:02}": bytes([n]) * (100 + n) for n in range(12)}
    assert all(objects.create(path, value) for path, value in data.items())
    assert all(objects.create(path, value) for path, value in data.items())
    assert not any(objects.create(path, b"other") for path in data)
    assert not any(objects.put_if_absent(path, b"other") for path in data)
    objects.put("replaced", b"one")
    objects.put("replaced", b"two")
    assert objects.get("replaced") == b"two"
    assert dict(zip(data, objects.get_many(list(data)), strict=True)) == data
    assert objects.get_ranges("folder/11", [(0, 3), (100, 5)]) == [bytes([11]) * 3, bytes([11]) * 5]
    entries = tuple(Entry(path, len(value)) for path, value in data.items())
    assert objects.list("folder") == entries
    assert objects.below("folder", most=100).objects == entries
    assert objects.names() == ("folder", "replaced")
    objects.delete(["replaced", "none"])
    assert not objects.exists("replaced")
    assert objects.exists("folder/00")
    with pytest.raises(FileNotFoundError, match="none is missing"):
        objects.get("none")
    assert store.failed[fault] > 5


def test_an_answer_that_was_lost_is_no_second_writer(store):
    objects = opened(store)
    for fault in ("lost", "lost_500"):
        store.requests.clear()
        store.first = [fault]
        assert objects.create(fault, b"mine")
        assert store.requests["PUT"] == 2
        assert not objects.create(fault, b"theirs")
        assert objects.get(fault) == b"mine"


@pytest.mark.usefixtures("quick")
def test_two_puts_that_s3_refuses_both_are_tried_again(store, monkeypatch):
    """409 for a conditional put means that another is under way, and may come to nothing."""
    objects = opened(store)
    refused = []
    carry_out = store.carry_out

    def conflict(method, path, headers, body):
        if method == "PUT" and len(refused) < 2:
            refused.append(path)
            return 409, b"<Error><Code>ConditionalRequestConflict</Code></Error>", {}
        return carry_out(method, path, headers, body)

    monkeypatch.setattr(store, "carry_out", conflict)
    assert objects.create("a", b"mine")
    assert refused == ["/bucket/atlas/a"] * 2


@pytest.mark.usefixtures("quick")
def test_an_outage_is_waited_for_and_past_its_limit_told_in_one_line(store):
    told: list[Outage] = []
    objects, hasty = opened(store), opened(store, 0.4)
    objects.put("a", b"1")
    with outages_told(told.append):
        for how, answer in (("slow_down", r"503 Service Unavailable"), ("reset", "no answer")):
            with store.out(how):
                for ask, doing in (
                    (lambda: hasty.get("a"), "read"),
                    (lambda: hasty.create("b", b"2"), "write"),
                    (lambda: hasty.names(), "list"),
                    (lambda: hasty.delete(["a"]), "write"),
                ):
                    started_s = time.monotonic()
                    with pytest.raises(StoreError) as caught:
                        ask()
                    assert re.fullmatch(
                        rf"cannot {doing} s3://bucket/atlas/a?b?: {answer}.*, for \d s since "
                        r"[\d:]+; run again when the store answers",
                        str(caught.value),
                    )
                    assert time.monotonic() - started_s > 0.4
            assert hasty.get("a") == b"1"
    assert len(told) == 8
    assert all(str(outage).startswith("waiting for s3://bucket/atlas since") for outage in told)
    assert objects.get("a") == b"1"


def test_what_waiting_does_not_mend_ends_at_once_with_its_remedy(store, monkeypatch):
    started_s = time.monotonic()
    objects = opened(store)
    with store.out("denied"):
        for ask in (lambda: objects.create("a", b""), lambda: objects.get("a"), objects.names):
            with pytest.raises(StoreError, match=r"403 Forbidden.*: see that the credentials are"):
                ask()
    elsewhere = open_store("s3://none/atlas", create=True, patience_s=PATIENCE_S)
    with pytest.raises(WriteError, match="cannot write s3://none/atlas/a: there is no such bucket"):
        elsewhere.create("a", b"")
    with pytest.raises(StoreError, match="there is no such bucket: make it, or choose"):
        elsewhere.get("a")
    assert store.refused == 3
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert time.monotonic() - started_s < PATIENCE_S


@pytest.mark.usefixtures("quick")
def test_units_are_committed_whole_where_answers_are_lost(
    store, lay_out, header, layer, record, network_record
):
    objects = opened(store)
    store.faults = Faults(rate=0.3, kinds=("lost", "lost_500"))
    lay_out(objects)
    network.store(objects, layer, network_record)
    for unit in range(2):
        receipt = Writer(objects, header, layer).commit(record(unit))
        assert (receipt.state, receipt.key.unit) == ("done", unit)
    failure = FailureRecord(UnitKey("toy", "features.3", 4), "non_finite", "NaN", "trace")
    assert Writer(objects, header, layer).fail(failure).state == "failed"
    assert store.failed["lost"] > 10
    store.faults = Faults()
    assert verify(objects) == ()
    assert list(Reader(objects).commits("features.3")) == [0, 1]
    assert Reader(objects).failures("features.3") == {4: failure}


@pytest.mark.parametrize("taken_first", ["chunk", "fragment"])
def test_a_number_that_another_attempt_drew_is_drawn_anew(
    objects, header, layer, record, monkeypatch, taken_first
):
    """The other one has written the first of its objects, or the last."""
    drawn = iter([7, 7, 8])
    monkeypatch.setattr(attempts.secrets, "randbelow", lambda _: next(drawn))
    Writer(objects, header, layer).commit(record(0))
    theirs = Reader(objects).commit("features.3", 0).objects
    path = theirs[0 if taken_first == "chunk" else -1].path.replace("c.0.7", "c.1.7")
    objects.create(path.replace("/0/", "/1/"), b"theirs")
    receipt = Writer(objects, header, layer).commit(record(1))
    assert receipt.attempt == 8
    assert objects.get(path.replace("/0/", "/1/")) == b"theirs"
    assert not any(finding.harmful for finding in verify(objects))


def test_where_every_number_is_taken_the_unit_fails_alone(
    objects, header, layer, record, monkeypatch
):
    monkeypatch.setattr(attempts.secrets, "randbelow", lambda _: 7)
    taken = layer_paths.fragment("features.3", 1, 7, "responses")
    objects.create(taken, b"theirs")
    writer = Writer(objects, header, layer)
    with pytest.raises(ContestedError, match=f"{taken} is there already"):
        writer.commit(record(1))
    assert writer.committed(1) is None
    assert writer.commit(record(2)).state == "done"


def test_the_record_of_another_that_came_first_is_the_winners(
    objects, header, layer, record, monkeypatch
):
    create = Objects.create

    def late(self, path, data):
        if "/commits/" in path:
            monkeypatch.setattr(Objects, "create", create)
            Writer(objects, header, layer).commit(record(1, seed=1))
        return create(self, path, data)

    monkeypatch.setattr(Objects, "create", late)
    receipt = Writer(objects, header, layer).commit(record(1, seed=2))
    assert receipt.attempt == Reader(objects).commit("features.3", 1).attempt


def test_a_folder_that_is_gone_is_not_made_anew(tmp_path, objects, header, layer, record):
    folder, aside = tmp_path / "atlas", tmp_path / "aside"
    writer = Writer(objects, header, layer)
    writer.commit(record(0))
    folder.rename(aside)
    with pytest.raises(WriteError, match="is gone or cannot be made: put it back, or") as caught:
        objects.create("a", b"")
    assert "\n" not in str(caught.value)
    with pytest.raises((StoreError, NotAnAtlasError)):
        writer.commit(record(1))
    assert not folder.exists()
    aside.rename(folder)
    assert writer.commit(record(1)).state == "done"
    assert verify(objects) == ()
