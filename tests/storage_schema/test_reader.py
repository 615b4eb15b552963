"""What a writer stored is what a reader gives, and nothing that no commit record names."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import zarr
from obstore.store import MemoryStore
from PIL import Image

from circuit_atlas.storage_schema import image_table, layer_paths, layout, unit_tables
from circuit_atlas.storage_schema.commit import Failure, StoredObject
from circuit_atlas.storage_schema.documents import seal, sha256
from circuit_atlas.storage_schema.errors import (
    CorruptError,
    NotAnAtlasError,
    QueryError,
    StoreError,
)
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Entry, Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.quantise import RELATIVE_ERROR
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.writer import Writer

EPS = 2.0**-24  # dequantised scores are rounded to float32


def test_what_was_written_is_read(objects, header, layer, images, plan, record):
    written = record(1)
    receipt = Writer(objects, header, layer).commit(written)

    reader = Reader(objects.location)
    commit = reader.commits("features.3")[1]
    assert commit.receipt() == receipt
    assert (receipt.key, receipt.state, receipt.compute_s) == (written.key, "done", 1.5)
    assert receipt.size_bytes == sum(len(objects.get(o.path)) for o in commit.objects)
    assert reader.header == header
    assert reader.layers() == ("features.3",)
    assert reader.layer("features.3") == layer
    assert reader.plan() == plan
    assert reader.images().equals(image_table.IMAGES.public(images))
    assert reader.images(columns=["name", "label"]).schema.names == ["name", "label"]
    found = reader.jpegs([0, 4])
    assert found[4] is None
    shown = np.asarray(Image.open(io.BytesIO(found[0])))
    assert (shown.shape, shown.max()) == ((8, 8, 3), 0)
    for criterion in written.criteria:
        scores = reader.scores(commit, criterion.name)
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(scores, criterion.scores)
        for level, mask in enumerate(criterion.masks):
            read = reader.mask(commit, criterion.name, level)
            assert read.dtype == np.bool_
            np.testing.assert_array_equal(read, mask)
        np.testing.assert_array_equal(
            reader.levels(commit, criterion.name), criterion.masks.sum(axis=0)
        )
    np.testing.assert_allclose(
        reader.image_scores(commit, "actgrad"),
        written.criteria[0].image_scores,
        rtol=RELATIVE_ERROR + EPS,
        atol=0,
    )
    np.testing.assert_array_equal(
        reader.stability(commit, "actgrad"), written.criteria[0].stability
    )
    np.testing.assert_array_equal(reader.contribution(commit), written.contribution)
    np.testing.assert_array_equal(reader.response_maps(commit), written.response_maps)
    for name in ("responses", "faithfulness", "subfeatures", "groups", "selectivity"):
        field = "contrast" if name == "selectivity" else name
        rows = [dataclasses.asdict(row) for row in getattr(written, field)]
        table = getattr(reader, name)(commit)
        assert [tuple(row.values()) for row in table.to_pylist()] == [
            tuple(row.values()) for row in rows
        ]
        declared = next(one for one in unit_tables.FRAGMENTS if one.name == name)
        assert table.schema.names == [column.name for column in declared.columns]


@pytest.mark.parametrize("location", ["disk", "memory"])
def test_any_name_of_a_layer_works(tmp_path, lay_out, header, odd_layer, record, location):
    objects = (
        open_store(tmp_path / "a", create=True)
        if location == "disk"
        else Objects(MemoryStore(), location="memory://")
    )
    lay_out(objects, layers=[odd_layer])
    written = record(3, key=UnitKey("toy", odd_layer.layer, 3))
    Writer(objects, header, odd_layer).commit(written)
    reader = Reader(objects)
    assert reader.layers() == (odd_layer.layer,)
    commit = reader.commits(odd_layer.layer)[3]
    mask = reader.mask(commit, "force", 1)
    np.testing.assert_array_equal(mask, written.criteria[1].masks[1])


def test_fewer_top_images_than_the_header_allows(objects, header, layer, record):
    written = record(1, top=2)
    Writer(objects, header, layer).commit(written)
    reader = Reader(objects)
    scores = reader.image_scores(reader.commits("features.3")[1], "actgrad")
    np.testing.assert_allclose(
        scores, written.criteria[0].image_scores, rtol=RELATIVE_ERROR + EPS, atol=0
    )
    maps = reader.response_maps(reader.commits("features.3")[1])
    np.testing.assert_array_equal(maps, written.response_maps)


def test_chunks_of_nothing_but_the_fill_value_are_stored_too(objects, header, layer, record):
    """Else a unit that nothing is wrong with would read as one with missing chunks."""
    written = record(1)
    silent = np.where(np.isnan(written.criteria[0].image_scores), np.nan, 0).astype(np.float32)
    first = dataclasses.replace(written.criteria[0], image_scores=silent)
    written = dataclasses.replace(written, criteria=(first, written.criteria[1]))
    Writer(objects, header, layer).commit(written)
    reader = Reader(objects)
    commit = reader.commits("features.3")[1]
    np.testing.assert_array_equal(reader.image_scores(commit, "actgrad"), silent)


def test_a_dead_unit_has_empty_tables_and_no_circuit(objects, header, layer, dead):
    Writer(objects, header, layer).commit(dead(1))
    reader = Reader(objects)
    commit = reader.commits("features.3")[1]
    assert reader.responses(commit).num_rows == 4
    assert reader.faithfulness(commit).equals(unit_tables.FAITHFULNESS.schema.empty_table())
    for ask in (reader.scores, reader.levels, reader.image_scores, reader.stability):
        with pytest.raises(QueryError, match=r"unit features.3/1 is dead"):
            ask(commit, "actgrad")
    for ask in (reader.contribution, reader.response_maps):
        with pytest.raises(QueryError, match=r"unit features.3/1 is dead"):
            ask(commit)
    assert reader.groups(commit).equals(unit_tables.GROUPS.schema.empty_table())
    assert reader.selectivity(commit).equals(unit_tables.SELECTIVITY.schema.empty_table())


def test_the_latest_failure_counts(objects):
    key = UnitKey("toy", "features.3", 2)
    for attempt, (time_s, message) in enumerate([(20.0, "later"), (10.0, "earlier")]):
        failure = Failure(time_s, FailureRecord(key, "x", message, "trace\nof it"))
        path = layer_paths.failure("features.3", 2, attempt)
        objects.put(path, failure.to_json().encode())
    assert Reader(objects).failures("features.3")[2].message == "later"


def test_an_open_reader_sees_what_is_committed_later(objects, header, layer, record):
    reader = Reader(objects)
    assert reader.commits("features.3") == {}
    Writer(objects, header, layer).commit(record(1))
    assert list(reader.commits("features.3")) == [1]


def test_questions_without_an_answer(objects, header, layer, record):
    Writer(objects, header, layer).commit(record(1))
    reader = Reader(objects)
    commit = reader.commits("features.3")[1]
    for says, ask in {
        r"has no layer 'x': it has features\.3": lambda: reader.layer("x"),
        r"no layer 'y'": lambda: reader.commits("y"),
        r"no criterion 'snip': it has actgrad, force": lambda: reader.scores(commit, "snip"),
        r"no sparsity level 4: levels are 0 to 3": lambda: reader.mask(commit, "actgrad", 4),
        r"no sparsity level -1": lambda: reader.mask(commit, "actgrad", -1),
        r"'force' has no scores for single images: choose from actgrad": lambda: (
            reader.image_scores(commit, "force")
        ),
        r"no stability of 'force' is stored: choose from actgrad": lambda: reader.stability(
            commit, "force"
        ),
        r"no table 'x': choose from responses": lambda: reader.table("features.3", "x"),
    }.items():
        with pytest.raises(QueryError, match=says):
            ask()


def test_no_atlas(tmp_path):
    with pytest.raises(NotAnAtlasError, match=r"holds no atlas \(there is no atlas.json\)"):
        Reader(tmp_path)
    with pytest.raises(NotAnAtlasError, match="does not exist"):
        Reader(tmp_path / "none")


def test_images_that_were_never_laid_out_are_no_empty_set(objects):
    Path(objects.location, layout.IMAGES).unlink()
    with pytest.raises(CorruptError, match=r"images.parquet is missing: .* run the build again"):
        Reader(objects).images()


def test_a_commit_that_is_deleted_and_built_again_is_read_anew(objects, header, layer, record):
    """As our messages say to do with a unit that is altered; the reader stays open."""
    Writer(objects, header, layer).commit(record(1))
    reader = Reader(objects)
    old = reader.commits("features.3")[1]
    Path(objects.location, layer_paths.commit("features.3", 1)).unlink()
    assert reader.commits("features.3") == {}
    Writer(objects, header, layer).commit(record(1))
    new = reader.commits("features.3")[1]
    assert new.attempt != old.attempt
    assert reader.commit("features.3", 1) == new


def test_what_goes_between_listing_and_reading_is_to_be_asked_for_again(
    objects, header, layer, record, monkeypatch
):
    Writer(objects, header, layer).commit(record(1))
    path = Path(objects.location, layer_paths.commit("features.3", 1))
    listing = Objects.list

    def going(self: Objects, prefix: str = "") -> tuple[Entry, ...]:
        found = listing(self, prefix)
        path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Objects, "list", going)
    reader = Reader(objects)
    with pytest.raises(StoreError, match=r"1\.json is missing, and was there when .* ask again"):
        reader.commits("features.3")
    assert reader.commits("features.3") == {}


def test_zarr_reads_what_is_stored(objects, header, layer, record):
    written = record(1)
    Writer(objects, header, layer).commit(written)
    commit = Reader(objects).commits("features.3")[1]
    group = zarr.open_group(f"{objects.location}/{layer_paths.arrays('features.3')}", mode="r")
    for criterion in written.criteria:
        scores = group[f"score/{criterion.name}"][1, commit.attempt]
        np.testing.assert_array_equal(scores, criterion.scores)
    levels = group["level/actgrad"][1, commit.attempt]
    np.testing.assert_array_equal(levels, written.criteria[0].masks.sum(0))
    bits = group["packed/force"][1, commit.attempt]
    kept = np.unpackbits(bits, axis=1, count=layer.index.size, bitorder="little")
    np.testing.assert_array_equal(kept, written.criteria[1].masks)
    np.testing.assert_array_equal(group["contribution"][1, commit.attempt], written.contribution)
    np.testing.assert_array_equal(group["response_map"][1, commit.attempt], written.response_maps)


def test_an_atlas_before_pixels_were_stored_has_files(objects, images):
    """As of schema 3: a JPEG of each image in the table, and no place."""
    columns = {name: images[name].to_pylist() for name in images.column_names}
    files = [None if split == "left_out" else b"jpeg" for split in columns["split"]]
    old = image_table.IMAGES_WITH_FILES
    table = old.from_columns({**columns, old.columns[-1].stored_name: files})
    data = old.to_parquet(table)
    objects.put(layout.IMAGES, data)
    stored = asdict(StoredObject(layout.IMAGES, len(data), sha256(data)))
    objects.put(layout.IMAGES_RECORD, seal({"objects": [stored]}).encode())
    reader = Reader(objects)
    assert reader.jpegs([0, 4]) == {0: b"jpeg", 4: None}
    found = reader.images()
    assert found.schema.names == [column.name for column in image_table.IMAGES.columns]
    assert found["name"].to_pylist() == columns["name"]
    assert found["place"].null_count == len(found)
    with pytest.raises(QueryError, match="has no pixels of its images: build it anew"):
        reader.pixels()


def test_reading_needs_nothing_heavy():
    code = (
        "import sys; from circuit_atlas.storage_schema import reader, writer, verify, page;"
        "heavy = {'torch', 'ray', 'pydantic', 'scipy', 'rich', 'PIL', 'pandas'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
