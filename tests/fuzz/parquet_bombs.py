"""Parquet files of a few kilobytes that say or unpack to gigabytes, written byte by byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pyarrow as pa

from circuit_atlas.storage_schema.network_tables import DIRECTIONS
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.unit_tables import RESPONSES
from tests.fuzz.parquet import read
from tests.fuzz.thrift import Field, i32, i64, inside, listed, string, struct, text, varint, zigzag
from tests.fuzz.watch import Run

_MAGIC = b"PAR1"
_INT32, _FLOAT, _DOUBLE, _BYTES = 1, 4, 5, 6
_KINDS = {pa.int32(): _INT32, pa.float32(): _FLOAT, pa.float64(): _DOUBLE, pa.string(): _BYTES}
_ZERO = {_INT32: b"\0" * 4, _FLOAT: b"\0" * 4, _DOUBLE: b"\0" * 8}
_ROWS = (1, 100, 10**5, 10**6, 10**8, 2**31 - 1, 2**40, 2**62)


@dataclass
class Lies:
    """What a file says that is not so; each is asked for by name and gives the truth by default."""

    random: Random
    chance: float
    numbers: Sequence[int] = field(
        default=(-1, 0, 1, 1000, 2**20, 2**30, 2**31 - 1, 2**31, 2**40, 2**62)
    )

    def said(self, truth: int) -> int:
        """The truth, or another number."""
        if self.random.random() >= self.chance:
            return truth
        return self.random.choice((truth - 1, truth + 1, *self.numbers))


def bombs(folder: Path) -> Run:
    """A file of the columns of a table, with few bytes for many rows, long texts or long lists."""
    del folder
    return lambda random: read(*made(random))


def made(random: Random) -> tuple[Table, bytes]:
    """A table, and a file by chance."""
    table = random.choice((RESPONSES, DIRECTIONS))
    lies = Lies(random, random.choice((0.0, 0.0, 0.02, 0.1)))
    return table, file_of(
        table,
        rows=random.choice(_ROWS),
        text_bytes=random.choice((0, 10, 10**4, 10**6, 10**8)),
        lies=lies,
        deep=random.choice((0, 0, 0, 100, 100_000)),
    )


def file_of(table: Table, *, rows: int, text_bytes: int, lies: Lies, deep: int = 0) -> bytes:
    """A file in which every row is the same.

    Args:
        table: `RESPONSES` or `DIRECTIONS`, whose one row then has a list of `rows` numbers.
        rows: so many; more than a page can have are said and not there.
        text_bytes: of the one text of each column of texts.
        lies: about sizes, numbers of values and places.
        deep: structs within one another that a page's header has beside its fields.
    """
    body = bytearray(_MAGIC)
    columns = []
    of_lists = any(pa.types.is_list(column.type) for column in table.columns)
    count = 1 if of_lists else rows
    for column in table.columns:
        in_list = pa.types.is_list(column.type)
        kind = _KINDS[column.type.value_type if in_list else column.type]
        value = (
            len(b := b"a" * text_bytes).to_bytes(4, "little") + b if kind == _BYTES else _ZERO[kind]
        )
        values = min(rows if in_list else count, 2**31 - 1)
        dictionary = _page(2, value, 1, lies, deep)
        levels = b""
        if in_list:
            levels = _levels(_run(1, b"\0") + _run(values - 1, b"\1")) + _levels(
                _run(values, b"\2")
            )
        elif column.null is not None:
            levels = _levels(_run(values, b"\1"))
        data = _page(0, levels + b"\1" + _run(values, b"\0"), values, lies, deep)
        start = len(body)
        body += dictionary + data
        path = [column.stored_name, "list", "element"] if in_list else [column.stored_name]
        metadata = struct(
            i32(1, kind),
            listed(2, "i32", [zigzag(8), zigzag(3)]),
            listed(3, "binary", [string(part.encode()) for part in path]),
            i32(4, 6),
            i64(5, lies.said(rows if in_list else count)),
            i64(6, lies.said(len(dictionary) + len(data))),
            i64(7, lies.said(len(dictionary) + len(data))),
            i64(9, lies.said(start + len(dictionary))),
            i64(11, lies.said(start)),
        )
        columns.append(struct(i64(2, start), inside(3, metadata)))
    group = struct(
        listed(1, "struct", columns), i64(2, lies.said(len(body))), i64(3, lies.said(count))
    )
    footer = struct(
        i32(1, 2),
        listed(2, "struct", _schema(table)),
        i64(3, lies.said(count)),
        listed(4, "struct", [group]),
        *_deep(deep),
    )
    return bytes(body) + footer + len(footer).to_bytes(4, "little") + _MAGIC


def _schema(table: Table) -> list[bytes]:
    elements = [struct(text(4, b"schema"), i32(5, len(table.columns)))]
    for column in table.columns:
        name = column.stored_name.encode()
        optional = int(column.null is not None)
        if pa.types.is_list(column.type):
            elements += [
                struct(i32(3, optional), text(4, name), i32(5, 1), i32(6, 3)),
                struct(i32(3, 2), text(4, b"list"), i32(5, 1)),
                struct(i32(1, _KINDS[column.type.value_type]), i32(3, 1), text(4, b"element")),
            ]
            continue
        kind = _KINDS[column.type]
        converted = [i32(6, 0)] if kind == _BYTES else []
        elements.append(struct(i32(1, kind), i32(3, optional), text(4, name), *converted))
    return elements


def _page(kind: int, content: bytes, values: int, lies: Lies, deep: int) -> bytes:
    packed = pa.Codec("zstd").compress(content, asbytes=True)
    of_kind = (
        inside(7, struct(i32(1, lies.said(values)), i32(2, 0)))
        if kind == 2
        else inside(5, struct(i32(1, lies.said(values)), i32(2, 8), i32(3, 3), i32(4, 3)))
    )
    header = struct(
        i32(1, kind),
        i32(2, lies.said(len(content))),
        i32(3, lies.said(len(packed))),
        of_kind,
        *_deep(deep),
    )
    return header + packed


def _deep(depth: int) -> list[Field]:
    """A field that no struct of Parquet has, of structs within one another."""
    return [inside(30, b"\x1c" * depth + b"\0" * (depth + 1))] if depth else []


def _run(count: int, value: bytes) -> bytes:
    """A value so many times, of a run-length encoding."""
    return varint(max(count, 0) << 1) + value


def _levels(runs: bytes) -> bytes:
    return len(runs).to_bytes(4, "little") + runs
