"""Objects that are missing, altered or exchanged are noticed as they are read."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from circuit_atlas.storage_schema import image_table, layer_paths, layout
from circuit_atlas.storage_schema.errors import (
    CorruptError,
)
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.writer import Writer


def test_a_missing_chunk_is_an_error_and_not_the_fill_value(objects, header, layer, record):
    Writer(objects, header, layer).commit(record(1))
    reader = Reader(objects)
    commit = reader.commits("features.3")[1]
    for stored in commit.objects:
        Path(objects.location, stored.path).unlink()
    for ask in (reader.scores, reader.levels, reader.image_scores):
        says = (
            f"^{objects.location}/layers/.* is committed and missing: run `circuit-atlas repair` on"
        )
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
    path = layer_paths.commit("features.3", 1)
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
    paths = [
        layer_paths.fragment("features.3", c.unit, c.attempt, "responses") for c in (first, second)
    ]
    objects.put(paths[0], objects.get(paths[1]))
    with pytest.raises(CorruptError, match=r"responses.parquet is cut or altered"):
        Reader(objects).table("features.3", "responses")


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
    path = f"{layer_paths.array('features.3', 'score', 'actgrad')}/zarr.json"
    data = objects.get(path)
    assert old in data
    objects.put(path, data.replace(old, new, 1))
    Writer(objects, header, layer).commit(written[1])
    reader = Reader(objects)
    for unit, commit in reader.commits("features.3").items():
        scores = written[unit].criteria[0].scores
        np.testing.assert_array_equal(reader.scores(commit, "actgrad"), scores)
    assert [finding.path for finding in verify(objects)] == [path]


def test_another_units_chunk_or_another_attempts_is_noticed(objects, header, layer, record):
    """As whole as before, by any checksum within it."""
    writer = Writer(objects, header, layer)
    for unit in (0, 1):
        writer.commit(record(unit))
    earlier = Reader(objects).commits("features.3")[1]
    objects.delete([layer_paths.commit("features.3", 1)])
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
