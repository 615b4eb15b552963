"""Verify finds each way in which an atlas can be spoiled, and nothing in a whole one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from circuit_atlas.storage_schema import layer_paths, layout
from circuit_atlas.storage_schema.documents import seal, sha256, unseal
from circuit_atlas.storage_schema.errors import CorruptError, NotAnAtlasError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.repair import repair
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.writer import Writer


@pytest.fixture
def built(objects, lay_out, header, layer, odd_layer, record, dead):
    """Two units done, one dead, one failed, and a second layer with nothing done."""
    lay_out(objects, layers=[layer, odd_layer])
    writer = Writer(objects, header, layer)
    for unit in (0, 4):
        writer.commit(record(unit))
    writer.commit(dead(1))
    writer.fail(FailureRecord(UnitKey("toy", "features.3", 2), "x", "y", "z"))
    return objects


def test_a_whole_atlas_has_no_findings(built):
    assert verify(built) == ()


def test_a_layout_that_is_under_way_is_whole(built):
    """Before its images are recorded there is no layer, and nothing to be lost."""
    for entry in built.list():
        if entry.path != layout.HEADER:
            built.delete([entry.path])
    assert verify(built) == ()


def test_every_object_is_looked_at(built, snapshot):
    """Whichever object is removed, cut or altered, that one object is found, and as what it is."""
    for path, data in snapshot(built).items():
        location = Path(built.location, path)
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 1
        for kind, spoiled in (("torn", data[:-3]), ("altered", bytes(flipped)), ("missing", None)):
            if spoiled is None:
                location.unlink()
            else:
                location.write_bytes(spoiled)
            if kind == "missing" and path == layout.HEADER:
                with pytest.raises(NotAnAtlasError):
                    verify(built)
            elif kind != "missing" or not _may_be_absent(path):
                found = [f for f in verify(built) if f.harmful]
                assert [(f.kind, f.path) for f in found] == [(kind, path)]
                assert built.at(path) in found[0].message
                assert "\n" not in found[0].message
            location.write_bytes(data)
    assert verify(built) == ()


def _header_of_another(header):
    return dataclasses.replace(header, weights_sha256=sha256(b"other weights")).to_json().encode()


def test_the_header_of_another_atlas_is_found_and_no_layer_is_read(built, header):
    Path(built.location, layout.HEADER).write_bytes(_header_of_another(header))
    assert [(f.kind, f.path) for f in verify(built)] == [("altered", layout.HEADER)]
    reader = Reader(built)
    with pytest.raises(CorruptError, match="is of another atlas than the header: restore"):
        reader.layer("features.3")
    with pytest.raises(CorruptError, match=r"atlas\.json is of another atlas than the layers"):
        repair(built)


def test_the_index_of_another_atlas_is_found(built, layer):
    path = layer_paths.layer_index(layer.layer)
    location = Path(built.location, path)
    content = unseal(location.read_bytes(), location=path)
    location.write_text(seal(content | {"atlas": sha256(b"another")}))
    assert [(f.kind, f.path) for f in verify(built)] == [("altered", path)]
    with pytest.raises(CorruptError, match="is of another atlas than the header: restore"):
        Reader(built).layer(layer.layer)


def test_an_index_that_names_no_atlas_is_read(built, layer):
    path = layer_paths.layer_index(layer.layer)
    location = Path(built.location, path)
    content = unseal(location.read_bytes(), location=path)
    del content["atlas"]
    location.write_text(seal(content))
    assert verify(built) == ()
    assert Reader(built).layer(layer.layer) == layer


def _may_be_absent(path: str) -> bool:
    """A unit without its commit record is not done; a failure or a plan is a note."""
    return (
        layer_paths.committed_unit(path) is not None
        or layer_paths.failed_unit(path) is not None
        or layout.is_plan(path)
        # Named by no plan, and with nothing committed, the second layer is not yet laid out.
        or (layer_paths.is_layer_index(path) and path != layer_paths.layer_index("features.3"))
    )


def test_what_nothing_names_is_reported_as_harmless(built):
    commit = Reader(built).commits("features.3")[0]
    Path(built.location, layer_paths.commit("features.3", 0)).unlink()
    (Path(built.location) / "notes.txt").write_text("x")
    findings = verify(built)
    assert {f.path for f in findings} == {"notes.txt", *(o.path for o in commit.objects)}
    assert {(f.kind, f.harmful) for f in findings} == {("unreferenced", False)}


def test_a_commit_record_copied_to_another_unit_is_altered(built):
    copy = layer_paths.commit("features.3", 3)
    built.put(copy, built.get(layer_paths.commit("features.3", 0)))
    (finding,) = verify(built)
    assert (finding.kind, finding.path) == ("altered", copy)
    assert "is the record of toy/features.3/0, moved here" in finding.message


def test_a_place_without_an_atlas(tmp_path):
    with pytest.raises(NotAnAtlasError, match="holds no atlas"):
        verify(open_store(tmp_path))
