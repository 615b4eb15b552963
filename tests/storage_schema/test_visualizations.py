"""Visualizations in a store: put last and if absent, read back, held against their checksums."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from circuit_atlas.storage_schema import visualization_paths
from circuit_atlas.storage_schema.commit import StoredObject
from circuit_atlas.storage_schema.documents import seal
from circuit_atlas.storage_schema.errors import CorruptError, WriteError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.visualizations import (
    FeatureCircuit,
    FeatureRecord,
    FeatureWriter,
    Sign,
    variant_name,
)
from tests.storage_schema.visualization_records import picture_record

LAYER = "body/3.conv"
IMAGE = StoredObject(visualization_paths.visualization_image(LAYER, 3, "positive", 5), 3, "aa" * 32)


def made(unit: int = 3, *, sign: Sign = "positive", fraction=None, group=None) -> FeatureRecord:
    """All that is known of a picture before it is stored."""
    circuit = None
    if fraction is not None:
        images = None if group is None else (4, 7)
        circuit = FeatureCircuit("actgrad", "zero", fraction, 120, group, images)
    name = variant_name(sign, circuit and "actgrad", fraction or 1.0, group)
    return picture_record(
        LAYER,
        unit,
        variant=name,
        sign=sign,
        circuit=circuit,
        response=3.5,
        best_image_response=1.25,
        best_image=7,
        contrast=0.25,
    )


@pytest.fixture
def reader(laid_out) -> Reader:
    """Of an atlas without any unit."""
    return Reader(laid_out)


def test_a_record_reads_back_as_it_was_written():
    for one in (made(), made(sign="negative", fraction=0.3), made(fraction=1e-05, group=11)):
        whole = replace(one, attempt=5, objects=(IMAGE,))
        assert FeatureRecord.from_json(whole.to_json(), location="here") == whole


def test_a_record_is_stored_under_the_keys_it_always_had():
    content = json.loads(made().to_json())
    assert {key: content[key] for key in ("photo_response", "photo", "beats_photos")} == {
        "photo_response": 1.25,
        "photo": 7,
        "beats_photos": True,
    }
    assert not content.keys() & {"best_image_response", "best_image", "beats_images"}


@pytest.mark.parametrize("key", ["circuit", "photo", "objects"])
def test_a_record_that_lacks_something_is_refused_by_name(key):
    content = json.loads(replace(made(), objects=(IMAGE,)).to_json())
    del content[key], content["sha256"], content["schema"]
    with pytest.raises(CorruptError, match=f"here is no record of a feature visualization.*{key}"):
        FeatureRecord.from_json(seal(content), location="here")


def test_what_is_stored_is_read_and_whole(reader):
    writer = FeatureWriter(reader.objects)
    for one in (
        made(sign="negative", fraction=0.1),
        made(fraction=0.1, group=10),
        made(fraction=0.1, group=2),
        made(fraction=0.1),
        made(fraction=0.3),
        made(sign="negative"),
        made(),
        made(unit=12),
    ):
        writer.commit(one, f"png of {one.variant}".encode())
    assert [one.variant for one in reader.feature_visualizations(LAYER, 3)] == [
        "positive",
        "negative",
        "positive.actgrad.0.3",
        "positive.actgrad.0.1",
        "negative.actgrad.0.1",
        "positive.actgrad.0.1.group2",
        "positive.actgrad.0.1.group10",
    ]
    assert reader.feature_variants(LAYER)[12] == ("positive",)
    assert len(reader.feature_variants(LAYER)[3]) == 7
    one = reader.feature_visualization(LAYER, 3, "positive.actgrad.0.1.group2")
    assert one is not None
    assert one.circuit is not None
    assert one.circuit.images == (4, 7)
    assert reader.visualization_image(one) == b"png of positive.actgrad.0.1.group2"
    assert verify(reader.objects) == ()


@pytest.mark.parametrize(
    "stray",
    ["3/._positive.json", "3/\u00e9.json", "3/=FF.json", "3/a copy.json", "03/positive.json"],
)
def test_what_others_left_beside_pictures_is_no_picture(reader, stray):
    one = FeatureWriter(reader.objects).commit(made(), b"png")
    file = Path(reader.objects.location, visualization_paths.visualizations(LAYER), stray)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"{}")
    assert reader.feature_visualizations(LAYER, 3) == (one,)
    assert reader.feature_variants(LAYER) == {3: ("positive",)}


def test_what_is_not_there(reader):
    assert reader.feature_visualizations(LAYER, 3) == ()
    assert reader.feature_visualization(LAYER, 3, "positive") is None
    assert reader.feature_variants(LAYER) == {}


def test_the_first_to_store_a_picture_wins_and_the_other_is_left_over(reader):
    writer = FeatureWriter(reader.objects)
    first = writer.commit(made(), b"first")
    second = writer.commit(replace(made(), seed=9), b"second")
    assert second == first
    assert reader.visualization_image(second) == b"first"
    (left,) = verify(reader.objects)
    assert (left.kind, left.harmful) == ("unreferenced", False)


def test_a_picture_is_there_before_its_record(reader, monkeypatch):
    """Cut off between the two, nothing claims that the picture is done."""
    put = Objects.put_if_absent

    def cut(objects: Objects, path: str, data: bytes) -> bool:
        if path.endswith(".json"):
            raise WriteError("the disk is full")
        return put(objects, path, data)

    monkeypatch.setattr(Objects, "put_if_absent", cut)
    with pytest.raises(WriteError):
        FeatureWriter(reader.objects).commit(made(), b"png")
    assert reader.feature_visualizations(LAYER, 3) == ()
    assert [found.kind for found in verify(reader.objects)] == ["unreferenced"]


def test_a_failure_is_kept_apart(reader):
    key = UnitKey("toy", LAYER, 3)
    receipt = FeatureWriter(reader.objects).fail(
        FailureRecord(key, "unit", "all but grey", "trace")
    )
    assert (receipt.state, receipt.message) == ("failed", "all but grey")
    assert reader.feature_visualizations(LAYER, 3) == ()
    assert verify(reader.objects) == ()


def test_verify_finds_what_is_spoiled(reader):
    stored = FeatureWriter(reader.objects).commit(made(), b"a picture")
    path = visualization_paths.visualization(LAYER, 3, "positive")
    folder = Path(reader.objects.location)
    record = (folder / path).read_bytes()

    def kinds() -> list[tuple[str, str]]:
        return [(found.kind, found.path) for found in verify(reader.objects)]

    for data, kind in ((b"b picture", "altered"), (b"a pic", "torn")):
        (folder / stored.image.path).write_bytes(data)
        assert kinds() == [(kind, stored.image.path)]
        with pytest.raises(CorruptError, match="is cut or altered: run `circuit-atlas repair` on"):
            reader.visualization_image(stored)
    (folder / stored.image.path).unlink()
    assert kinds() == [("missing", stored.image.path)]
    with pytest.raises(CorruptError, match="missing, and it is recorded"):
        reader.visualization_image(stored)
    (folder / stored.image.path).write_bytes(b"a picture")
    assert kinds() == []
    (folder / path).write_bytes(record.replace(b'"seed": 0', b'"seed": 1'))
    assert kinds() == [("altered", path), ("unreferenced", stored.image.path)]
    (folder / path).write_bytes(record)
    moved = visualization_paths.visualization(LAYER, 4, "positive")
    (folder / moved).parent.mkdir()
    (folder / moved).write_bytes(record)
    assert kinds() == [("altered", moved)]
