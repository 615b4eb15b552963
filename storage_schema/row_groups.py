"""A large Parquet file of which single row groups are read, each against a checksum of its own.

A file of a whole layer can be larger than what is asked of it, so no reader has to fetch all of it
to know that what it got is what was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from circuit_atlas.storage_schema.bounds import Name, Sha256, SizeBytes, StorePath, UnitNumber
from circuit_atlas.storage_schema.commit import StoredObject
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.parquet_rows import read_rows
from circuit_atlas.storage_schema.table import Table

_TAIL = 8  # Parquet's last bytes: the length of the metadata before them, and a magic word
_REMEDY = "run `circuit-atlas compact --anew`, which writes it again from what it was made of"


@dataclass(frozen=True)
class Stretch:
    """Some bytes of a file."""

    start: Annotated[SizeBytes, "First byte, from 0."]
    size_bytes: Annotated[SizeBytes, "Size in bytes."]
    sha256: Annotated[Sha256, "SHA-256 of these bytes, in hex."]


@dataclass(frozen=True)
class RowGroup:
    """Describes a row group by what its rows are of."""

    stretch: Annotated[Stretch, "Where it lies."]
    first: Annotated[UnitNumber, "The smallest unit with rows in it."]
    last: Annotated[UnitNumber, "The largest."]
    criterion: Annotated[Name | None, "The criterion of all of its rows; null where there is none."]


@dataclass(frozen=True)
class SealedFile:
    """Describes a Parquet file of a sealed generation."""

    path: Annotated[StorePath, "Path from the atlas' root."]
    size_bytes: Annotated[SizeBytes, "Size in bytes."]
    sha256: Annotated[Sha256, "SHA-256 of the bytes, in hex."]
    row_groups: Annotated[tuple[RowGroup, ...], "Its row groups, in the file's order."]
    metadata: Annotated[Stretch, "What follows them: Parquet's metadata."]

    @property
    def stored(self) -> StoredObject:
        """Return the file as a whole."""
        return StoredObject(self.path, self.size_bytes, self.sha256)

    def content(self) -> dict[str, Any]:
        """Return the document's keys."""
        return asdict(self)

    def inconsistency(self) -> str | None:
        """Say what does not go together; None where all does."""
        end = 0
        for stretch in (*(group.stretch for group in self.row_groups), self.metadata):
            if stretch.start < end:
                return "has row groups that overlap"
            end = stretch.start + stretch.size_bytes
        if end != self.size_bytes:
            return f"ends its metadata at byte {end:,}, and has {self.size_bytes:,} bytes"
        return None


@dataclass(frozen=True)
class Block:
    """Holds rows that are to be one row group; `first`, `last` and `criterion` as of `RowGroup`."""

    rows: pa.Table
    first: int
    last: int
    criterion: str | None = None


def write(
    blocks: Iterable[Block], schema: pa.Schema, *, path: str, plain: Sequence[str] = ()
) -> tuple[bytes, SealedFile]:
    """Return the file of some blocks, of which it takes one at a time, and its record.

    Args:
        blocks: the row groups.
        schema: of all of them.
        path: where the file is to lie.
        plain: columns whose values hardly repeat.
    """
    sink = pa.BufferOutputStream()
    keys = []
    encoded = [name for name in schema.names if name not in plain]
    with pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=encoded) as writer:
        for block in blocks:
            if block.rows.num_rows:
                writer.write_table(block.rows, row_group_size=block.rows.num_rows)
                keys.append((block.first, block.last, block.criterion))
    data = bytes(sink.getvalue())
    end = len(data) - _TAIL - int.from_bytes(data[-_TAIL:-4], "little")
    metadata = pq.read_metadata(pa.BufferReader(data))
    starts = [_start(metadata.row_group(n)) for n in range(len(keys))]
    stops = [*starts, end][1:]
    groups = tuple(
        RowGroup(_stretch(data, start, stop), *key)
        for start, stop, key in zip(starts, stops, keys, strict=True)
    )
    return data, SealedFile(path, len(data), sha256(data), groups, _stretch(data, end, len(data)))


def read(
    objects: Objects,
    file: SealedFile,
    table: Table,
    *,
    groups: Sequence[int],
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Return the rows of some row groups of a file of a table, all columns or some by their stored
    names.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptError: it is cut or altered.
    """
    schema = table.stored_schema
    names = schema.names if columns is None else list(columns)
    if not groups:
        return schema.empty_table().select(names)
    location = objects.at(file.path)
    stretches = [*(file.row_groups[n].stretch for n in groups), file.metadata]
    end = file.metadata.start + file.metadata.size_bytes
    if end != file.size_bytes or any(
        not 0 <= s.start <= s.start + s.size_bytes <= end for s in stretches
    ):
        raise CorruptError(altered(location))
    whole = len(groups) == len(file.row_groups)
    if whole:
        data = objects.get(file.path)
        pieces = [memoryview(data)[s.start : s.start + s.size_bytes] for s in stretches]
    else:
        ranges = [(s.start, s.size_bytes) for s in stretches]
        pieces = [memoryview(piece) for piece in objects.get_ranges(file.path, ranges)]
    for stretch, piece in zip(stretches, pieces, strict=True):
        if sha256(piece) != stretch.sha256:
            raise CorruptError(altered(location))
    buffer = pa.py_buffer(data) if whole else _with_holes(file, stretches, pieces)
    return read_rows(
        buffer,
        schema,
        what=table.name,
        location=location,
        remedy=_REMEDY,
        columns=names,
        groups=groups,
        stored_groups=len(file.row_groups),
        fault=table.fault,
        digests=tuple(stretch.sha256 for stretch in stretches),
    )


def _with_holes(
    file: SealedFile, stretches: Sequence[Stretch], pieces: Sequence[memoryview]
) -> pa.Buffer:
    """The file with some of its bytes: as long as it is, so that all lies where it must. Memory
    that is not written to costs nothing."""
    whole = np.empty(file.size_bytes, np.uint8)
    for stretch, piece in zip(stretches, pieces, strict=True):
        whole[stretch.start : stretch.start + len(piece)] = np.frombuffer(piece, np.uint8)
    return pa.py_buffer(whole)


def altered(location: str) -> str:
    """Tell of a sealed file that is not what was written."""
    return f"{location} is cut or altered: {_REMEDY}"


def _start(group: Any) -> int:
    """Where a row group's first byte lies."""
    offsets = [
        offset
        for column in (group.column(n) for n in range(group.num_columns))
        for offset in (column.dictionary_page_offset, column.data_page_offset)
        if offset is not None
    ]
    return min(offsets)


def _stretch(data: bytes, start: int, stop: int) -> Stretch:
    return Stretch(start, stop - start, sha256(data[start:stop]))
