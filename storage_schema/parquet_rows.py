"""Rows of a Parquet file, which are decoded once it is known what they take, and not before.

A few kilobytes may unpack to gigabytes: pages of one byte over and over, a long text that every row
points to, rows of nothing but nulls. So a file's columns must be those that are looked for, its
pages are walked over by their headers, and what all of it takes must be within a bound. What was
decoded is then held against what such rows may hold. Of a file whose digest is known, that is done
once: the same bytes pass again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from circuit_atlas.storage_schema.columns import completed, is_of
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.parquet_pages import column_pages

MOST_BYTES = 256 << 20
"""What the rows of a file may take in memory, however small the file."""
MOST_FOLD = 256
"""How many times what is read of the file they may take beside that."""

_CODECS = ("ZSTD", "UNCOMPRESSED", "SNAPPY")
# What Arrow raises of a file that is no good: names that are no text are a ValueError.
_FAULTS = (pa.ArrowException, OSError, ValueError, IndexError, MemoryError)
# Beside the value itself: that it is there, where a list begins, where a text ends.
_VALUE_BYTES = 16
_MOST_PAGES = 100_000
_MOST_BATCHES = 10_000
# Of a file's metadata: elements of one list, and bytes of one text.
_MOST_LISTED = 1000
_MOST_TEXT = 1 << 20
_MOST_PASSED = 100_000


_Key = tuple[tuple[str, ...], tuple[str, ...] | None, tuple[int, ...] | None]


class _Passed(dict[_Key, tuple[pa.Schema, list[str]]]):
    """What passed in this process: by digests, columns and row groups, the schema that it was held
    against and the columns that it has. Shared by threads."""

    def note(self, key: _Key, schema: pa.Schema, names: list[str]) -> None:
        if len(self) >= _MOST_PASSED:
            self.clear()
        self[key] = schema, names

    def names(self, key: _Key, schema: pa.Schema) -> list[str] | None:
        """The columns to read of what passed; None where it did not, or as another table."""
        held = self.get(key)
        return held[1] if held is not None and held[0] is schema else None


_passed = _Passed()


def read_rows(
    data: bytes | pa.Buffer,
    schema: pa.Schema,
    *,
    what: str,
    location: str,
    remedy: str,
    columns: Sequence[str] | None = None,
    groups: Sequence[int] | None = None,
    stored_groups: int = 1,
    fault: Callable[[pa.Table], str | None] | None = None,
    digests: tuple[str, ...] = (),
) -> pa.Table:
    """Read columns of a file, all or some, of all row groups or some.

    Args:
        data: the file; where `groups` are given, what lies between them may be anything.
        schema: its columns; those that came later than the file are null.
        what: the table, for messages.
        location: names the file in messages.
        remedy: what to do where it is cut or altered.
        columns: their names. Default: all.
        groups: numbers of row groups. Default: all.
        stored_groups: how many row groups the file is said to have.
        fault: says what rows hold that they may not; None where all is well.
        digests: SHA-256 of all that is read of the file; none where they were not worked out, and
            then everything is looked at each time.

    Raises:
        CorruptError: it is cut or altered, has other columns, holds what it may not, or takes more
            memory than `MOST_BYTES` and `MOST_FOLD` times what is read of it.
    """
    asked = None if columns is None else tuple(columns)
    key = (digests, asked, None if groups is None else tuple(groups))
    try:
        # Not `read_table`, and no threads of Arrow's: a script that lets go of them at its end is
        # aborted ("terminate called without an active exception").
        with _opened(data, stored_groups) as file:
            names = schema.names if columns is None else list(columns)
            chosen = range(file.num_row_groups) if groups is None else list(groups)
            known = _passed.names(key, schema) if digests else None
            if known is not None:
                rows = file.read_row_groups(chosen, known, use_threads=False)
            else:
                known = _known(file, schema, names, what=what, location=location)
                # Arrow's own buffers are of bytes with a sign.
                bytes_of = memoryview(data).cast("B")
                rows = read_bounded(
                    file, chosen, known, stretch=lambda at, size: bytes_of[at : at + size]
                )
                if fault is not None and (said := fault(rows)) is not None:
                    raise CorruptError(f"{location} is no table of ours: {said}; {remedy}")
                if digests:
                    _passed.note(key, schema, known)
    except _FAULTS as error:
        reason = " ".join(str(error).split())[:300]
        raise CorruptError(f"{location} is cut or altered ({reason}): {remedy}") from error
    if columns is None and rows.schema.equals(schema, check_metadata=True):
        return rows
    return completed(rows, [schema.field(name) for name in names])


def _known(
    file: pq.ParquetFile, schema: pa.Schema, names: Sequence[str], *, what: str, location: str
) -> list[str]:
    """Those of some columns that a file has; CorruptError where it has others than it may."""
    found = file.schema_arrow
    if not is_of(found, schema):
        shown = ", ".join(found.names[:40])
        raise CorruptError(f"{location} has other columns than {what}: {shown[:400]}")
    return [name for name in names if name in found.names]


def column_names(data: bytes) -> list[str]:
    """Name the columns of a file; none where it cannot be read."""
    try:
        with _opened(data) as file:
            return list(file.schema_arrow.names)
    except _FAULTS:
        return []


def _opened(data: bytes | pa.Buffer, stored_groups: int = 1) -> pq.ParquetFile:
    return pq.ParquetFile(
        pa.BufferReader(data),
        thrift_string_size_limit=_MOST_TEXT,
        thrift_container_size_limit=max(_MOST_LISTED, stored_groups),
    )


def read_bounded(
    file: pq.ParquetFile,
    groups: Sequence[int],
    names: Sequence[str],
    *,
    stretch: Callable[[int, int], memoryview],
    codecs: Sequence[str] | None = _CODECS,
) -> pa.Table:
    """Decode some columns of some row groups, once it is known what they take.

    Args:
        file: the file, opened.
        groups: numbers of its row groups.
        names: of columns, or of fields in them as `column.field`.
        stretch: gives bytes of the file, from one on, so many; as many as there are.
        codecs: by which columns may be packed; None for any.

    Raises:
        ValueError: they take more memory than `MOST_BYTES` and `MOST_FOLD` times what is read, or
            the file's pages are not what its metadata says.
        pyarrow.ArrowException, OSError: as of Arrow.
    """
    read, texts = 0, 0
    count = sum(file.metadata.row_group(group).num_rows for group in groups)
    taken = _VALUE_BYTES * count
    for group in groups:
        row_group = file.metadata.row_group(group)
        in_a_row = 0
        for number in range(row_group.num_columns):
            column = row_group.column(number)
            path = column.path_in_schema
            if not any(path == name or path.startswith(f"{name}.") for name in names):
                continue
            if codecs is not None and column.compression not in codecs:
                raise ValueError(f"a column is packed by {column.compression}, which none is")
            size_bytes, memory, text = _checked(column, row_group.num_rows, stretch)
            read += size_bytes
            # A value of a fixed length takes that, even where it is null.
            taken += memory + max(file.schema.column(number).length, 0) * row_group.num_rows
            in_a_row += text
        texts = max(texts, in_a_row)
    most = MOST_BYTES + MOST_FOLD * read
    if taken > most:
        raise ValueError(f"its rows take {taken:,} bytes, and {most:,} are allowed")
    if texts * count <= most:
        rows = file.read_row_groups(list(groups), list(names), use_threads=False)
    else:
        rows = _in_batches(
            file, groups, names, count=count, at_once=max(1, most // texts), most=most
        )
    # That texts are texts: whoever turned one that is none into Python's would stumble over it.
    rows.validate(full=True)
    return rows


def _checked(
    column: pq.ColumnChunkMetaData, rows: int, stretch: Callable[[int, int], memoryview]
) -> tuple[int, int, int]:
    """A column of a row group: its size, what it takes in memory beside texts that its rows share,
    and the size of these. ValueError where its pages are not what the file's metadata says."""
    if column.num_values == rows == 0:
        return 0, 0, 0  # Arrow gives such a column no place, and reads none of it
    start = column.data_page_offset
    if column.dictionary_page_offset:
        start = min(start, column.dictionary_page_offset)
    size_bytes = column.total_compressed_size
    pages = column_pages(stretch(start, size_bytes), 0, size_bytes, most=_MOST_PAGES)
    in_lists = "." in column.path_in_schema
    least = 0 if in_lists else pages.values
    if pages.values != column.num_values or not least <= rows <= pages.values:
        raise ValueError(f"a column of {rows} rows has {pages.values} values")
    text = pages.dictionary_bytes if column.physical_type == "BYTE_ARRAY" else 0
    return size_bytes, pages.size_bytes + _VALUE_BYTES * (pages.values + rows), text


def _in_batches(
    file: pq.ParquetFile,
    groups: Sequence[int],
    names: Sequence[str],
    *,
    count: int,
    at_once: int,
    most: int,
) -> pa.Table:
    """Decode few rows at a time, as long as they take no more than is allowed."""
    if count > at_once * _MOST_BATCHES:
        raise ValueError(f"its {count:,} rows share texts of {most // at_once:,} bytes")
    taken, batches = 0, []
    for batch in file.iter_batches(at_once, list(groups), list(names), use_threads=False):
        taken += batch.nbytes
        if taken > most:
            raise ValueError(f"its rows take more than {most:,} bytes")
        batches.append(batch)
    return pa.Table.from_batches(batches)
