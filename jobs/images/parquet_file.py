"""A Parquet file of a user, of which no column is decoded before it is known what it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from circuit_atlas.jobs.images.named_files import SourceFile
from circuit_atlas.storage_schema.parquet_rows import read_bounded


class ParquetFile:
    """Reads columns of an opened file, see `opened`.

    Attributes:
        schema: of all of its columns.
        group_rows: how many rows each row group has.
    """

    def __init__(self, file: pq.ParquetFile, bytes_of: BinaryIO) -> None:
        self._file, self._bytes = file, bytes_of
        self.schema: pa.Schema = file.schema_arrow
        groups = range(file.num_row_groups)
        self.group_rows = [file.metadata.row_group(group).num_rows for group in groups]

    def read(self, column: str, *, groups: Sequence[int] | None = None) -> pa.ChunkedArray:
        """Return a column, or the field of one as `column.field`, of all row groups or some.

        pyarrow.ArrowInvalid where it cannot be read, or takes more memory than `parquet_rows`
        allows; OSError as of the file.
        """
        chosen = range(len(self.group_rows)) if groups is None else groups
        try:
            # Of columns that are packed in any way: others than atlases write the file.
            table = read_bounded(
                self._file, list(chosen), [column], stretch=self._stretch, codecs=None
            )
        except ValueError as error:
            raise pa.ArrowInvalid(str(error)) from error
        return table.column(0)

    def _stretch(self, start: int, size_bytes: int) -> memoryview:
        # Arrow reads the same next: of an object in a store, out of what is held of it.
        self._bytes.seek(max(start, 0))
        return memoryview(self._bytes.read(max(size_bytes, 0)))


@contextmanager
def opened(source: SourceFile) -> Iterator[ParquetFile]:
    """Open a file; pyarrow.ArrowException or OSError where it is none."""
    if isinstance(source, Path):
        with pq.ParquetFile(source) as file, source.open("rb") as stream:
            yield ParquetFile(file, stream)
    else:
        with source.open("rb") as held, pq.ParquetFile(held) as file:
            yield ParquetFile(file, held)
