"""Rows -> table -> Parquet -> table, with the promises of each column held."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from circuit_atlas.storage_schema import unit_tables
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.records import (
    ContrastRow,
    FaithfulnessRow,
    GroupRow,
    ResponseRow,
    SubfeatureRow,
)
from tests.patience import START_S


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (unit_tables.RESPONSES, ResponseRow),
        (unit_tables.FAITHFULNESS, FaithfulnessRow),
        (unit_tables.SUBFEATURES, SubfeatureRow),
        (unit_tables.GROUPS, GroupRow),
        (unit_tables.SELECTIVITY, ContrastRow),
    ],
)
def test_columns_are_the_fields_of_the_records(table, row):
    fields = dataclasses.fields(row)
    assert [column.stored_name for column in table.columns] == [field.name for field in fields]
    for column, field in zip(table.columns, fields, strict=True):
        assert ("None" in str(field.type)) == (column.null is not None)


def test_rows_come_back(record):
    rows = record(0).faithfulness
    table = unit_tables.FAITHFULNESS.table(rows)
    data = unit_tables.FAITHFULNESS.to_parquet(table)
    back = unit_tables.FAITHFULNESS.from_parquet(data, location="x")
    assert back.equals(table)
    assert back.to_pylist() == [dataclasses.asdict(row) for row in rows]
    assert back.schema.field("pearson").metadata[b"unit"] == b"1"
    assert unit_tables.FAITHFULNESS.to_parquet(table) == data


READS = """
import os, sys
from circuit_atlas.storage_schema import unit_tables
data = sys.stdin.buffer.read()
before = os.listdir("/proc/self/task")
for columns in (None, ["image"]):
    unit_tables.RESPONSES.from_parquet(data, location="x", columns=columns)
sys.exit(len(os.listdir("/proc/self/task")) - len(before))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux alone tells")
def test_reading_starts_no_thread_that_could_abort_a_script_at_its_end(record):
    data = unit_tables.RESPONSES.to_parquet(unit_tables.RESPONSES.table(record(0).responses))
    done = subprocess.run([sys.executable, "-c", READS], input=data, timeout=START_S, check=False)
    assert done.returncode == 0


def test_a_file_from_before_a_column_has_nulls_there(record):
    table = unit_tables.FAITHFULNESS.table(record(0).faithfulness)
    later = ["acting", "firing", "firing_full", "pearson_images", "auc", "auc_full"]
    sink = pa.BufferOutputStream()
    pq.write_table(table.drop_columns(later), sink)
    old = bytes(sink.getvalue())
    whole = unit_tables.FAITHFULNESS.from_parquet(old, location="x")
    assert whole.schema.equals(unit_tables.FAITHFULNESS.stored_schema)
    assert whole.drop_columns(later).equals(table.drop_columns(later))
    assert all(whole[name].null_count == len(table) for name in later)
    some = unit_tables.FAITHFULNESS.from_parquet(old, location="x", columns=["firing", "pearson"])
    assert some.column_names == ["firing", "pearson"]
    only = unit_tables.FAITHFULNESS.from_parquet(old, location="x", columns=["firing"])
    assert only["firing"].null_count == len(only) == len(table)
    pq.write_table(table.drop_columns(["pearson"]), sink := pa.BufferOutputStream())
    with pytest.raises(CorruptError, match="x has other columns than faithfulness"):
        unit_tables.FAITHFULNESS.from_parquet(bytes(sink.getvalue()), location="x")


def test_no_rows_keep_their_columns():
    data = unit_tables.SUBFEATURES.to_parquet(unit_tables.SUBFEATURES.table([]))
    back = unit_tables.SUBFEATURES.from_parquet(data, location="x")
    assert (len(back), back.schema.names[0]) == (0, "criterion")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"response": None}, "responses.response: a null"),
        ({"image": "one"}, "responses.image"),
        ({"image": 2**40}, "responses.image"),
    ],
)
def test_values_that_do_not_fit_are_refused(record, change, says):
    row = dataclasses.replace(record(0).responses[0], **change)
    with pytest.raises(ValueError, match=says):
        unit_tables.RESPONSES.table([row])


def test_another_table_is_refused(record):
    other = unit_tables.RESPONSES.table(record(0).responses)
    with pytest.raises(ValueError, match="not this table's columns"):
        unit_tables.FAITHFULNESS.to_parquet(other)
    data = unit_tables.RESPONSES.to_parquet(other)
    with pytest.raises(CorruptError, match="x has other columns"):
        unit_tables.FAITHFULNESS.from_parquet(data, location="x")
    with pytest.raises(CorruptError, match="x is cut or altered"):
        unit_tables.RESPONSES.from_parquet(data[:-20], location="x")
