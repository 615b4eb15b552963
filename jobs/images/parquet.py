"""Images in a Parquet file: a column of encoded bytes, or of `{bytes, path}` as datasets of
Hugging Face have it, perhaps with a name and a label column beside it."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from circuit_atlas.jobs.images.entry import Entry
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.wording import nearest, one_line

PARQUET_SUFFIXES = (".parquet", ".pq")
_IMAGE_COLUMNS = ("image", "bytes", "img", "picture", "image_bytes")
_NAME_COLUMNS = ("name", "file_name", "filename", "path", "id", "key")
_LABEL_COLUMNS = ("label", "class", "class_name", "target")

_GROUPS_LIMIT_BYTES = 256 << 20


def read_parquet(path: Path, *, column: str | None) -> list[Entry]:
    """Lists one entry a row, in the file's order.

    An image is named by its path in the file or the file's name column, else by its row; a name
    that comes again gets `#2`, `#3` ... behind it. Raises ImageError where the file can't be read
    or no column holds images.

    Args:
        path: the file.
        column: the column with the images; None to find it by name or by type.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            images = _image_column(schema, column, path)
            names = _names(file, schema, images)
            labels = _labels(file, schema)
            groups = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
    except (OSError, pa.ArrowException) as error:
        raise ImageError(
            f"the images in {str(path)!r} cannot be read: {one_line(error)}"
        ) from error
    rows = _Rows(path, _leaf(schema, images), groups)
    return [
        Entry(name, label, row, partial(rows.read, row))
        for row, (name, label) in enumerate(zip(_distinct(names), labels, strict=True))
    ]


class _Rows:
    """Reads single images; keeps the row groups used last, up to 256 MiB and at least one."""

    def __init__(self, path: Path, leaf: str, groups: list[int]) -> None:
        self._path, self._leaf = path, leaf
        self._starts = [sum(groups[:g]) for g in range(len(groups))]
        self._groups: OrderedDict[int, pa.ChunkedArray[Any]] = OrderedDict()

    def read(self, row: int) -> bytes:
        """Reads the bytes of a row, empty where it has none."""
        group = max(g for g, start in enumerate(self._starts) if start <= row)
        value = self._group(group)[row - self._starts[group]].as_py()
        return value if isinstance(value, bytes) else b""

    def _group(self, group: int) -> pa.ChunkedArray[Any]:
        if group not in self._groups:
            try:
                with pq.ParquetFile(self._path) as file:
                    column = file.read_row_group(
                        group, columns=[self._leaf], use_threads=False
                    ).column(0)
            except pa.ArrowException as error:
                raise OSError(one_line(error)) from error
            if pa.types.is_struct(column.type):
                column = pc.struct_field(column, "bytes")
            self._groups[group] = column
            while len(self._groups) > 1 and self._size_bytes() > _GROUPS_LIMIT_BYTES:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        return self._groups[group]

    def _size_bytes(self) -> int:
        return sum(int(column.nbytes) for column in self._groups.values())


def _image_column(schema: pa.Schema, column: str | None, path: Path) -> str:
    holders = [field.name for field in schema if _holds_bytes(field.type)]
    if column is not None:
        if column in holders:
            return column
        if column in schema.names:
            raise ImageError(
                f"images.column {column!r} of {path.name!r} holds {schema.field(column).type}, "
                f"no bytes: {nearest(column, holders, what='columns with bytes')}"
            )
        raise ImageError(
            f"no column {column!r} in {path.name!r}: "
            f"{nearest(column, schema.names, what='columns')}"
        )
    known = [name for name in _IMAGE_COLUMNS if name in holders]
    if known or len(holders) == 1:
        return (known or holders)[0]
    which = nearest(
        "", holders or schema.names, what="columns with bytes" if holders else "columns"
    )
    raise ImageError(f"{path.name!r} has no single column of images ({which}): set images.column")


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _leaf(schema: pa.Schema, images: str) -> str:
    return f"{images}.bytes" if pa.types.is_struct(schema.field(images).type) else images


def _column(file: pq.ParquetFile, name: str) -> list[Any]:
    """One column as Python values."""
    values: list[Any] = file.read(columns=[name], use_threads=False).column(0).to_pylist()
    return values


def _names(file: pq.ParquetFile, schema: pa.Schema, images: str) -> list[str]:
    rows = file.metadata.num_rows
    columns = []
    kind = schema.field(images).type
    if pa.types.is_struct(kind) and any(field.name == "path" for field in kind):
        structs = _column(file, f"{images}.path")
        columns.append([value and value["path"] for value in structs])
    columns += [
        _column(file, name) for name in _NAME_COLUMNS if name in schema.names and name != images
    ]
    numbers = [f"row-{row:0{len(str(max(rows - 1, 0)))}d}" for row in range(rows)]
    named = next(
        (column for column in columns if all(isinstance(v, str) and v for v in column)), None
    )
    return numbers if named is None else [str(name) for name in named]


def _labels(file: pq.ParquetFile, schema: pa.Schema) -> list[str | None]:
    """The label column as text; numbers become class names where the file's metadata has them."""
    name = next((name for name in _LABEL_COLUMNS if name in schema.names), None)
    if name is None:
        return [None] * file.metadata.num_rows
    classes = _class_names(schema, name)
    values = _column(file, name)
    return [
        None
        if value is None
        else classes[value]
        if isinstance(value, int) and 0 <= value < len(classes)
        else str(value)
        for value in values
    ]


def _class_names(schema: pa.Schema, column: str) -> list[str]:
    """What Hugging Face's `datasets` writes beside a column of class numbers, if it wrote it."""
    try:
        written = json.loads((schema.metadata or {})[b"huggingface"])
        names = written["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _distinct(names: Iterable[str]) -> list[str]:
    names = list(names)
    taken = set(names)
    seen: set[str] = set()
    distinct = []
    for name in names:
        unlike, again = name, 1
        while unlike in seen or (again > 1 and unlike in taken):
            again += 1
            unlike = f"{name}#{again}"
        seen.add(unlike)
        distinct.append(unlike)
    return distinct
