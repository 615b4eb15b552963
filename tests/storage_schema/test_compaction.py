"""A sealed layer says what its fragments say, whatever happened while it was written."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore

from circuit_atlas.storage_schema import layer_paths, network, sealed
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.errors import CorruptError, WriteError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.polysemanticity import polysemanticity
from circuit_atlas.storage_schema.ranking import KEEP
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.writer import Writer
from tests.storage_schema.sealing import (
    LAYER,
    UNITS,
    KilledError,
    Mortal,
    Unsealed,
    everything,
    widened,
)

WRITES = 9  # five tables, polysemanticity, masks, commit records, manifest


@pytest.fixture
def wide(layer):
    return widened(layer)


@pytest.fixture
def store(request, tmp_path):
    """A folder, or memory where a test asks for it."""
    if getattr(request, "param", "disk") == "memory":
        return Objects(MemoryStore(), location="memory://")
    return open_store(tmp_path / "wide", create=True)


@pytest.fixture
def built(store, lay_out, header, wide, record, dead, network_record):
    """Eight units done, the last of them first, and one dead."""
    lay_out(store, layers=[wide])
    network.store(store, wide, network_record)
    writer = Writer(store, header, wide)
    for unit in (11, 3, 5, 7, 2, 9, 4, 6):
        writer.commit(record(unit))
    writer.commit(dead(8))
    return store


@pytest.fixture
def seal(header, wide):
    return lambda objects, **more: compact(objects, header, wide, **more)


@pytest.mark.parametrize("store", ["disk", "memory"], indirect=True)
def test_a_sealed_layer_says_what_its_fragments_say(built, seal, snapshot):
    before, stored = everything(built), snapshot(built)
    manifest = seal(built)
    assert manifest.units == 9
    assert everything(built) == before == everything(Unsealed(built))
    after = snapshot(built)
    assert {path: after[path] for path in stored} == stored
    names = {path.rsplit("/", 1)[1] for path in after.keys() - stored.keys()}
    assert names == {"manifest.json"} | {
        f"{name}.parquet"
        for name in (
            "responses",
            "faithfulness",
            "subfeatures",
            "groups",
            "contrast",
            "polysemanticity",
            "masks",
            "commits",
        )
    }
    assert verify(built) == ()


def test_a_layer_is_read_in_a_file_each(built, seal, monkeypatch):
    seal(built)
    read = []
    get = Objects.get
    monkeypatch.setattr(Objects, "get", lambda self, path: read.append(path) or get(self, path))
    reader = Reader(built)
    reader.layer(LAYER)
    reader.images()
    read.clear()
    reader.commits(LAYER)
    assert [path.rsplit("/", 1)[1] for path in read] == ["manifest.json", "commits.parquet"]
    read.clear()
    for table in sealed.tables_of(2):
        reader.table(LAYER, table.name)
    assert [path.rsplit("/", 1)[1] for path in read] == [
        f"{table.stored_name}.parquet" for table in sealed.tables_of(2)
    ]
    assert not any("/units/" in path for path in read)


def test_there_is_nothing_to_do_twice(built, seal, snapshot):
    seal(built)
    stored = snapshot(built)
    assert seal(built) is None
    assert snapshot(built) == stored
    assert seal(built, anew=True) is not None
    assert everything(built) == everything(Unsealed(built))


def test_a_layer_without_units_is_left_alone(store, lay_out, wide, seal):
    lay_out(store, layers=[wide])
    assert seal(store, anew=True) is None


def test_a_layer_of_dead_units_has_files_without_rows(store, lay_out, header, wide, dead, seal):
    lay_out(store, layers=[wide])
    for unit in range(UNITS):
        Writer(store, header, wide).commit(dead(unit))
    before = everything(store)
    assert seal(store).units == UNITS
    assert everything(store) == before
    assert before["actgrad 0"] == []


def test_units_committed_since_are_read_too(built, header, wide, record, seal):
    seal(built)
    writer = Writer(built, header, wide)
    for unit in (0, 10):
        writer.commit(record(unit))
        assert everything(built) == everything(Unsealed(built))
    assert list(Reader(built).commits(LAYER)) == [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert seal(built).units == 11
    assert everything(built) == everything(Unsealed(built))


def test_the_commit_record_that_is_there_counts(built, header, wide, record, dead, seal):
    """A unit that is deleted and built again, as another attempt and with other numbers."""
    seal(built)
    for unit, again in ((3, record(3, seed=1)), (8, record(8)), (9, dead(9))):
        built.delete([layer_paths.commit(LAYER, unit)])
        assert unit not in Reader(built).commits(LAYER)
        assert everything(built) == everything(Unsealed(built))
        Writer(built, header, wide).commit(again)
        assert everything(built) == everything(Unsealed(built))
    assert Reader(built).commits(LAYER)[9].state == "dead"
    assert seal(built) is not None
    assert seal(built) is None
    assert everything(built) == everything(Unsealed(built))


def test_polysemanticity_is_that_of_the_units_scores_and_groups(built, seal):
    seal(built)
    reader = Reader(built)
    commits = reader.commits(LAYER)
    rows = reader.polysemanticity(LAYER, commits).to_pylist()
    expected = {unit: _polysemanticity(reader, commits[unit]) for unit in commits if unit != 8}
    assert {row["unit"]: row["polysemanticity"] for row in rows} == expected
    assert [row["unit"] for row in rows] == [2, 3, 4, 5, 6, 7, 9, 11]
    assert {row["criterion"] for row in rows} == {"actgrad"}
    assert set(expected.values()) == {None, 1.0}
    few = {unit: commits[unit] for unit in (9, 2, 8)}
    assert [row["unit"] for row in reader.polysemanticity(LAYER, few).to_pylist()] == [2, 9]


def test_units_that_are_not_sealed_have_no_polysemanticity(built, header, wide, record, seal):
    """Those that were committed since, and those that were built again."""
    first = Reader(built)
    assert not first.polysemanticity(LAYER, first.commits(LAYER)).num_rows
    seal(built)
    built.delete([layer_paths.commit(LAYER, 3)])
    for unit in (0, 3):
        Writer(built, header, wide).commit(record(unit, seed=1))
    for reader in (Reader(built), first):
        rows = reader.polysemanticity(LAYER, Reader(built).commits(LAYER))
        assert rows["unit"].to_pylist() == [2, 4, 5, 6, 7, 9, 11]
    seal(built)
    for reader in (Reader(built), first):
        rows = reader.polysemanticity(LAYER, Reader(built).commits(LAYER))
        assert rows["unit"].to_pylist() == [0, 2, 3, 4, 5, 6, 7, 9, 11]


def test_a_generation_of_before_there_was_polysemanticity_is_read(built, seal):
    manifest = seal(built)
    before = everything(built)
    gone = manifest.file("polysemanticity").path
    older = tuple(file for file in manifest.objects if file.path != gone)
    path = layer_paths.manifest(LAYER, manifest.generation)
    built.put(path, dataclasses.replace(manifest, objects=older).to_json().encode())
    built.delete([gone])
    reader = Reader(built)
    rows = reader.polysemanticity(LAYER, reader.commits(LAYER))
    assert (rows.num_rows, rows.column_names) == (0, ["unit", "criterion", "polysemanticity"])
    assert everything(built) == before
    assert verify(built) == ()
    assert seal(built) is None
    assert seal(built, anew=True) is not None
    assert Reader(built).polysemanticity(LAYER, reader.commits(LAYER)).num_rows == 8


def test_a_copy_reads_the_commit_records_once_more(built, seal, tmp_path, snapshot):
    """Its store tags all objects anew: the same records are known by their bytes."""
    seal(built)
    copy = open_store(tmp_path / "copy", create=True)
    for path, data in snapshot(built).items():
        copy.put(path, data)
    assert everything(copy) == everything(Unsealed(copy))
    reader = Reader(copy)
    commits = reader.commits(LAYER)
    assert reader._scan._held[LAYER].holds(commits[3])
    assert seal(copy) is not None
    assert seal(copy) is None


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("write", range(1, WRITES + 1))
def test_killed_at_any_write_it_leaves_the_same_atlas(built, seal, write, after):
    before = everything(built)
    with pytest.raises(KilledError):
        seal(Mortal(built, at=write, after=after))
    whole = (write, after) == (WRITES, True)
    assert [g.whole for g in sealed.generations(built, LAYER)] in ([], [whole])
    assert everything(built) == before
    assert not [finding for finding in verify(built) if finding.harmful]
    assert (seal(built) is None) == whole
    assert everything(built) == before
    assert seal(built) is None
    left = verify(built)
    assert {finding.kind for finding in left} <= {"unreferenced"}
    assert all(layer_paths.generation_of(finding.path) for finding in left)


def test_a_process_that_dies_leaves_the_same_atlas(tmp_path, lay_out, header, wide, record, seal):
    objects = open_store(tmp_path / "wide", create=True)
    lay_out(objects, layers=[wide])
    for unit in range(UNITS):
        Writer(objects, header, wide).commit(record(unit))
    before = everything(objects)
    code = f"""
import os
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.reader import Reader
reader, put, left = Reader({str(tmp_path / "wide")!r}), Objects.create, [4]
def dying(self, path, data):
    left[0] -= 1
    return put(self, path, data) if left[0] else os._exit(9)
Objects.create = dying
compact(reader.objects, reader.header, reader.layer({LAYER!r}))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    (half,) = sealed.generations(objects, LAYER)
    assert (half.whole, len(half.files)) == (False, 3)
    assert everything(objects) == before
    assert seal(objects).generation.startswith("2-")
    assert everything(objects) == before


def test_two_at_once_write_a_generation_each(built, seal):
    before = everything(built)
    both = threading.Barrier(2)

    class Together(Objects):
        def list(self, prefix=""):
            found = super().list(prefix)
            if prefix == layer_paths.sealed(LAYER):
                both.wait(timeout=60)
            return found

    with ThreadPoolExecutor(2) as pool:
        stores = [Together(built.store, location=built.location) for _ in range(2)]
        first, second = pool.map(lambda objects: seal(objects, anew=True), stores)
    assert first.generation != second.generation
    assert [g.number for g in sealed.generations(built, LAYER)] == [1, 1]
    assert everything(built) == before
    assert verify(built) == ()
    assert seal(built) is None


def test_what_is_committed_as_it_is_written_is_not_lost(built, header, wide, record, seal):
    class Growing(Objects):
        def create(self, path, data):
            if path.endswith("groups.parquet"):
                Writer(built, header, wide).commit(record(0))
            return super().create(path, data)

    assert seal(Growing(built.store, location=built.location)).units == 9
    assert 0 in Reader(built).commits(LAYER)
    assert everything(built) == everything(Unsealed(built))
    assert seal(built).units == 10


def test_a_moved_commit_record_is_not_sealed(built, seal):
    built.put(layer_paths.commit(LAYER, 1), built.get(layer_paths.commit(LAYER, 3)))
    with pytest.raises(CorruptError, match=r"1\.json is the record of toy/features\.3/3, moved"):
        seal(built)


def test_files_deleted_as_it_is_written_are_noticed(built, seal):
    class Cleaned(Objects):
        def create(self, path, data):
            put = super().create(path, data)
            if path.endswith("commits.parquet"):
                self.delete([path.replace("commits", "groups")])
            return put

    with pytest.raises(WriteError, match=r"groups\.parquet was deleted as it was written"):
        seal(Cleaned(built.store, location=built.location))
    assert not any(generation.whole for generation in sealed.generations(built, LAYER))


def test_a_put_whose_answer_was_lost_is_a_put(built, seal, monkeypatch):
    put = obstore.put

    def repeated(*arguments, **settings):
        put(*arguments, **settings)
        put(*arguments, **settings)

    monkeypatch.setattr(obstore, "put", repeated)
    assert seal(built) is not None
    assert everything(built) == everything(Unsealed(built))


def test_a_reader_goes_on_when_its_generation_is_deleted(built, seal):
    first = seal(built)
    readers = {n: Reader(built) for n in range(2)}
    for reader in readers.values():
        reader.commits(LAYER)
    before = everything(built)
    masks = readers[1].masks(LAYER, "actgrad", 1)
    some = [next(masks)]
    seal(built, anew=True)
    paths = [file.path for file in first.objects]
    built.delete([layer_paths.manifest(LAYER, first.generation), *paths])
    rows = readers[0].table(LAYER, "selectivity")
    assert readers[0].polysemanticity(LAYER, readers[0].commits(LAYER)).num_rows == 8
    assert rows.to_pylist() == before["selectivity"][0]
    some += masks
    assert sorted(unit for unit, _ in some) == [2, 3, 4, 5, 6, 7, 9, 11]
    second = sealed.generations(built, LAYER)[-1]
    built.delete([file.path for file in reversed(second.files)])
    assert not readers[0].polysemanticity(LAYER, readers[0].commits(LAYER)).num_rows
    assert readers[0].table(LAYER, "groups").to_pylist() == before["groups"][0]
    assert everything(built) == before


def test_a_missing_file_of_a_whole_generation_is_an_error(built, seal):
    manifest = seal(built)
    reader = Reader(built)
    reader.commits(LAYER)
    built.delete([manifest.file("groups").path])
    with pytest.raises(CorruptError, match=r"groups\.parquet is missing: run .*compact --anew"):
        reader.table(LAYER, "groups")
    assert seal(built, anew=True) is not None
    assert Reader(built).table(LAYER, "groups").num_rows


def test_a_spoiled_file_is_an_error_and_not_wrong_numbers(built, seal, snapshot):
    manifest = seal(built)
    files = {file.path: Path(file.path).stem for file in manifest.objects}
    stored = snapshot(built)
    for path, name in files.items():
        data = bytearray(stored[path])
        for at in (len(data) // 3, len(data) - 40):
            data[at] ^= 1
            built.put(path, bytes(data))
            data[at] ^= 1
            with pytest.raises(CorruptError, match=r"is cut or altered: run .*compact --anew"):
                _ask(built, name)
        built.put(path, bytes(data))
        _ask(built, name)


def _polysemanticity(reader: Reader, commit: Commit) -> float | None:
    """That of a unit by what a reader says of it; its top images are ranked as they are numbered,
    and grouped in the order of their groups' rows."""
    labels = reader.groups(commit)["group"].to_pylist()
    scores = reader.image_scores(commit, "actgrad")
    return polysemanticity(scores, labels, criterion="actgrad", keep=KEEP).value


def _ask(objects: Objects, name: str) -> None:
    reader = Reader(objects)
    if name == "masks":
        list(reader.masks(LAYER, "actgrad", 0))
    elif name == "commits":
        reader.commits(LAYER)
    elif name == "polysemanticity":
        reader.polysemanticity(LAYER, reader.commits(LAYER))
    else:
        reader.table(LAYER, "selectivity" if name == "contrast" else name)
