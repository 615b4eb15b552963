"""Pictures out of Parquet files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from circuit_atlas.jobs.images import image_set as images_module
from tests.jobs.images.pictures import coloured, load, png, refusal


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
        assert np.array_equal(found.pixels(row), coloured(row))


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
    assert np.array_equal(found.pixels(0), coloured(1))


def test_rows_dropped_from_the_cache_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "_PIXELS_LIMIT_BYTES", 0)
    monkeypatch.setattr("circuit_atlas.jobs.images.parquet._GROUPS_LIMIT_BYTES", 0)
    columns = {"image": pa.array(encoded(4), pa.large_binary())}
    found = load(parquet(tmp_path / "s.parquet", columns, row_group_size=1))
    for row in (3, 0, 2):
        assert np.array_equal(found.pixels(row), coloured(row))


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
    assert "no rows in" in refusal(empty)
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    assert "cannot be read" in refusal(tmp_path / "torn.parquet")
