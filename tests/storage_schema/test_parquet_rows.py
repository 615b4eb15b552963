"""Files of few bytes for many rows, long texts or lists are refused before they fill memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from circuit_atlas.storage_schema import parquet_rows
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.network_tables import DIRECTIONS
from circuit_atlas.storage_schema.parquet_pages import column_pages
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.unit_tables import FAITHFULNESS, RESPONSES
from tests.fuzz.parquet import TABLES, file_of, rows_of
from tests.fuzz.parquet_bombs import Lies
from tests.fuzz.parquet_bombs import file_of as bomb_of

TRUTH = Lies(Random(0), 0.0)
# Of any values, so that what their bytes take is looked at alone.
ANY = replace(RESPONSES, columns=tuple(replace(c, among=()) for c in RESPONSES.columns), once=())


def written(rows: pa.Table, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, **{"compression": "zstd", **options})
    return bytes(sink.getvalue())


def test_what_is_written_byte_by_byte_is_read():
    rows = ANY.from_parquet(bomb_of(ANY, rows=1000, text_bytes=3, lies=TRUTH), location="x")
    assert (rows.num_rows, rows["split"][999].as_py(), rows["response"][7].as_py()) == (
        1000,
        "aaa",
        0.0,
    )
    lists = DIRECTIONS.from_parquet(
        bomb_of(DIRECTIONS, rows=1000, text_bytes=0, lies=TRUTH), location="x"
    )
    assert lists["values"].to_pylist() == [[0.0] * 1000]


@pytest.mark.parametrize(
    ("table", "rows", "text_bytes"),
    [
        (RESPONSES, 2**31 - 1, 1),
        (RESPONSES, 10**7, 10_000),
        (RESPONSES, 2**62, 0),
        (RESPONSES, 1, 3 * 10**8),
        (DIRECTIONS, 2**31 - 1, 0),
    ],
)
def test_a_few_kilobytes_do_not_unpack_to_gigabytes(table: Table, rows: int, text_bytes: int):
    data = bomb_of(table, rows=rows, text_bytes=text_bytes, lies=TRUTH)
    assert len(data) < 200_000
    before = pa.total_allocated_bytes()
    with pytest.raises(
        CorruptError, match=r"x is cut or altered \(.+\): run `circuit-atlas repair`"
    ):
        table.from_parquet(data, location="x")
    assert pa.total_allocated_bytes() - before < parquet_rows.MOST_BYTES


def test_texts_that_rows_share_are_unpacked_as_long_as_there_is_room(monkeypatch):
    data = bomb_of(ANY, rows=3000, text_bytes=10_000, lies=TRUTH)
    assert ANY.from_parquet(data, location="x")["split"][2999].as_py() == "a" * 10_000
    monkeypatch.setattr(parquet_rows, "MOST_BYTES", 40 << 20)
    monkeypatch.setattr(parquet_rows, "MOST_FOLD", 1)
    whole = rows_of(ANY, Random(1), 30_000)
    split = pa.array(["b" * 100_000] + ["b"] * 29_999)
    many = whole.set_column(1, whole.schema.field(1), split)
    # 30,000 rows that might share a text of 100,000 bytes, and don't.
    assert ANY.from_parquet(written(many), location="x")["split"].equals(many["split"])
    with pytest.raises(CorruptError, match="its rows take more than"):
        ANY.from_parquet(data, location="x")


def test_no_column_of_a_file_need_be_there_for_its_rows_to_be_too_many():
    data = bomb_of(FAITHFULNESS_OF_OLD, rows=2**31 - 1, text_bytes=1, lies=TRUTH)
    with pytest.raises(CorruptError, match=r"its rows take .* bytes, and .* are allowed"):
        RESPONSES.from_parquet(data, location="x", columns=["drawn"])


FAITHFULNESS_OF_OLD = Table("responses", "", RESPONSES.columns[:-1])


@pytest.mark.parametrize("table", TABLES, ids=[table.name for table in TABLES])
def test_every_table_comes_back(table):
    rows = rows_of(table, Random(3), 200)
    back = table.from_parquet(table.to_parquet(rows), location="x")
    assert back.schema.equals(rows.schema)
    assert [str(row) for row in back.to_pylist()] == [str(row) for row in rows.to_pylist()]


def test_pages_are_counted_as_they_were_written():
    rows = rows_of(FAITHFULNESS, Random(5), 5000)
    data = written(rows, data_page_size=1000, row_group_size=1000)
    metadata = pq.read_metadata(pa.BufferReader(data))
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            start = column.dictionary_page_offset or column.data_page_offset
            found = column_pages(memoryview(data), start, column.total_compressed_size, most=99)
            assert found.values == column.num_values == 1000
            assert 0 < found.size_bytes <= column.total_uncompressed_size


def _other_codec(rows: pa.Table) -> bytes:
    return written(rows, compression="gzip")


def _invalid_text(rows: pa.Table) -> bytes:
    buffers = pa.array([b"\xff"] * len(rows), pa.binary()).buffers()
    text = pa.StringArray.from_buffers(len(rows), buffers[1], buffers[2])
    return written(rows.set_column(1, rows.schema.field(1), text))


def _many_groups(rows: pa.Table) -> bytes:
    return written(pa.concat_tables([rows] * 101), row_group_size=1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_other_codec, "a column is packed by GZIP, which none is"),
        (_invalid_text, "Invalid UTF8"),
        (_many_groups, "Exceeded size limit"),
    ],
)
def test_what_no_writer_of_ours_does_is_refused(make: Callable[[pa.Table], bytes], said: str):
    with pytest.raises(CorruptError, match=said):
        RESPONSES.from_parquet(make(rows_of(RESPONSES, Random(1), 10)), location="x")


def test_a_file_of_another_table_names_some_of_its_columns():
    wide = pa.table({f"column {n}": [1] for n in range(900)})
    with pytest.raises(CorruptError, match="x has other columns than responses: column 0, ") as e:
        RESPONSES.from_parquet(written(wide), location="x")
    assert len(str(e.value)) < 500


def test_columns_that_lie_about_their_place_are_refused():
    for seed in range(60):
        data = bomb_of(RESPONSES, rows=50, text_bytes=5, lies=Lies(Random(seed), 0.1))
        try:
            rows = RESPONSES.from_parquet(data, location="x")
        except CorruptError:
            continue
        assert rows.num_rows <= 50
    assert file_of(RESPONSES, Random(0)) == file_of(RESPONSES, Random(0))
