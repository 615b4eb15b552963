"""The label column of a Parquet file, found by what the file says of it or by its name."""

from __future__ import annotations

import json

import pyarrow as pa

from circuit_atlas.jobs.images.parquet_file import ParquetFile
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.wording import nearest

_LABEL_COLUMNS = ("label", "class", "class_name", "target", "labels", "fine_label")
# What Hugging Face's `datasets` writes where a row has no class.
_NO_LABEL = -1


def read_labels(file: ParquetFile, column: str | None, name: str) -> list[str | None]:
    """Reads the label column as text, or gives None a row where there is none.

    Numbers become class names where the file's metadata has them; -1 and null are no label.

    Args:
        file: the file, open.
        column: the column; None finds it. Of the columns that the metadata calls ClassLabel, the
            one of a usual name is taken, else the one of most classes; where there are none, a
            column of a usual name.
        name: the file's, for messages.

    Raises:
        ImageError: there is no such column, or it holds no single value a row.
    """
    schema = file.schema
    classes = _class_labels(schema)
    usable = [field.name for field in schema if _holds_a_label(field.type)]
    if column is None:
        known = [name for name in _LABEL_COLUMNS if name in usable]
        named = sorted((n for n in classes if n in usable), key=lambda n: -len(classes[n]))
        chosen = [name for name in known if name in classes] + named + known
        if not chosen:
            return [None] * sum(file.group_rows)
        column = chosen[0]
    elif column not in usable:
        raise ImageError(
            f"images.labels {column!r} is no column of {name!r} with a text or a whole number "
            f"a row: {nearest(column, usable, what='such columns')}"
        )
    values = file.read(column).to_pylist()
    return [_text(value, classes.get(column, [])) for value in values]


def _text(value: object, classes: list[str]) -> str | None:
    # pandas turns a column of whole numbers with gaps into floating ones.
    if isinstance(value, float) and value.is_integer() and classes:
        value = int(value)
    if value is None or value == _NO_LABEL or value != value:
        return None
    if type(value) is int and 0 <= value < len(classes):
        return classes[value]
    return str(value)


def _holds_a_label(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        holds(kind)
        for holds in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_integer,
            pa.types.is_floating,
            pa.types.is_boolean,
        )
    )


def _class_labels(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of each column of class numbers, as Hugging Face's `datasets` writes them."""
    try:
        written = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        columns = written.items()
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    return {
        column: [str(name) for name in feature["names"]]
        for column, feature in columns
        if isinstance(feature, dict) and isinstance(feature.get("names"), list)
    }
