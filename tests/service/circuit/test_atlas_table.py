"""Tables as people look at them."""

from __future__ import annotations

import json
import sys

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from circuit_atlas.service import QueryError, WriteError
from circuit_atlas.service.circuit.atlas_table import AtlasTable
from circuit_atlas.storage_schema.columns import Column, schema_of

COLUMNS = (
    Column("kernels", pa.int32(), "kernels", "Kernels", "How many < all."),
    Column("r", pa.float64(), "1", "r", "Pearson r.", null="Undefined."),
)


@pytest.fixture
def table() -> AtlasTable:
    return AtlasTable(pa.table({"kernels": [3, 1, 2], "r": [0.5, None, 0.25]}, schema_of(COLUMNS)))


def test_it_is_read_as_arrow_and_by_rows(table):
    assert len(table) == table.num_rows == 3
    assert table.column_names == ["kernels", "r"]
    assert table["kernels"].to_pylist() == [3, 1, 2]
    assert [row["r"] for row in table] == [0.5, None, 0.25]
    assert pa.table(table).equals(table.to_arrow())
    assert table.sort_by("kernels").slice(1)["kernels"].to_pylist() == [2, 3]
    assert len(table.filter(pa.compute.greater(table["kernels"], 1))) == 2
    assert table.select(["r"]).to_pydict() == {"r": [0.5, None, 0.25]}
    assert table == AtlasTable(table.to_arrow())
    assert table != table.slice(1)


def test_a_column_that_is_not_there_is_named_with_those_that_are(table):
    for ask in (lambda: table["rr"], lambda: table.select(["r", "rr"])):
        with pytest.raises(QueryError, match=r"no column 'rr': its columns are 'kernels' and 'r'"):
            ask()


def test_html_has_units_and_meanings(table):
    html = table._repr_html_()
    assert "kernels<br><small>kernels</small>" in html
    assert 'title="How many &lt; all."' in html
    assert "<small>1</small>" not in html


def test_it_is_saved_as_csv_and_parquet(table, tmp_path):
    assert pq.read_table(table.save(tmp_path / "t.parquet")).equals(table.to_arrow())
    assert arrow_csv.read_csv(table.save(tmp_path / "t.csv"))["kernels"].to_pylist() == [3, 1, 2]
    lists = AtlasTable(pa.table({"n": [1, 2], "r": [[1.0, None], None]}))
    (first, second) = arrow_csv.read_csv(lists.save(tmp_path / "l.csv"))["r"].to_pylist()
    assert (json.loads(first), second) == ([1.0, None], "")
    with pytest.raises(QueryError, match=r"'t\.xls' is no kind of file"):
        table.save(tmp_path / "t.xls")
    with pytest.raises(WriteError, match="cannot be written"):
        table.save(tmp_path / "none" / "t.csv")


def test_without_pandas_one_line_says_what_to_install(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(QueryError, match=r"'pandas', which is not installed: python -m pip"):
        table.to_pandas()
