"""Verify holds sealed generations against what the units stored."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pytest
from obstore.store import MemoryStore

from circuit_atlas.storage_schema import layer_paths, network, row_groups, sealed
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import CircuitRecord
from circuit_atlas.storage_schema.row_groups import Block
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.writer import Writer
from tests.storage_schema.sealing import LAYER, UNITS, widened

NAMES = (
    "responses",
    "faithfulness",
    "subfeatures",
    "groups",
    "contrast",
    "polysemanticity",
    "masks",
    "commits",
)


@pytest.fixture
def build(lay_out, header, layer, record, dead, network_record):
    """`build(objects, seed=...)`: a layer of a dozen units, one of them dead."""
    wide = widened(layer)

    def numbers(unit: int, seed: int) -> CircuitRecord:
        # Of another seed unit 5 has fewer top images too, as groups depend on these alone.
        made = record(unit, seed=seed, top=2 if seed and unit == 5 else 3)
        rows = tuple(dataclasses.replace(r, spearman=0.5 - seed / 4) for r in made.faithfulness)
        return dataclasses.replace(made, faithfulness=rows)

    def build(objects: Objects, *, seed: int = 0) -> Objects:
        lay_out(objects, layers=[wide])
        network.store(objects, wide, network_record)
        writer = Writer(objects, header, wide)
        for unit in range(UNITS):
            writer.commit(dead(unit) if unit == 8 else numbers(unit, seed))
        return objects

    return build


@pytest.fixture
def built(build, tmp_path):
    return build(open_store(tmp_path / "wide", create=True))


@pytest.fixture
def seal(header, layer):
    return lambda objects, **more: compact(objects, header, widened(layer), **more)


def test_a_whole_generation_has_no_findings(built, seal):
    seal(built)
    assert verify(built) == ()
    seal(built, anew=True)
    assert verify(built) == ()


def test_every_file_of_a_generation_is_looked_at(built, seal):
    manifest = seal(built)
    paths = [file.path for file in manifest.objects]
    for path in [*paths, layer_paths.manifest(LAYER, manifest.generation)]:
        location = Path(built.location, path)
        data = location.read_bytes()
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 1
        for kind, spoiled in (("torn", data[:-3]), ("altered", bytes(flipped)), ("missing", None)):
            if spoiled is None:
                location.unlink()
            else:
                location.write_bytes(spoiled)
            found = verify(built)
            if kind == "missing" and layer_paths.is_manifest(path):  # then it was never whole
                assert {(f.kind, f.path) for f in found} == {("unreferenced", p) for p in paths}
            else:
                assert [(f.kind, f.path) for f in found if f.harmful] == [(kind, path)]
        location.write_bytes(data)
    assert verify(built) == ()


@pytest.mark.parametrize("name", NAMES)
def test_a_generation_made_of_other_numbers_is_found(built, build, seal, name):
    """Whole, and with the right checksums; one of its files is of another atlas."""
    manifest = seal(built)
    others = build(Objects(MemoryStore(), location="memory://"), seed=1)
    other = seal(others)
    generation = "2-00000000"
    files = []
    for file in manifest.objects:
        path = layer_paths.sealed_file(LAYER, generation, Path(file.path).stem)
        data = built.get(file.path)
        if path.endswith(f"/{name}.parquet") and name == "commits":
            data, file = _with_another_record(built, file, path)
        elif path.endswith(f"/{name}.parquet"):
            file = other.file(name)
            data = others.get(file.path)
        built.put(path, data)
        files.append(dataclasses.replace(file, path=path))
    changed = dataclasses.replace(manifest, generation=generation, objects=tuple(files))
    built.put(layer_paths.manifest(LAYER, generation), changed.to_json().encode())
    (finding,) = verify(built)
    path = layer_paths.sealed_file(LAYER, generation, name)
    assert (finding.kind, finding.path, finding.harmful) == ("altered", path, True)
    assert "differs from what was stored of unit" in finding.message
    assert "compact --anew" in finding.message
    assert "\n" not in finding.message


def _with_another_record(
    objects: Objects, file: row_groups.SealedFile, path: str
) -> tuple[bytes, row_groups.SealedFile]:
    """The commit records, that of unit 5 with another number of the same length."""
    schema = sealed.COMMITS.schema
    columns = row_groups.read(objects, file, sealed.COMMITS, groups=[0]).to_pydict()
    commit = Commit.from_json(columns["record"][5], location="here")
    changed = dataclasses.replace(commit, kernels=commit.kernels - 1)
    columns["record"][5] = changed.to_json().encode()
    rows = pa.Table.from_pydict(columns, schema=schema)
    return row_groups.write(iter([Block(rows, 0, UNITS - 1)]), schema, path=path)


def test_units_committed_anew_are_no_finding(built, seal, header, layer, record):
    seal(built)
    commit = Reader(built).commits(LAYER)[3]
    built.delete([layer_paths.commit(LAYER, 3), *(stored.path for stored in commit.objects)])
    assert verify(built) == ()
    Writer(built, header, widened(layer)).commit(record(3, seed=2))
    assert verify(built) == ()


def test_a_spoiled_fragment_is_found_once(built, seal):
    seal(built)
    commit = Reader(built).commits(LAYER)[3]
    path = next(s.path for s in commit.objects if s.path.endswith("/groups.parquet"))
    built.put(path, built.get(path)[:-1])
    assert [(finding.kind, finding.path) for finding in verify(built)] == [("torn", path)]


def test_a_manifest_moved_to_another_generation_is_found(built, seal):
    manifest = seal(built)
    moved = layer_paths.manifest(LAYER, "7-01234567")
    built.put(moved, manifest.to_json().encode())
    (finding,) = verify(built)
    assert (finding.kind, finding.path) == ("altered", moved)
    assert f"is the manifest of features.3 {manifest.generation}, moved here" in finding.message
