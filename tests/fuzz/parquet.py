"""Parquet files: those of every table altered by chance, and files of other shapes than any has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from obstore.store import MemoryStore

from circuit_atlas.storage_schema import row_groups, sealed
from circuit_atlas.storage_schema.columns import UNIT, Column
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.image_table import IMAGES, IMAGES_WITH_FILES, has_files
from circuit_atlas.storage_schema.network_tables import NETWORK
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.response_tables import CHUNK, DISTRIBUTIONS
from circuit_atlas.storage_schema.row_groups import Block, SealedFile, Stretch
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.unit_tables import FRAGMENTS, ON_REQUEST
from tests.fuzz.mutation import altered as altered_bytes
from tests.fuzz.watch import Run, made

TABLES: tuple[Table, ...] = (
    *FRAGMENTS,
    *ON_REQUEST,
    *NETWORK,
    IMAGES,
    IMAGES_WITH_FILES,
    CHUNK,
    DISTRIBUTIONS,
    sealed.COMMITS,
    sealed.MASKS,
)
_TEXTS = ("scoring", "actgrad", "features.7.expand3x3", "é\u202e\0", "")
_SHOWN_ROWS = 5000


def altered(folder: Path) -> Run:
    """A table's file, as it is written, with some bytes altered."""
    del folder
    files = {table.name: file_of(table, Random(0)) for table in TABLES}

    def run(random: Random) -> None:
        table = random.choice(TABLES)
        data = altered_bytes(files[table.name], random, tuple(files.values()))
        read(table, data)

    return run


def odd(folder: Path) -> Run:
    """A file of other columns, of other values or written in another way than any is."""
    del folder

    def run(random: Random) -> None:
        table = random.choice(TABLES)
        read(table, random.choice(_MAKERS)(table, random))

    return run


def sealed_files(random: Random) -> tuple[Table, bytes, SealedFile]:
    """A table of a whole layer, in as many row groups as there are units."""
    table = sealed.of_layer(random.choice(FRAGMENTS))
    blocks = [
        Block(rows_of(table, Random(unit), random.randrange(1, 20), unit=unit), unit, unit)
        for unit in range(random.randrange(1, 6))
    ]
    return table, *row_groups.write(blocks, table.stored_schema, path="x.parquet")


def sealed_altered(random: Random) -> None:
    """Read some row groups of a file that was altered, and its record with it."""
    table, data, file = sealed_files(random)
    other = altered_bytes(data, random)

    def stretch(stored: Stretch) -> Stretch:
        start, size = stored.start, stored.size_bytes
        if random.random() < 0.2:
            start += random.choice((-(2**40), -1, 1, 2**40))
        if random.random() < 0.2:
            size += random.choice((-(2**40), -1, 1, 2**40))
        return Stretch(start, size, sha256(other[max(0, start) : max(0, start + size)]))

    groups = tuple(replace(group, stretch=stretch(group.stretch)) for group in file.row_groups)
    size = random.choice((len(data), len(other), 2**50))
    file = replace(file, row_groups=groups, metadata=stretch(file.metadata), size_bytes=size)
    objects = Objects(MemoryStore(), location="memory:")
    objects.put("x.parquet", other)
    made()
    chosen = random.sample(range(len(groups)), random.randrange(1, len(groups) + 1))
    shown(row_groups.read(objects, file, table, groups=chosen))


def sealed_tables(folder: Path) -> Run:
    """A table of a whole layer, of which some row groups are read."""
    del folder
    return sealed_altered


def read(table: Table, data: bytes) -> None:
    """Read a file as a reader does, and turn it into Python's numbers and texts."""
    made()
    if table.name == IMAGES.name:
        has_files(data)
    shown(table.public(table.from_parquet(data, location="x.parquet")))


def shown(rows: pa.Table) -> None:
    """Turn rows into Python's numbers and texts."""
    rows.slice(0, _SHOWN_ROWS).to_pylist()


def file_of(table: Table, random: Random) -> bytes:
    """A table's file with a few rows."""
    return table.to_parquet(rows_of(table, random, 40))


def rows_of(table: Table, random: Random, count: int, *, unit: int | None = None) -> pa.Table:
    """Rows of numbers and texts by chance, as the table may have them; all of one unit where that
    is given."""
    numbering = {_numbering(table, names) for names in table.once} | {table.numbered}
    columns: dict[str, list[Any]] = {}
    for column in table.columns:
        if column.name == UNIT.name and unit is not None:
            values: list[Any] = [unit] * count
        elif column.name in numbering:
            values = [f"c{n}" if pa.types.is_string(column.type) else n for n in range(count)]
        else:
            values = [
                None
                if column.null is not None and random.random() < 0.2
                else _value(column.type, column, random)
                for _ in range(count)
            ]
        columns[column.stored_name] = values
    return table.from_columns(columns)


def _numbering(table: Table, once: Sequence[str]) -> str:
    """The column that tells rows apart which differ in some: the first text, else the last."""
    of = {column.name: column for column in table.columns}
    texts = (n for n in once if pa.types.is_string(of[n].type) and not of[n].among)
    return next(texts, once[-1])


def _value(kind: pa.DataType, column: Column, random: Random) -> Any:
    if pa.types.is_list(kind):
        return [_value(kind.value_type, column, random) for _ in range(random.randrange(5))]
    if pa.types.is_boolean(kind):
        return random.random() < 0.5
    if pa.types.is_integer(kind):
        most = 99 if column.most is None else min(99, int(column.most))
        return random.randint(int(column.least or 0), most)
    if pa.types.is_floating(kind):
        if not column.finite and random.random() < 0.5:
            return random.choice((math.nan, math.inf))
        return random.random() if column.least is not None else random.gauss(0, 1)
    if column.among:
        return random.choice(column.among)
    return random.choice(_TEXTS) if pa.types.is_string(kind) else random.randbytes(9)


def _written(rows: pa.Table, random: Random, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows,
        sink,
        **{
            "compression": random.choice(("zstd", "snappy", "gzip", "brotli", "lz4", "none")),
            "data_page_version": random.choice(("1.0", "2.0")),
            "use_dictionary": random.random() < 0.5,
            "data_page_size": random.choice((1, 100, 2**20)),
            "write_statistics": random.random() < 0.5,
            "write_page_checksum": random.random() < 0.5,
            "store_schema": random.random() < 0.8,
            **options,
        },
    )
    return bytes(sink.getvalue())


def _otherwise(table: Table, random: Random) -> bytes:
    """The right columns, packed or laid out in another way."""
    return _written(rows_of(table, random, random.choice((0, 1, 200))), random)


def _in_many_groups(table: Table, random: Random) -> bytes:
    size = random.choice((1, 7))
    return _written(rows_of(table, random, random.choice((50, 2000))), random, row_group_size=size)


def _with_nulls(table: Table, random: Random) -> bytes:
    """Columns that are null where they may not be."""
    rows = rows_of(table, random, 5)
    arrays = [pa.nulls(5, field.type) for field in rows.schema]
    schema = pa.schema([field.with_nullable(True) for field in rows.schema])
    return _written(pa.Table.from_arrays(arrays, schema=schema), random)


def _of_other_types(table: Table, random: Random) -> bytes:
    """The right names, and columns of other types, nested ones among them."""
    kinds = (
        pa.int8(),
        pa.uint64(),
        pa.float32(),
        pa.large_string(),
        pa.binary(),
        pa.date32(),
        pa.timestamp("ns"),
        pa.decimal128(38, 3),
        pa.dictionary(pa.int32(), pa.string()),
        pa.list_(pa.list_(pa.struct([("a", pa.list_(pa.int32()))]))),
        pa.map_(pa.string(), pa.int32()),
        pa.struct([("a", pa.struct([("b", pa.string())]))]),
    )
    schema = pa.schema(
        [
            pa.field(name, random.choice(kinds)) if random.random() < 0.5 else field
            for name, field in zip(table.stored_schema.names, table.stored_schema, strict=True)
        ]
    )
    return _written(schema.empty_table(), random, use_dictionary=False)


def _of_many_columns(table: Table, random: Random) -> bytes:
    rows = rows_of(table, random, 2)
    for number in range(random.choice((1, 300, 3000))):
        rows = rows.append_column(f"c{number}", pa.array([1, 2]))
    return _written(rows, random, compression="zstd")


def _deeply_nested(table: Table, random: Random) -> bytes:
    kind: pa.DataType = pa.int32()
    for _ in range(random.choice((20, 60))):
        kind = pa.struct([("a", kind)])
    name = table.stored_schema.names[0]
    return _written(pa.schema([(name, kind)]).empty_table(), random)


def _of_long_texts(table: Table, random: Random) -> bytes:
    """Texts of megabytes, and texts that are none."""
    rows = rows_of(table, random, 6)
    for number, field in enumerate(rows.schema):
        if not (pa.types.is_string(field.type) or pa.types.is_binary(field.type)):
            continue
        value = random.choice((b"\xff\xfe\x80", b"a" * 5_000_000, b"", b"\0"))
        array = pa.array([value] * 6, pa.binary())
        if pa.types.is_string(field.type):
            array = pa.StringArray.from_buffers(6, array.buffers()[1], array.buffers()[2])
        rows = rows.set_column(number, field, array)
    return _written(rows, random)


def _with_much_metadata(table: Table, random: Random) -> bytes:
    many = {f"k{n}": "v" * random.choice((1, 100)) for n in range(random.choice((10, 5000)))}
    rows = rows_of(table, random, 3).replace_schema_metadata({**many, "big": "x" * 2_000_000})
    return _written(rows, random)


def _another_table(table: Table, random: Random) -> bytes:
    return file_of(random.choice([other for other in TABLES if other is not table]), random)


_MAKERS: Sequence[Callable[[Table, Random], bytes]] = (
    _otherwise,
    _in_many_groups,
    _with_nulls,
    _of_other_types,
    _of_many_columns,
    _deeply_nested,
    _of_long_texts,
    _with_much_metadata,
    _another_table,
)
