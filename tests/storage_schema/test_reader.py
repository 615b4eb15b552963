"""What a writer stored is what a reader gives, and nothing that no commit record names."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import zarr
from obstore.store import MemoryStore
from PIL import Image

from circuit_atlas.storage_schema import image_table, layout, unit_tables
from circuit_atlas.storage_schema.commit import Commit, Failure, StoredObject
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
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.writer import Writer

EPS = 2.0**-24  # dequantised scores are rounded to float32


@pytest.fixture
def counted(monkeypatch):
    """Paths that were read and folders that were listed."""
    seen = {"get": [], "list": []}
    get, listing = Objects.get, Objects.list
    monkeypatch.setattr(Objects, "get", lambda s, p: seen["get"].append(p) or get(s, p))
    monkeypatch.setattr(Objects, "list", lambda s, p="": seen["list"].append(p) or listing(s, p))
    return seen


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


def test_the_latest_failure_counts(objects):
    key = UnitKey("toy", "features.3", 2)
    for attempt, (time_s, message) in enumerate([(20.0, "later"), (10.0, "earlier")]):
        failure = Failure(time_s, FailureRecord(key, "x", message, "trace\nof it"))
        path = layout.failure("features.3", 2, attempt)
        objects.put(path, failure.to_json().encode())
    assert Reader(objects).failures("features.3")[2].message == "later"


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
        objects.put(layout.commit("features.3", unit), text.encode())

    for asked in counted.values():
        asked.clear()
    started = time.perf_counter()
    commits = reader.commits("features.3")
    took_s = time.perf_counter() - started
    assert [commit.unit for commit in commits.values()] == list(range(1000))
    # One of the commit records, and one for a sealed generation.
    assert counted["list"] == [layout.commits("features.3"), layout.sealed("features.3")]
    assert len(counted["get"]) == 999
    # 0.2 s on two idle cores; a listing a unit would take minutes on an object store.
    assert took_s < 20

    for asked in counted.values():
        asked.clear()
    assert reader.commits("features.3") == commits
    assert counted == {"get": [], "list": [layout.commits("features.3")]}


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


def test_a_missing_chunk_is_an_error_and_not_the_fill_value(objects, header, layer, record):
    Writer(objects, header, layer).commit(record(1))
    reader = Reader(objects)
    commit = reader.commits("features.3")[1]
    for stored in commit.objects:
        Path(objects.location, stored.path).unlink()
    for ask in (reader.scores, reader.levels, reader.image_scores):
        says = f"^{objects.location}/layers/.* is committed and missing: restore it"
        with pytest.raises(CorruptError, match=says):
            ask(commit, "actgrad")
    with pytest.raises(CorruptError, match=r"responses.parquet is missing, and it is committed"):
        reader.responses(commit)


@pytest.mark.parametrize("cut", [True, False])
def test_a_spoiled_object_is_an_error_and_not_wrong_numbers(objects, header, layer, record, cut):
    Writer(objects, header, layer).commit(record(1))
    reader = Reader(objects)
    commit = reader.commits("features.3")[1]
    for stored in commit.objects:
        data = bytearray(objects.get(stored.path))
        data[len(data) // 2] ^= 1
        objects.put(stored.path, bytes(data[:-2] if cut else data))
    for ask in (
        lambda: reader.scores(commit, "actgrad"),
        lambda: reader.mask(commit, "force", 0),
        lambda: reader.mask(commit, "actgrad", 0),
        lambda: reader.image_scores(commit, "actgrad"),
        lambda: reader.faithfulness(commit),
    ):
        with pytest.raises(CorruptError, match="is cut or altered") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_one_torn_commit_record_is_named_with_what_to_do(objects, header, layer, record):
    for unit in (0, 1):
        Writer(objects, header, layer).commit(record(unit))
    path = layout.commit("features.3", 1)
    objects.put(path, objects.get(path)[:100])
    says = f"^{objects.location}/{path} is cut or altered: .* restore it from a copy$"
    for ask in (
        lambda: Reader(objects).commits("features.3"),
        lambda: Reader(objects).commit("features.3", 1),
        lambda: Writer(objects, header, layer).commit(record(1)),
    ):
        with pytest.raises(CorruptError, match=says):
            ask()
    assert Reader(objects).commit("features.3", 0) is not None
    Path(objects.location, path).unlink()
    assert Writer(objects, header, layer).commit(record(1)).state == "done"


def test_a_fragment_exchanged_for_another_good_one_is_noticed(objects, header, layer, record):
    writer = Writer(objects, header, layer)
    for unit in (0, 1):
        writer.commit(record(unit))
    first, second = Reader(objects).commits("features.3").values()
    paths = [layout.fragment("features.3", c.unit, c.attempt, "responses") for c in (first, second)]
    objects.put(paths[0], objects.get(paths[1]))
    with pytest.raises(CorruptError, match=r"responses.parquet is cut or altered"):
        Reader(objects).table("features.3", "responses")


def test_a_commit_that_is_deleted_and_built_again_is_read_anew(objects, header, layer, record):
    """As our messages say to do with a unit that is altered; the reader stays open."""
    Writer(objects, header, layer).commit(record(1))
    reader = Reader(objects)
    old = reader.commits("features.3")[1]
    Path(objects.location, layout.commit("features.3", 1)).unlink()
    assert reader.commits("features.3") == {}
    Writer(objects, header, layer).commit(record(1))
    new = reader.commits("features.3")[1]
    assert new.attempt != old.attempt
    assert reader.commit("features.3", 1) == new


def test_what_goes_between_listing_and_reading_is_to_be_asked_for_again(
    objects, header, layer, record, monkeypatch
):
    Writer(objects, header, layer).commit(record(1))
    path = Path(objects.location, layout.commit("features.3", 1))
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


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Chunks would be looked for under other names, and all be taken for the fill value.
        (b'"name": "default",\n    "configuration"', b'"name": "default",\n    "konfiguration"'),
        (b'"separator": "."', b'"separator": "/"'),
        (b'"separator"', b'"zeparator"'),
        (b'"endian"', b'"enxian"'),
        (b'"chunk_shape": [\n        1', b'"chunk_shape": [\n        0'),
        (b"2147483647", b"2147483640"),
        (b'"float32"', b'"float64"'),
        (b'"float32"', b'"int32"'),
        (b'"NaN"', b"{}"),
    ],
)
def test_altered_metadata_of_an_array_alters_no_number(objects, header, layer, record, old, new):
    """Neither what is read, nor what a build goes on to write; `verify` finds it."""
    writer, written = Writer(objects, header, layer), [record(0), record(1)]
    writer.commit(written[0])
    path = f"{layout.array('features.3', 'score', 'actgrad')}/zarr.json"
    data = objects.get(path)
    assert old in data
    objects.put(path, data.replace(old, new, 1))
    Writer(objects, header, layer).commit(written[1])
    reader = Reader(objects)
    for unit, commit in reader.commits("features.3").items():
        scores = written[unit].criteria[0].scores
        np.testing.assert_array_equal(reader.scores(commit, "actgrad"), scores)
    assert [finding.path for finding in verify(objects)] == [path]


def test_zarr_reads_what_is_stored(objects, header, layer, record):
    written = record(1)
    Writer(objects, header, layer).commit(written)
    commit = Reader(objects).commits("features.3")[1]
    group = zarr.open_group(f"{objects.location}/{layout.arrays('features.3')}", mode="r")
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


def test_another_units_chunk_or_another_attempts_is_noticed(objects, header, layer, record):
    """As whole as before, by any checksum within it."""
    writer = Writer(objects, header, layer)
    for unit in (0, 1):
        writer.commit(record(unit))
    earlier = Reader(objects).commits("features.3")[1]
    objects.delete([layout.commit("features.3", 1)])
    writer.commit(record(1, seed=2))
    reader = Reader(objects)
    first, second = reader.commits("features.3").values()
    asks = {
        "score/actgrad": lambda: reader.scores(second, "actgrad"),
        "level/actgrad": lambda: reader.levels(second, "actgrad"),
        "packed/force": lambda: reader.mask(second, "force", 1),
        "image_score/actgrad": lambda: reader.image_scores(second, "actgrad"),
        "image_scale/actgrad": lambda: reader.image_scores(second, "actgrad"),
        "stability/actgrad": lambda: reader.stability(second, "actgrad"),
        "contribution": lambda: reader.contribution(second),
        "response_map": lambda: reader.response_maps(second),
    }
    for other in (first, earlier):
        for name, ask in asks.items():
            (path,) = (one.path for one in second.objects if f"/{name}/c." in one.path)
            (donor,) = (one.path for one in other.objects if f"/{name}/c." in one.path)
            data = objects.get(path)
            objects.put(path, objects.get(donor))
            with pytest.raises(CorruptError, match=f"unit 1 of .*{name} is cut or altered"):
                ask()
            objects.put(path, data)
            ask()


def test_an_altered_table_of_images_is_noticed(objects):
    """A bit of what Parquet has no checksum of, so that other images are read, or one byte more."""
    data = objects.get(layout.IMAGES)
    for other in (_read_otherwise(data), data + b"\n"):
        objects.put(layout.IMAGES, other)
        for ask in (lambda r: r.images(), lambda r: r.jpegs([0]), lambda r: r.pixels()):
            with pytest.raises(CorruptError, match=r"images\.parquet is cut or altered"):
                ask(Reader(objects))


def _read_otherwise(data: bytes) -> bytes:
    """A table of images of which one bit is turned over, and which is still one."""
    rows = image_table.read(data, columns=None, location="")
    for at in range(len(data)):
        altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with contextlib.suppress(CorruptError):
            if not image_table.read(altered, columns=None, location="").equals(rows):
                return altered
    raise AssertionError("Parquet noticed each")


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
