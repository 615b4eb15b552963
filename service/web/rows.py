"""Tables as answers: models of their rows out of the stored schemas, pages, files."""

from __future__ import annotations

from collections.abc import Sequence
from types import GenericAlias
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, Field, create_model

from circuit_atlas.service.web.parameters import PageParameters
from circuit_atlas.service.web.responses import Body, plain, to_file
from circuit_atlas.storage_schema.columns import Column
from circuit_atlas.storage_schema.table import Table


class Rows(BaseModel):
    """Holds a page of a table; `rows` is what each kind of table adds."""

    total: int = Field(description="Rows that there are in all.")
    offset: int = Field(description="Rows left out before these.")
    limit: int = Field(description="Rows that this page may have.")
    complete: bool = Field(
        description="Whether everything that was asked for is stored, sound and within the limits."
    )
    note: str | None = Field(default=None, description="Why it is not complete.")


def row_model(
    name: str,
    sentence: str,
    columns: tuple[Column, ...],
    *,
    base: type[BaseModel] = BaseModel,
) -> type[BaseModel]:
    """Make the model of a row of a table: its columns with their sentences and units, and what
    `base` has."""
    fields: dict[str, Any] = {column.name: _field(column) for column in columns}
    return create_model(name, __base__=base, __doc__=sentence, **fields)


def rows_of(row: type[BaseModel], *, base: type[Rows] = Rows, **more: Any) -> type[Rows]:
    """Make the model of a page of such rows."""
    rows: Any = (GenericAlias(list, (row,)), Field(description="The rows."))
    made: type[Rows] = create_model(
        f"{row.__name__}s",
        __base__=base,
        __doc__=f"Holds a page of rows. {row.__doc__}",
        rows=rows,
        **more,
    )
    return made


def table_model(name: str, table: Table) -> type[Rows]:
    """Make the model of a page of a stored table."""
    return rows_of(row_model(name, table.sentence, table.columns))


def page(
    model: type[Rows],
    rows: Sequence[Any],
    *,
    total: int,
    offset: int = 0,
    limit: int | None,
    note: str | None = None,
    **more: Any,
) -> Rows:
    """Make a page of a table.

    Args:
        model: of the page.
        rows: of this page.
        total: rows in all.
        offset: rows left out before these.
        limit: rows that the page may have.
        note: why the table is not complete, or None where it is.
        **more: further fields of the page.
    """
    return model.model_validate(
        {
            "total": total,
            "offset": offset,
            "limit": limit,
            "complete": note is None,
            "note": note,
            "rows": rows,
            **more,
        }
    )


def page_or_file(
    table: pa.Table,
    model: type[Rows],
    query: PageParameters,
    *,
    name: str,
    note: str | None = None,
    **more: Any,
) -> Rows | Body:
    """Make the page or the file of a table that was asked for.

    Args:
        table: all rows.
        model: of the page.
        query: which rows, and in which form.
        name: of the file.
        note: why the table is not complete, or None where it is.
        **more: further fields of the page.
    """
    part = table.slice(query.offset, query.rows)
    if query.form != "json":
        return to_file(part, query.form, name=name)
    rows = [{key: plain(value) for key, value in row.items()} for row in part.to_pylist()]
    return page(
        model,
        rows,
        total=table.num_rows,
        offset=query.offset,
        limit=query.rows,
        note=note,
        **more,
    )


def _field(column: Column) -> Any:
    kind = _kind(column.type)
    text = column.sentence
    if column.unit:
        text += f" Unit: {column.unit}."
    if column.null is None:
        return (kind, Field(description=text))
    return (kind | None, Field(description=f"{text} Null: {column.null}"))


def _kind(type_: pa.DataType) -> Any:
    if pa.types.is_boolean(type_):
        return bool
    if pa.types.is_integer(type_):
        return int
    return float if pa.types.is_floating(type_) else str
