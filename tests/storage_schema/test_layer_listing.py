"""Which units are done, dead and failed, by listings: the same as their records say, unread."""

from __future__ import annotations

import dataclasses

import pytest
from obstore.store import MemoryStore

from circuit_atlas.storage_schema import layer_listing, layer_paths, layout, network
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.layer_listing import committed_units
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.writer import Writer
from tests.storage_schema.sealing import LAYER, KilledError, Mortal, widened

ODD = "block/../ü x"


@pytest.fixture(params=["disk", "memory"])
def store(request, tmp_path):
    if request.param == "memory":
        return Objects(MemoryStore(), location="memory://")
    return open_store(tmp_path / "atlas", create=True)


@pytest.fixture
def wide(layer):
    return widened(layer)


@pytest.fixture
def built(store, lay_out, header, wide, odd_layer, record, dead, network_record):
    """Two layers: of one, three units are done, two dead, one failed, and one that had failed is
    done; of the other, none is."""
    lay_out(store, layers=[wide, odd_layer])
    network.store(store, wide, network_record)
    writer = Writer(store, header, wide)
    for unit in (7, 2):
        writer.fail(FailureRecord(UnitKey(header.model, LAYER, unit), "kind", "why", ""))
    for unit in (11, 3, 2):
        writer.commit(record(unit))
    for unit in (8, 0):
        writer.commit(dead(unit))
    return store


def test_it_says_what_the_records_say(built):
    reader = Reader(built)
    odd, listing = reader.listings()
    assert (odd.layer, listing.layer) == (ODD, LAYER)
    assert (odd.done, odd.dead, odd.committed, odd.failures) == (0, 0, {}, {})
    states = {unit: commit.state for unit, commit in reader.commits(LAYER).items()}
    assert list(listing.committed) == list(states) == [0, 2, 3, 8, 11]
    assert listing.committed[3].path == layer_paths.commit(LAYER, 3)
    assert listing.done == list(states.values()).count("done") == 3
    assert listing.dead == list(states.values()).count("dead") == 2
    assert list(listing.failures) == [7]
    assert reader.failures(LAYER, listing) == reader.failures(LAYER)
    assert list(reader.failures(LAYER)) == [7]


@pytest.mark.parametrize("seal", [False, True])
def test_no_commit_record_is_read(built, header, wide, monkeypatch, seal):
    if seal:
        compact(built, header, wide)
    read = []
    get = Objects.get
    monkeypatch.setattr(Objects, "get", lambda self, path: read.append(path) or get(self, path))
    assert Reader(built).listings()[1].done == 3
    assert committed_units(built, [LAYER, ODD]) == {LAYER: {0, 2, 3, 8, 11}, ODD: set()}
    assert read == [layout.HEADER]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 14, 15])
def test_wherever_an_attempt_ends_only_commits_count(built, header, wide, record, at, after):
    """Its last put is that of the first chunk, of the last fragment, or of the commit record."""
    mortal = Mortal(built, at=at, after=after)
    with pytest.raises(KilledError):
        Writer(mortal, header, wide).commit(record(5))
    listing = Reader(built).listings()[1]
    committed = set(Reader(built).commits(LAYER))
    assert set(listing.committed) == committed
    assert (listing.done, listing.dead) == (3 + (5 in committed), 2)
    assert (5 in committed) == (at == 15 and after)


def test_a_unit_whose_commit_is_deleted_is_missing(built):
    built.delete([layer_paths.commit(LAYER, 3)])
    listing = Reader(built).listings()[1]
    assert (listing.done, listing.dead) == (2, 2)


def test_a_done_unit_whose_scores_are_gone_is_done_still(built):
    """It would be taken for a dead one: its commit record, which says more, is asked."""
    folder = layer_paths.array(LAYER, "score", "actgrad")
    (chunk,) = (e.path for e in built.list(folder) if "/c.3." in e.path)
    built.delete([chunk])
    listing = Reader(built).listings()[1]
    assert (listing.done, listing.dead) == (3, 2)
    built.put(layer_paths.commit(LAYER, 3), built.get(layer_paths.commit(LAYER, 2)))
    with pytest.raises(CorruptError, match=r"the record of toy/features\.3/2, moved here"):
        Reader(built).listings()


def test_a_dead_units_record_is_shorter_than_any_other(built):
    """Whatever its numbers are: else it would be read, or one with circuits would not."""
    listing = Reader(built).listings()[1]
    sizes = {unit: entry.size_bytes for unit, entry in listing.committed.items()}
    longest = layer_listing._longest_dead("toy", LAYER, 11)
    assert {unit for unit, size in sizes.items() if size <= longest} == {0, 8}


def test_a_layer_that_is_laid_out_later_is_listed(store, lay_out, layer, odd_layer):
    lay_out(store, layers=[layer])
    reader = Reader(store)
    assert reader.layers() == (LAYER,)
    lay_out(store, layers=[layer, odd_layer])
    assert reader.layers() == (ODD, LAYER)
    assert dataclasses.replace(reader.listings()[0], layer=LAYER).committed == {}
