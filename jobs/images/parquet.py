"""Images in Parquet files: a column of encoded bytes, or of `{bytes, path}` as datasets of
Hugging Face have it, perhaps with a name and a label column beside it."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain
from typing import Any

import pyarrow as pa

from circuit_atlas.jobs.images.distinct import distinct
from circuit_atlas.jobs.images.entry import Entry, Listing
from circuit_atlas.jobs.images.named_files import SourceFile, from_each, still_there
from circuit_atlas.jobs.images.parquet_file import ParquetFile, opened
from circuit_atlas.jobs.images.parquet_labels import read_labels
from circuit_atlas.jobs.spec.images import ImagesSpec
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.wording import nearest, one_line

PARQUET_SUFFIXES = (".parquet", ".pq")
_IMAGE_COLUMNS = ("image", "bytes", "img", "picture", "image_bytes")
_NAME_COLUMNS = ("name", "file_name", "filename", "path", "id", "key")

_GROUPS_LIMIT_BYTES = 256 << 20


@dataclass(frozen=True)
class _Shard:
    """One file as it was listed.

    Attributes:
        file: the file.
        column: the column of images.
        names: the images' names, where the file has a name for each.
        labels: their classes, where known.
        groups: rows of each row group.
    """

    file: SourceFile
    column: str
    names: list[str] | None
    labels: list[str | None]
    groups: list[int]


def read_parquet(files: Sequence[SourceFile], spec: ImagesSpec) -> Listing:
    """Lists one entry a row, file by file in the file's order.

    An image is named by its path in the file or the file's name column, else by its row; a name
    that comes again gets `#2`, `#3` ... behind it. Raises ImageError where a file can't be read
    or no column holds images.

    Args:
        files: the files.
        spec: its `column`, `ids` and `labels` name the columns with the images, their names and
            their classes; None to find each by name or by type.
    """
    shards = from_each(partial(_listed, spec=spec), files)
    labels = list(chain.from_iterable(shard.labels for shard in shards))
    named = [shard.names for shard in shards if shard.names is not None]
    digits = len(str(max(len(labels) - 1, 0)))
    names = (
        list(chain.from_iterable(named))
        if len(named) == len(shards)
        else [f"row-{row:0{digits}d}" for row in range(len(labels))]
    )
    entries = [
        Entry(name, label, row)
        for row, (name, label) in enumerate(zip(distinct(names), labels, strict=True))
    ]
    groups = [
        _Group(shard.file, shard.column, number, rows)
        for shard in shards
        for number, rows in enumerate(shard.groups)
    ]
    return Listing(entries, _Rows(groups))


def _listed(source: SourceFile, spec: ImagesSpec) -> _Shard:
    try:
        with opened(source) as file:
            schema = file.schema
            images = _image_column(schema, spec.column, source.name)
            return _Shard(
                source,
                images,
                _names(file, schema, images, spec.ids),
                read_labels(file, spec.labels, source.name),
                file.group_rows,
            )
    except (OSError, pa.ArrowException) as error:
        raise ImageError(
            f"the images in {str(source)!r} cannot be read: {one_line(error)}"
        ) from error


@dataclass(frozen=True)
class _Group:
    """One row group of images.

    Attributes:
        file: the file.
        column: the column of images.
        number: of the group, in the file.
        rows: how many it has.
    """

    file: SourceFile
    column: str
    number: int
    rows: int


class _Rows:
    """Reads single images; keeps the row groups used last, up to 256 MiB and at least one."""

    def __init__(self, groups: Sequence[_Group]) -> None:
        self._groups = tuple(groups)
        self._starts = [0, *accumulate(group.rows for group in groups)]
        self._read: OrderedDict[int, pa.ChunkedArray[Any]] = OrderedDict()

    def __reduce__(self) -> tuple[type[_Rows], tuple[tuple[_Group, ...]]]:
        return _Rows, (self._groups,)

    def __call__(self, entry: Entry) -> bytes:
        """Reads the bytes of a row, empty where it has none.

        Raises OSError where the row only says where its image lies.
        """
        group = bisect_right(self._starts, entry.row) - 1
        value = self._column(group)[entry.row - self._starts[group]].as_py()
        if isinstance(value, dict):
            path, value = value.get("path"), value["bytes"]
            if value is None and path:
                raise OSError(
                    f"the image is not embedded in the file, which only names {path!r}: write its "
                    "bytes too, or give the folder of images"
                )
        return value if isinstance(value, bytes) else b""

    def _column(self, number: int) -> pa.ChunkedArray[Any]:
        if number not in self._read:
            group = self._groups[number]
            try:
                with still_there(group.file), opened(group.file) as file:
                    read = file.read(group.column, groups=[group.number])
            except pa.ArrowException as error:
                raise OSError(one_line(error)) from error
            self._read[number] = read
            while len(self._read) > 1 and self._size_bytes() > _GROUPS_LIMIT_BYTES:
                self._read.popitem(last=False)
        self._read.move_to_end(number)
        return self._read[number]

    def _size_bytes(self) -> int:
        return sum(int(column.nbytes) for column in self._read.values())


def _image_column(schema: pa.Schema, column: str | None, name: str) -> str:
    holders = [field.name for field in schema if _holds_bytes(field.type)]
    if column is not None:
        if column in holders:
            return column
        if column in schema.names:
            raise ImageError(
                f"images.column {column!r} of {name!r} holds {schema.field(column).type}, "
                f"no bytes: {nearest(column, holders, what='columns with bytes')}"
            )
        raise ImageError(
            f"no column {column!r} in {name!r}: {nearest(column, schema.names, what='columns')}"
        )
    known = [usual for usual in _IMAGE_COLUMNS if usual in holders]
    if known or len(holders) == 1:
        return (known or holders)[0]
    named = next((usual for usual in _IMAGE_COLUMNS if usual in schema.names), None)
    if named is not None and not holders:
        raise ImageError(
            f"column {named!r} of {name!r} holds {schema.field(named).type} and no bytes: the "
            "images are not embedded in the file; write their bytes, or give the folder of images"
        )
    which = nearest(
        "", holders or schema.names, what="columns with bytes" if holders else "columns"
    )
    raise ImageError(f"{name!r} has no single column of images ({which}): set images.column")


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        # Where no image is embedded, the bytes have no type.
        return any(
            field.name == "bytes" and (_holds_bytes(field.type) or pa.types.is_null(field.type))
            for field in kind
        )
    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _names(
    file: ParquetFile, schema: pa.Schema, images: str, column: str | None
) -> list[str] | None:
    """The column named, as text; else the first with a text for every row, the struct's own path
    before all."""
    if column is not None:
        if column not in schema.names or column == images:
            known = nearest(column, schema.names, what="columns")
            raise ImageError(f"images.ids {column!r} is no column of names: {known}")
        return [str(value) for value in _column(file, column)]
    columns = []
    kind = schema.field(images).type
    if pa.types.is_struct(kind) and any(field.name == "path" for field in kind):
        structs = _column(file, f"{images}.path")
        columns.append([value and value["path"] for value in structs])
    columns += [
        _column(file, name) for name in _NAME_COLUMNS if name in schema.names and name != images
    ]
    return next(
        (column for column in columns if all(isinstance(v, str) and v for v in column)), None
    )


def _column(file: ParquetFile, name: str) -> list[Any]:
    """One column as Python values."""
    values: list[Any] = file.read(name).to_pylist()
    return values
