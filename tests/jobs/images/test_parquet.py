"""Pictures out of Parquet files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from circuit_atlas.jobs.images.sources import open_source
from circuit_atlas.storage_schema.parquet_rows import MOST_BYTES
from tests.jobs.images.broken_metadata import WHOLE_PNG
from tests.jobs.images.pictures import coloured, load, png, refusal, shown, spec_of


def parquet(path: Path, columns: dict[str, Any], *, row_group_size: int | None = None) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def encoded(count: int) -> list[bytes]:
    return [png(Image.fromarray(coloured(seed))) for seed in range(count)]


def test_parquet_with_a_plain_column(tmp_path: Path) -> None:
    columns = {
        "bytes": pa.array([*encoded(3), None, b"torn"], pa.binary()),
        "label": pa.array(["x", "y", None, "x", "x"]),
    }
    found = load(parquet(tmp_path / "s.parquet", columns, row_group_size=2))
    assert [info.name for info in found.infos] == [f"row-{row}" for row in range(5)]
    assert [info.label for info in found.infos] == ["x", "y", None, "x", "x"]
    assert [info.split for info in found.infos] == ["scoring"] * 3 + ["left_out"] * 2
    assert found.infos[3].problem == "the file is empty"
    for row in range(3):
        assert np.array_equal(shown(found, row), coloured(row))


def test_parquet_of_hugging_face(tmp_path: Path) -> None:
    rows = [
        {"bytes": data, "path": f"{name}.png"} for name, data in zip("cab", encoded(3), strict=True)
    ]
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
        ],
        metadata={
            "huggingface": json.dumps(
                {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
            )
        },
    )
    table = pa.table({"image": rows, "label": [0, 1, 0]}, schema=schema)
    pq.write_table(table, tmp_path / "s.parquet", row_group_size=1)
    found = load(tmp_path / "s.parquet")
    assert [(info.name, info.label) for info in found.infos] == [
        ("a.png", "dog"),
        ("b.png", "cat"),
        ("c.png", "cat"),
    ]
    assert np.array_equal(shown(found, 0), coloured(1))


def huggingface(**classes: list[str]) -> dict[str, str]:
    features = {name: {"names": names, "_type": "ClassLabel"} for name, names in classes.items()}
    return {"huggingface": json.dumps({"info": {"features": features}})}


@pytest.mark.parametrize("column", ["label", "labels", "fine_label", "kind of animal"])
def test_labels_of_hugging_face_are_found_and_named(tmp_path: Path, column: str) -> None:
    columns = {
        "image": pa.array(encoded(4), pa.binary()),
        "coarse": pa.array([0, 0, 0, 0]),
        column: pa.array([1, 0, -1, None]),
    }
    metadata = huggingface(**{"coarse": ["animal"], column: ["cat", "dog"]})
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "s.parquet")
    found = load(tmp_path / "s.parquet")
    assert [info.label for info in found.infos] == ["dog", "cat", None, None]
    chosen = load(tmp_path / "s.parquet", labels="coarse")
    assert {info.label for info in chosen.infos} == {"animal"}
    line = refusal(tmp_path / "s.parquet", labels="corse")
    assert "images.labels 'corse' is no column of 's.parquet'" in line
    assert "did you mean 'coarse'?" in line


def test_a_class_column_comes_before_a_plain_one_and_lists_are_no_labels(tmp_path: Path) -> None:
    columns = {
        "image": pa.array(encoded(2), pa.binary()),
        "label": pa.array([[0], [1]]),
        "target": pa.array([7, 8]),
        "breed": pa.array([0, 1]),
    }
    path = parquet(tmp_path / "s.parquet", columns)
    assert [info.label for info in load(path).infos] == ["7", "8"]
    table = pa.table(columns).replace_schema_metadata(huggingface(breed=["pug", "lab"]))
    pq.write_table(table, path)
    assert [info.label for info in load(path).infos] == ["pug", "lab"]


def test_numbers_with_gaps_as_pandas_writes_them(tmp_path: Path) -> None:
    columns = {
        "image": pa.array(encoded(4), pa.binary()),
        "label": pa.array([1.0, float("nan"), -1.0, None]),
    }
    path = parquet(tmp_path / "s.parquet", columns)
    assert [info.label for info in load(path).infos] == ["1.0", None, None, None]
    table = pa.table(columns).replace_schema_metadata(huggingface(label=["pug", "lab"]))
    pq.write_table(table, path)
    assert [info.label for info in load(path).infos] == ["lab", None, None, None]


def test_bytes_of_no_type_and_paths_alone_are_not_embedded(tmp_path: Path) -> None:
    rows = [{"bytes": None, "path": "here/a.png"}]
    line = refusal(parquet(tmp_path / "s.parquet", {"image": rows}))
    assert "is not embedded in the file, which only names 'here/a.png'" in line
    line = refusal(parquet(tmp_path / "s.parquet", {"image": ["here/a.png"]}))
    assert "column 'image' of 's.parquet' holds string and no bytes" in line
    assert "not embedded" in line


def test_images_that_are_not_embedded(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": None, "path": "here/a.png"}, {"bytes": None, "path": "here/b.png"}]
    path = parquet(tmp_path / "s.parquet", {"image": pa.array(rows, kind)})
    line = refusal(path)
    assert "is not embedded in the file, which only names 'here/a.png'" in line
    assert "empty" not in line
    rows[1]["bytes"] = encoded(1)[0]  # type: ignore[assignment]
    path = parquet(tmp_path / "s.parquet", {"image": pa.array(rows, kind)})
    assert [info.split for info in load(path).infos] == ["left_out", "scoring"]


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_binary(),
        pa.binary_view(),
        pa.dictionary(pa.int32(), pa.binary()),
        pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())]),
        pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())]),
    ],
)
@pytest.mark.parametrize("text", [pa.string_view(), pa.large_string(), None])
def test_other_types_of_bytes_and_text(
    tmp_path: Path, kind: pa.DataType, text: pa.DataType | None
) -> None:
    data = encoded(3)
    named = pa.types.is_struct(kind)
    rows: Any = [{"bytes": d, "path": f"{n}.png"} for n, d in enumerate(data)] if named else data
    labels = pa.array(["a", None, "a"])
    columns = {
        "picture": pa.array(rows, kind),
        "label": labels.dictionary_encode() if text is None else labels.cast(text),
    }
    # pyarrow cannot slice a struct with views when it writes.
    size = None if named else 2
    found = load(parquet(tmp_path / "s.parquet", columns, row_group_size=size))
    assert [info.name for info in found.infos] == [
        f"{n}.png" if named else f"row-{n}" for n in range(3)
    ]
    assert [info.label for info in found.infos] == ["a", None, "a"]
    for row in range(3):
        assert np.array_equal(shown(found, row), coloured(row))


@pytest.mark.parametrize("source", ["", "data", "data/train-*.parquet", "*/*-0000[01]-*"])
def test_shards_are_one_set(tmp_path: Path, source: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("a data set")
    data = encoded(4)
    for shard in range(2):
        columns = {
            "image": pa.array(data[2 * shard :][:2], pa.binary()),
            "label": pa.array([shard, 1]),
        }
        table = pa.table(columns).replace_schema_metadata(huggingface(label=["cat", "dog"]))
        pq.write_table(
            table, tmp_path / f"data/train-0000{shard}-of-00002.parquet", row_group_size=1
        )
    found = load(tmp_path / source)
    assert [(info.name, info.label) for info in found.infos] == [
        ("row-0", "cat"),
        ("row-1", "dog"),
        ("row-2", "dog"),
        ("row-3", "dog"),
    ]
    assert found.passed_over == ({".md": 1} if not source else {})
    for row in range(4):
        assert np.array_equal(shown(found, row), coloured(row))


def test_avif_and_broken_metadata_in_parquet(tmp_path: Path) -> None:
    avif = io.BytesIO()
    Image.fromarray(coloured()).save(avif, "AVIF")
    columns = {"image": pa.array([avif.getvalue(), WHOLE_PNG["long text"]], pa.binary())}
    found = load(parquet(tmp_path / "s.parquet", columns))
    assert [info.problem for info in found.infos] == [None, None]
    assert np.array_equal(shown(found, 1), coloured())


def test_rows_dropped_from_the_cache_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("circuit_atlas.jobs.images.parquet._GROUPS_LIMIT_BYTES", 0)
    columns = {"image": pa.array(encoded(4), pa.large_binary())}
    found = load(parquet(tmp_path / "s.parquet", columns, row_group_size=1))
    for row in (3, 0, 2):
        assert np.array_equal(shown(found, row), coloured(row))


def test_names_that_come_again_are_numbered(tmp_path: Path) -> None:
    columns = {
        "picture": pa.array(encoded(4), pa.binary()),
        "name": pa.array(["a", "a", "a#2", "a"]),
    }
    found = load(parquet(tmp_path / "s.parquet", columns))
    assert [info.name for info in found.infos] == ["a", "a#2", "a#3", "a#4"]
    assert len({info.sha256 for info in found.infos}) == 4


def test_parquet_columns_that_are_not_there(tmp_path: Path) -> None:
    columns = {
        "left": pa.array(encoded(1), pa.binary()),
        "right": pa.array(encoded(1), pa.binary()),
        "number": pa.array([1]),
    }
    path = parquet(tmp_path / "s.parquet", columns)
    assert "'left' and 'right'): set images.column" in refusal(path)
    assert "no column 'rigth' in 's.parquet': did you mean 'right'?" in refusal(
        path, column="rigth"
    )
    assert "'number' of 's.parquet' holds int64, no bytes" in refusal(path, column="number")
    assert load(path, column="right").scoring == (0,)
    bare = parquet(tmp_path / "bare.parquet", {"number": pa.array([1])})
    assert "has no single column of images (there is only 'number')" in refusal(bare)
    empty = parquet(tmp_path / "empty.parquet", {"image": pa.array([], pa.binary())})
    assert "samples of .tar) in" in refusal(empty)
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    assert "cannot be read" in refusal(tmp_path / "torn.parquet")


def bomb(path: Path, kind: pa.DataType, *, rows: int, value_bytes: int) -> Path:
    """A file of a few kilobytes, in which every row points to one long value."""
    one = "0" * value_bytes if kind == pa.string() else b"\0" * value_bytes
    value = pa.array([one], kind)
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), value)
    small = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(rows, np.int32)), pa.array([png(Image.fromarray(coloured(0)))])
    )
    label = pa.array(["x"] * rows)
    table = pa.table({"image": column, "other": small, "label": label})
    # Without Arrow's own schema the column is read as plain values.
    pq.write_table(
        table, path, store_schema=False, compression="gzip", dictionary_pagesize_limit=2**30
    )
    assert path.stat().st_size < 300_000
    return path


@pytest.mark.parametrize("kind", [pa.binary(), pa.binary(50_000)])
def test_a_dictionary_that_unpacks_to_gigabytes_is_refused(
    tmp_path: Path, kind: pa.DataType
) -> None:
    path = bomb(tmp_path / "s.parquet", kind, rows=20_000, value_bytes=50_000)
    before = pa.total_allocated_bytes()
    source = open_source(spec_of(path, column="image").images)
    listing = source.listing()
    assert len(listing.entries) == 20_000
    with pytest.raises(OSError, match=r"its rows take .*bytes") as caught:
        listing.read(listing.entries[7])
    assert "\n" not in str(caught.value)
    # What is allowed, and the batch that goes beyond.
    assert pa.total_allocated_bytes() - before < 2.1 * MOST_BYTES
    # Another column of the same file, which does not.
    other = open_source(spec_of(path, column="other").images).listing()
    assert other.read(other.entries[7]) == png(Image.fromarray(coloured(0)))


def test_labels_that_unpack_to_gigabytes_are_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "s.parquet", pa.string(), rows=20_000, value_bytes=50_000)
    assert "its rows take" in refusal(path, column="other", labels="image")
