"""A repair sets aside what is damaged and nothing else, makes the rest again, and loses no unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from circuit_atlas.storage_schema import layer_paths, layout, network, set_aside
from circuit_atlas.storage_schema.commit import Commit, StoredObject
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.errors import CorruptError, NotAnAtlasError, WriteError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.repair import Repair, look, repair
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.writer import Writer
from tests.clock import set_clock

LAYER = "features.3"


@pytest.fixture
def built(objects, lay_out, header, layer, record, dead, network_record):
    """Three units done, one dead, one failed, and the layer sealed."""
    lay_out(objects, layers=[layer])
    network.store(objects, layer, network_record)
    writer = Writer(objects, header, layer)
    for unit in (0, 3, 4):
        writer.commit(record(unit))
    writer.commit(dead(1))
    writer.fail(FailureRecord(UnitKey("toy", LAYER, 2), "x", "y", "z"))
    compact(objects, header, layer)
    assert verify(objects) == ()
    return objects


def spoil(objects: Objects, path: str) -> bytes:
    """Flips a bit in the middle; the bytes as they were."""
    data = objects.get(path)
    half = len(data) // 2
    objects.put(path, data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :])
    return data


def harmful(objects: Objects) -> list[str]:
    return [finding.path for finding in verify(objects) if finding.harmful]


def commit(objects: Objects, unit: int) -> Commit:
    return Reader(objects).commits(LAYER)[unit]


def now(objects: Objects, snapshot: Any) -> dict[str, bytes]:
    """All objects but those that were set aside."""
    return {p: d for p, d in snapshot(objects).items() if layout.repair_of(p) is None}


def redone(done: Repair) -> list[tuple[str, str, int | None]]:
    return [(step.subject, step.layer, step.number) for step in done.steps if step.redone]


def test_a_whole_atlas_is_left_alone(built, snapshot):
    before = snapshot(built)
    done = repair(built)
    assert (done.findings, done.steps, done.aside) == ((), (), ())
    assert snapshot(built) == before


def test_of_a_damaged_unit_commit_and_damaged_files_go_and_no_other(built, snapshot):
    before = snapshot(built)
    paths = [stored.path for stored in commit(built, 3).objects[:2]]
    for path in paths:
        spoil(built, path)
    spoilt = {path: built.get(path) for path in paths}
    record = layer_paths.commit(LAYER, 3)
    done = repair(built)
    assert set(done.aside) == {record, *paths}
    assert redone(done) == [("unit", LAYER, 3)]
    after = snapshot(built)
    kept = {
        layout.set_aside(done.name, path): spoilt.get(path, before[path]) for path in done.aside
    }
    assert kept.items() <= after.items()
    assert done.size_bytes == sum(map(len, kept.values()))
    rest = {path: data for path, data in before.items() if path not in done.aside}
    assert {path: data for path, data in after.items() if path not in kept} == rest
    assert sorted(Reader(built).commits(LAYER)) == [0, 1, 4]
    assert harmful(built) == []


def test_a_dry_run_says_the_same_and_changes_nothing(built, snapshot):
    spoil(built, commit(built, 3).objects[0].path)
    before = snapshot(built)
    found = look(built)
    assert snapshot(built) == before
    done = repair(built)
    assert (found.findings, found.steps) == (done.findings, done.steps)


@pytest.mark.parametrize("way", ["bit", "emptied"])
def test_a_commit_record_comes_back_from_a_sealed_generation(built, way):
    path = layer_paths.commit(LAYER, 3)
    data = spoil(built, path)
    if way == "emptied":
        built.put(path, b"")
    done = repair(built)
    assert redone(done) == []
    assert built.get(path) == data
    assert harmful(built) == []


def test_it_does_not_come_back_where_what_it_names_is_damaged(built):
    path = layer_paths.commit(LAYER, 3)
    spoil(built, commit(built, 3).objects[-1].path)
    spoil(built, path)
    assert redone(repair(built)) == [("unit", LAYER, 3)]
    assert not built.exists(path)
    assert harmful(built) == []


def test_files_that_changed_places_go_back(built, snapshot):
    before = snapshot(built)
    pairs = [
        (layer_paths.commit(LAYER, 0), layer_paths.commit(LAYER, 3)),
        (commit(built, 4).objects[0].path, commit(built, 4).objects[1].path),
    ]
    for one, other in pairs:
        first, second = built.get(one), built.get(other)
        built.put(one, second)
        built.put(other, first)
    done = repair(built)
    assert redone(done) == []
    assert now(built, snapshot) == before


def test_metadata_of_arrays_is_made_again(built, snapshot):
    before = snapshot(built)
    for path in before:
        if path.endswith("zarr.json"):
            spoil(built, path)
    assert redone(repair(built)) == []
    assert now(built, snapshot) == before


def test_a_damaged_generation_is_sealed_again(built):
    old = next(p for p in paths(built) if p.endswith("/masks.parquet"))
    spoil(built, old)
    done = repair(built)
    (manifest,) = done.sealed
    assert manifest.units == 4
    assert redone(done) == []
    assert harmful(built) == []
    assert old in done.aside


def paths(objects: Objects) -> list[str]:
    return [entry.path for entry in objects.list()]


def test_a_plan_that_gives_its_digest_is_made_again(built):
    (path,) = (p for p in paths(built) if layout.is_plan(p))
    data = spoil(built, path)
    done = repair(built)
    assert harmful(built) == []
    if built.exists(path):
        assert built.get(path) == data
        assert redone(done) == []
    else:
        assert redone(done) == [("plan", "", None)]


@pytest.mark.parametrize(
    ("name", "goes"),
    [
        ("layer.json", "layer"),
        ("network.json", "network"),
        ("weights.parquet", "network"),
        ("images.json", "images"),
        ("images.parquet", "images"),
        ("prepared/pixels/", "pixels"),
    ],
)
def test_what_the_next_build_makes_again_is_out_of_its_way(built, name, goes):
    path = next(p for p in paths(built) if name in p)
    spoil(built, path)
    done = repair(built)
    assert [subject for subject, _, _ in redone(done)] == [goes]
    assert path in done.aside
    assert not built.exists(path)
    assert not any(layer_paths.committed_unit(p) is not None for p in done.aside)
    # Again, before any build: there is nothing to set aside, and it says the same.
    again = repair(built)
    assert again.aside == ()
    assert [subject for subject, _, _ in redone(again)] in ([], [goes])


def test_what_was_written_since_stays(built, monkeypatch, record, header, layer):
    """A build commits the unit anew between the look and the deed."""
    path, spoilt = layer_paths.commit(LAYER, 3), commit(built, 3).objects[0].path
    spoil(built, spoilt)
    found = look(built)

    def looked(objects: Objects) -> Repair:
        objects.delete([path])
        Writer(objects, header, layer).commit(record(3, seed=1))
        return found

    monkeypatch.setattr("circuit_atlas.storage_schema.repair.look", looked)
    done = repair(built)
    assert done.changed == (path,)
    assert done.steps == ()
    assert built.exists(path)


@pytest.mark.parametrize(
    "path", [layer_paths.network(LAYER), layer_paths.layer_index(LAYER), layout.IMAGES_RECORD]
)
def test_what_was_missing_and_is_written_since_stays(built, monkeypatch, snapshot, path):
    """And so does what goes with it, which the new record may name."""
    whole = snapshot(built)
    built.delete([path])
    found = look(built)

    def looked(objects: Objects) -> Repair:
        objects.put(path, whole[path])
        return found

    monkeypatch.setattr("circuit_atlas.storage_schema.repair.look", looked)
    done = repair(built)
    assert found.steps
    assert (done.changed, done.steps, done.aside) == ((path,), (), ())
    assert snapshot(built) == whole


@pytest.mark.parametrize("moment", ["looked", "planned"])
def test_a_unit_that_another_repair_and_a_build_renewed_stays(
    built, monkeypatch, snapshot, record, header, layer, moment
):
    """Of two repairs, the slower one has found what the other has set aside."""
    path, spoilt = layer_paths.commit(LAYER, 3), commit(built, 3).objects[0].path
    spoil(built, spoilt)
    findings = verify(built)
    found = look(built)
    repair(built)
    Writer(built, header, layer).commit(record(3, seed=1))
    renewed = snapshot(built)
    name = "circuit_atlas.storage_schema.repair.look"
    if moment == "looked":
        name = "circuit_atlas.storage_schema.repair.verify"
        monkeypatch.setattr(name, lambda _: findings)
    else:
        monkeypatch.setattr(name, lambda _: found)
    done = repair(built)
    assert (done.steps, done.aside) == ((), ())
    assert snapshot(built) == renewed
    assert built.exists(path)


def test_a_record_that_a_build_is_about_to_write_is_waited_for(built, monkeypatch, snapshot):
    """What it names is there already: between the two a repair finds a record missing."""
    path, whole = layer_paths.network(LAYER), snapshot(built)
    built.delete([path])
    waited: list[float] = []

    def sleep(time_s: float) -> None:
        waited.append(time_s)
        if len(waited) == 3:
            built.put(path, whole[path])

    set_clock(monkeypatch, "storage_schema.repair", sleep=sleep)
    assert repair(built).aside == ()
    assert len(waited) == 3
    assert snapshot(built) == whole


def test_nothing_of_a_step_is_done_where_one_of_its_objects_is_anew(built, monkeypatch, snapshot):
    """Not even what comes before it: a torn record is set aside with what it names, or stays."""
    path, written = layer_paths.network(LAYER), layer_paths.channels(LAYER)
    spoil(built, path)
    found = look(built)
    torn = snapshot(built)

    def looked(objects: Objects) -> Repair:
        objects.put(written, b"anew")
        return found

    monkeypatch.setattr("circuit_atlas.storage_schema.repair.look", looked)
    done = repair(built)
    assert (done.changed, done.steps, done.aside) == ((written,), (), ())
    assert snapshot(built) == {**torn, written: b"anew"}


@pytest.mark.parametrize("path", [layer_paths.commit(LAYER, 3), layer_paths.network(LAYER)])
def test_a_document_that_is_too_long_to_be_read_is_moved_aside(built, path):
    """As where a disk gave a file the blocks of others."""
    built.put(path, built.get(path) + b" " * layout.SMALL_BYTES)
    done = repair(built)
    assert path in done.aside
    assert built.exists(layout.set_aside(done.name, path))
    assert (path in harmful(built)) == (path == layer_paths.network(LAYER)), "missing now"
    assert repair(built).aside == ()


class _Stopped(Objects):
    """Ends after so many writes, as a machine does that loses its power."""

    left = 0

    def _count(self) -> None:
        if not self.left:
            raise WriteError("stopped")
        self.left -= 1

    def create(self, path: str, data: bytes | memoryview) -> bool:
        self._count()
        return super().create(path, data)

    def put(self, path: str, data: bytes) -> None:
        self._count()
        super().put(path, data)

    def delete(self, paths: Any) -> None:
        self._count()
        super().delete(paths)

    def move(self, path: str, to: str) -> None:
        self._count()
        super().move(path, to)


def test_stopped_at_any_write_the_next_one_ends_it(built, snapshot, tmp_path):
    """Whatever is damaged at once: a unit, a record that is sealed, metadata, a generation."""
    before = snapshot(built)
    for path in (
        commit(built, 3).objects[0].path,
        layer_paths.commit(LAYER, 4),
        next(p for p in before if p.endswith("score/actgrad/zarr.json")),
        next(p for p in before if p.endswith("/masks.parquet")),
        layer_paths.network(LAYER),
        layout.IMAGES,
    ):
        spoil(built, path)
    damaged = snapshot(built)
    writes = 0
    while True:
        folder = tmp_path / str(writes)
        store = open_store(folder, create=True)
        for path, data in damaged.items():
            store.put(path, data)
        stopped = _Stopped(store.store, location=store.location)
        stopped.left = writes
        try:
            repair(stopped)
        except WriteError:
            ended = False
        else:
            ended = True
        done = repair(store)
        assert sorted(Reader(store).commits(LAYER)) == [0, 1, 4], writes
        assert set(harmful(store)) <= {layer_paths.network(LAYER), layout.IMAGES_RECORD}, writes
        held = {path.split("/", 2)[2] for one in set_aside.listed(store) for path in one.paths}
        lost = damaged.keys() - set(paths(store)) - held
        assert not lost, writes
        if ended:
            assert done.aside == ()
            assert writes > 10
            return
        writes += 1


def test_what_a_record_from_elsewhere_names_stays(built, snapshot):
    """A commit record may name what is no unit's."""
    before, path = snapshot(built), layer_paths.commit(LAYER, 2)
    named = (StoredObject(layout.HEADER, 3, "0" * 64), StoredObject(layout.IMAGES, 3, "0" * 64))
    foreign = Commit("toy", LAYER, 2, 1, "done", 3, 1, (), named, 0.0)
    built.put(path, foreign.to_json().encode())
    done = repair(built)
    assert done.aside == (path,)
    assert now(built, snapshot) == before


def test_without_a_header_nothing_is_done(built, snapshot):
    spoil(built, layout.HEADER)
    before = snapshot(built)
    with pytest.raises(CorruptError):
        repair(built)
    built.delete([layout.HEADER])
    with pytest.raises(NotAnAtlasError):
        repair(built)
    built.put(layout.HEADER, before[layout.HEADER])
    assert snapshot(built) == before


def test_what_was_set_aside_is_listed_and_deleted(built):
    spoil(built, commit(built, 3).objects[0].path)
    done = repair(built)
    (one,) = set_aside.listed(built)
    assert (one.repair, len(one.paths), one.size_bytes) == (done.name, 2, done.size_bytes)
    assert 0 <= one.age_s < 60
    assert Path(built.location, one.paths[0]).exists()
    set_aside.delete(built, [one])
    assert set_aside.listed(built) == ()
    assert harmful(built) == []
