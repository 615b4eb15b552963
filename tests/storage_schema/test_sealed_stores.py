"""Sealed layers on every kind of store: a folder, an object store, and one that is served."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from circuit_atlas.service.web.app import create_app
from circuit_atlas.storage_schema import compaction, layer_paths, network, sealed
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.old_generations import delete_old
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.writer import Writer
from tests.service.stores import object_store, served
from tests.storage_schema.sealing import LAYER, Unsealed, everything, widened

UNITS = range(8)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory) -> Iterator[str]:
    """The address of an object store's bucket."""
    with (
        object_store(tmp_path_factory.mktemp("s3") / "log") as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        yield "s3://bucket"


@pytest.fixture(params=["folder", "s3"])
def built(request, tmp_path, lay_out, header, layer, record, network_record) -> Objects:
    """Eight units done, on a store that can be written."""
    bucket = request.getfixturevalue("bucket") if request.param == "s3" else None
    location = tmp_path / "atlas" if bucket is None else f"{bucket}/{request.node.name}"
    objects, wide = open_store(location, create=True), widened(layer)
    lay_out(objects, layers=[wide])
    network.store(objects, wide, network_record)
    for unit in UNITS:
        Writer(objects, header, wide).commit(record(unit))
    return objects


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Paths that were read."""
    paths: list[str] = []
    get, ranges = Objects.get, Objects.get_ranges
    monkeypatch.setattr(Objects, "get", lambda self, path: paths.append(path) or get(self, path))
    monkeypatch.setattr(
        Objects, "get_ranges", lambda self, path, of: paths.append(path) or ranges(self, path, of)
    )
    return paths


def test_a_store_is_sealed_read_and_cleaned(built, header, layer, record, read):
    wide = widened(layer)
    before = everything(Unsealed(built))
    assert compact(built, header, wide).units == 8
    read.clear()
    assert everything(built) == before
    assert not [path for path in read if "/units/" in path or "/commits/" in path]
    assert verify(built) == ()
    Writer(built, header, wide).commit(record(9))
    assert everything(built) == everything(Unsealed(built))
    assert compact(built, header, wide).units == 9
    assert compact(built, header, wide) is None
    assert [due for _, due in delete_old(built, LAYER)] == [False]
    assert [due for _, due in delete_old(built, LAYER, older_than_s=0)] == [True]
    assert [generation.number for generation in sealed.generations(built, LAYER)] == [2]
    assert verify(built) == ()
    assert everything(built) == everything(Unsealed(built))


def test_row_groups_are_read_alone(built, header, layer, monkeypatch):
    monkeypatch.setattr(compaction, "_ROWS", 10)
    monkeypatch.setattr(compaction, "_UNITS_AT_ONCE", 2)
    monkeypatch.setattr(compaction, "_CHUNK_BYTES", 1)
    manifest = compact(built, header, widened(layer))
    groups = {name: len(manifest.file(name).row_groups) for name in ("responses", "masks")}
    assert groups == {"responses": 3, "masks": 8}
    assert everything(built) == everything(Unsealed(built))
    reader = Reader(built)
    whole = reader.table(LAYER, "faithfulness")
    asked = []
    get = Objects.get_ranges

    def ranges(self, path, of):
        asked.append((path.rsplit("/", 1)[1], len(of)))
        return get(self, path, of)

    monkeypatch.setattr(Objects, "get_ranges", ranges)
    some = reader.table(LAYER, "faithfulness", units=range(3, 8), columns=["level", "pearson"])
    columns = whole.select(["unit", "level", "pearson"])
    assert some.to_pylist() == columns.to_pylist()[3 * len(whole) // 8 :]
    assert asked == [("faithfulness.parquet", 4)]  # three row groups of four, and the metadata
    assert dict(reader.masks(LAYER, "force", 2)).keys() == set(UNITS)
    assert asked[-1][0] == "masks.parquet"
    assert all(count == 2 for name, count in asked if name == "masks.parquet")


def test_a_served_atlas_is_read_from_its_sealed_files(built, header, layer, record, read):
    wide = widened(layer)
    compact(built, header, wide)
    Writer(built, header, wide).commit(record(9))
    with served(create_app(built.location)) as address:
        objects = open_store(address)
        before = everything(Unsealed(built))
        read.clear()
        reader = Reader(objects)
        assert list(reader.commits(LAYER)) == [*UNITS, 9]
        record_paths = {path for path in read if layer_paths.committed_unit(path) is not None}
        assert record_paths == {layer_paths.commit(LAYER, 9)}
        assert everything(objects) == before
        assert verify(objects) == ()
