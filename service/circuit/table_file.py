"""A table as the bytes of a file: CSV or Parquet."""

from __future__ import annotations

import json
from io import BytesIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

ENDINGS = (".csv", ".parquet")


def table_file(table: pa.Table, ending: str) -> bytes:
    """Write a table, as CSV where `ending` is `.csv`, with lists as JSON, else as Parquet."""
    if ending == ".parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        return bytes(sink.getvalue())
    flat = [_flat(column) for column in table.columns]
    text = BytesIO()
    arrow_csv.write_csv(pa.table(dict(zip(table.column_names, flat, strict=True))), text)
    return text.getvalue()


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as CSV has it."""
    if pa.types.is_dictionary(column.type):
        return pc.cast(column.combine_chunks().cast(pa.string()), pa.string())
    if pa.types.is_nested(column.type):
        texts = (None if value is None else json.dumps(value) for value in column.to_pylist())
        return pa.array(texts, pa.string())
    return column
