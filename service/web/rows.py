"""Tables as answers: models of their rows out of the stored schemas, pages, files."""

from __future__ import annotations

from collections.abc import Mapping
from types import GenericAlias
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, Field, create_model

from circuit_atlas.service.web.errors import BusyError
from circuit_atlas.service.web.questions import Paging
from circuit_atlas.service.web.responses import Rendered, plain, to_file, to_json
from circuit_atlas.storage_schema.tables import Column, Table


class Progress(BaseModel):
    """How far a list is that is made of the facts of many units."""

    read: int = Field(description="Units whose facts are read.")
    of: int = Field(description="Units that are stored. While fewer are read, ask again.")

    def why(self) -> str | None:
        """Why the list is not whole yet, or None where it is."""
        if self.read < self.of:
            return f"{self.read:,} of {self.of:,} units are read so far"
        return None

    def check(self, form: str) -> None:
        """BusyError for a file of what is not whole yet: nothing in a file could say so."""
        why = self.why()
        if form != "json" and why is not None:
            raise BusyError(f"{why}, and a file is of all of them: come back in a few seconds")


class Rows(BaseModel):
    """A page of a table; `rows` is what each kind of table adds."""

    total: int = Field(description="Rows that there are in all.")
    offset: int = Field(description="Rows left out before these.")
    limit: int = Field(description="Rows that this page may have.")
    complete: bool = Field(
        description="Whether everything that was asked for is stored, read and within the limits."
    )
    note: str | None = Field(default=None, description="Why it is not complete.")


def row_model(name: str, sentence: str, columns: tuple[Column, ...]) -> type[BaseModel]:
    """The model of a row of a stored table: its columns with their sentences and units."""
    fields: dict[str, Any] = {column.name: _field(column) for column in columns}
    return create_model(name, __doc__=sentence, **fields)


def rows_of(row: type[BaseModel], *, base: type[Rows] = Rows, **more: Any) -> type[Rows]:
    """The model of a page of such rows."""
    rows: Any = (GenericAlias(list, (row,)), Field(description="The rows."))
    made: type[Rows] = create_model(
        f"{row.__name__}s", __base__=base, __doc__=f"A page of: {row.__doc__}", rows=rows, **more
    )
    return made


def table_model(name: str, table: Table) -> type[Rows]:
    """The model of a page of a stored table."""
    return rows_of(row_model(name, table.sentence, table.columns))


def answer(
    table: pa.Table,
    model: type[Rows],
    paging: Paging,
    *,
    name: str,
    complete: bool = True,
    note: str | None = None,
    more: Mapping[str, object] | None = None,
) -> Rendered:
    """The page or the file of a table that was asked for.

    Args:
        table: all rows.
        model: of the page.
        paging: which rows, and in which form.
        name: of the file.
        complete: whether the table is all there is to come.
        note: why it is not.
        more: further fields of the page.
    """
    count = paging.rows
    part = table.slice(paging.offset, count)
    if paging.form != "json":
        return to_file(part, paging.form, name=name)
    rows = [{key: plain(value) for key, value in row.items()} for row in part.to_pylist()]
    return to_json(
        model.model_validate(
            {
                "total": table.num_rows,
                "offset": paging.offset,
                "limit": count,
                "complete": complete,
                "note": note,
                "rows": rows,
                **(more or {}),
            }
        )
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
