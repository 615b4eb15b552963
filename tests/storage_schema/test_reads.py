"""How much a reader reads and lists for what it is asked."""

from __future__ import annotations

import dataclasses
import time

import pyarrow.compute as pc
import pytest

from circuit_atlas.storage_schema import layer_paths, unit_tables
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import (
    QueryError,
)
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.writer import Writer


@pytest.fixture
def counted(monkeypatch):
    """Paths that were read and folders that were listed."""
    seen = {"get": [], "list": []}
    get, listing = Objects.get, Objects.list
    monkeypatch.setattr(Objects, "get", lambda s, p: seen["get"].append(p) or get(s, p))
    monkeypatch.setattr(Objects, "list", lambda s, p="": seen["list"].append(p) or listing(s, p))
    return seen


def test_a_table_of_the_whole_layer_has_a_unit_column(objects, header, layer, record):
    writer = Writer(objects, header, layer)
    for unit in (4, 0, 1):
        writer.commit(record(unit))
    reader = Reader(objects)
    table = reader.table("features.3", "faithfulness")
    assert table.schema.names == ["unit", *unit_tables.FAITHFULNESS.schema.names]
    renamed = {"response": "target", "rung": "level"}
    expected = [
        {
            "unit": unit,
            **{renamed.get(name, name): value for name, value in dataclasses.asdict(row).items()},
        }
        for unit in (0, 1, 4)
        for row in record(unit).faithfulness
    ]
    assert table.to_pylist() == expected
    levels = reader.table("features.3", "faithfulness", columns=["level", "target"])
    assert levels.equals(table.select(["unit", "level", "target"]))
    empty = Reader(objects).table("features.3", "subfeatures").slice(0, 0)
    assert empty.schema.names[0] == "unit"


def test_a_table_of_some_units_reads_those_alone(objects, header, layer, record, counted):
    writer = Writer(objects, header, layer)
    for unit in (4, 0, 1):
        writer.commit(record(unit))
    reader = Reader(objects)
    whole = reader.table("features.3", "responses")
    counted["get"].clear()
    some = reader.table("features.3", "responses", units=[1, 3], columns=["image", "response"])
    assert len(counted["get"]) == 1
    expected = whole.select(["unit", "image", "response"]).filter(pc.equal(whole["unit"], 1))
    assert some.equals(expected)
    none = reader.table("features.3", "responses", units=[3], columns=["image", "response"])
    assert none.num_rows == 0
    assert none.schema.equals(some.schema)


def test_a_table_of_known_commits_needs_no_listing(objects, header, layer, record, counted):
    for unit in (4, 0, 1):
        Writer(objects, header, layer).commit(record(unit))
    reader = Reader(objects)
    commits = reader.commits("features.3")
    whole = reader.table("features.3", "groups")
    counted["list"].clear()
    assert reader.table("features.3", "groups", commits=commits).equals(whole)
    some = reader.table("features.3", "groups", units=[4], commits=commits)
    assert some.equals(whole.filter(pc.equal(whole["unit"], 4)))
    assert counted["list"] == []


def test_a_table_of_nothing_has_the_same_columns(objects, header, layer, record):
    before = Reader(objects).table("features.3", "responses")
    Writer(objects, header, layer).commit(record(1))
    assert before.num_rows == 0
    assert before.schema.equals(Reader(objects).table("features.3", "responses").schema)


def test_a_thousand_commits_are_two_listings_and_one_read_each(
    tmp_path, lay_out, header, layer, record, counted
):
    units = tuple(dataclasses.replace(layer.units[0], number=n, name=str(n)) for n in range(1000))
    wide = dataclasses.replace(layer, units=units)
    objects = open_store(tmp_path / "wide", create=True)
    lay_out(objects, layers=[wide])
    Writer(objects, header, wide).commit(record(0))
    reader = Reader(objects)
    first = reader.commits("features.3")[0]
    for unit in range(1, 1000):
        text = dataclasses.replace(first, unit=unit, objects=()).to_json()
        objects.put(layer_paths.commit("features.3", unit), text.encode())

    for asked in counted.values():
        asked.clear()
    started = time.perf_counter()
    commits = reader.commits("features.3")
    took_s = time.perf_counter() - started
    assert [commit.unit for commit in commits.values()] == list(range(1000))
    # One of the commit records, and one for a sealed generation.
    assert counted["list"] == [layer_paths.commits("features.3"), layer_paths.sealed("features.3")]
    assert len(counted["get"]) == 999
    # 0.2 s on two idle cores; a listing a unit would take minutes on an object store.
    assert took_s < 20

    for asked in counted.values():
        asked.clear()
    assert reader.commits("features.3") == commits
    assert counted == {"get": [], "list": [layer_paths.commits("features.3")]}


def test_one_unit_is_read_by_known_paths(objects, header, layer, record, counted):
    receipt = Writer(objects, header, layer).commit(record(1))
    reader = Reader(objects)
    assert reader.commit("features.3", 0) is None
    commit = reader.commit("features.3", 1)
    assert isinstance(commit, Commit)
    assert commit.attempt == receipt.attempt
    reader.responses(commit)
    assert counted["list"] == []
    with pytest.raises(QueryError, match=r"no unit 9: it has 5, numbered 0 to 4"):
        reader.commit("features.3", 9)
