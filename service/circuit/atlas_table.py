"""A table as people look at it: an Arrow table that shows itself, with the units of its columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from circuit_atlas.service.circuit.display import cell
from circuit_atlas.service.circuit.saved_file import path_of, write_whole
from circuit_atlas.service.circuit.table_file import ENDINGS, table_file
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.wording import listed

if TYPE_CHECKING:
    import pandas as pd

_ROWS = 20
_NO_UNIT = ("", "1")
_ORDERS = ("ascending", "descending")


class AtlasTable:
    """Is a table that shows itself in a notebook, the unit of each column under its name.

    It is read as any Arrow table is, by whatever takes one: `pyarrow.table(table)`, polars, DuckDB.

    Attributes:
        schema: names and types of the columns; a field's metadata has sentence and unit where the
            column is one of the store's.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @property
    def schema(self) -> pa.Schema:
        """Return the Arrow schema."""
        return self._table.schema

    @property
    def column_names(self) -> list[str]:
        """Return the names of the columns, in order."""
        names: list[str] = self._table.column_names
        return names

    @property
    def num_rows(self) -> int:
        """Count the rows."""
        return int(self._table.num_rows)

    def __len__(self) -> int:
        """How many rows."""
        return self.num_rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Give the rows, each by the names of its columns."""
        return iter(self.to_pylist())

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        """Return a column; QueryError, with the names there are, where there is none such."""
        if not isinstance(name, str) or name not in self._table.column_names:
            known = listed(self._table.column_names)
            raise QueryError(f"the table has no column {name!r}: its columns are {known}")
        return self._table[name]

    def __eq__(self, other: object) -> bool:
        """Whether the other has the same columns and rows."""
        if not isinstance(other, AtlasTable):
            return NotImplemented
        return bool(self._table.equals(other._table))

    __hash__ = None  # type: ignore[assignment]

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Hand the rows to whatever reads Arrow."""
        return self._table.__arrow_c_stream__(requested_schema)

    def select(self, names: Sequence[str]) -> AtlasTable:
        """Take some columns, in the order given; QueryError where one is not there."""
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise QueryError(f"{names!r} is no list of columns: give [{names!r}]")
        chosen = list(names)
        for name in chosen:
            self[name]
        return AtlasTable(self._table.select(chosen))

    def filter(self, mask: Any) -> AtlasTable:
        """Take the rows that a mask, as of `pyarrow.compute.equal`, or an expression says;
        QueryError where it is no mask of these rows."""
        try:
            return AtlasTable(self._table.filter(mask))
        except (pa.ArrowException, TypeError, ValueError):
            raise QueryError(
                f"a {type(mask).__name__} is no mask of the table's {len(self):,} rows: give a "
                "bool for each, such as pyarrow.compute.equal(table['unit'], 3)"
            ) from None

    def sort_by(self, sorting: str | list[tuple[str, str]]) -> AtlasTable:
        """Sort by a column, or by several: `[("pearson", "descending"), ("unit", "ascending")]`;
        QueryError where one is not there."""
        try:
            pairs = [(sorting, _ORDERS[0])] if isinstance(sorting, str) else sorting
            keys = [(name, order) for name, order in pairs]
        except (TypeError, ValueError):
            raise QueryError(
                f"the table cannot be sorted by {sorting!r}: give a column, or pairs of column and "
                f"order, such as [('unit', {_ORDERS[1]!r})]"
            ) from None
        for name, order in keys:
            self[name]
            if order not in _ORDERS:
                raise QueryError(f"{order!r} is no order: give {listed(_ORDERS, last='or')}")
        return AtlasTable(self._table.sort_by(keys))

    def slice(self, offset: int = 0, length: int | None = None) -> AtlasTable:
        """Take some rows, from `offset` on; QueryError where either is no number of rows."""
        try:
            return AtlasTable(self._table.slice(offset, length))
        except (pa.ArrowException, TypeError, ValueError, IndexError, OverflowError):
            raise QueryError(
                f"offset={offset!r} and length={length!r} are no part of the table's {len(self):,} "
                "rows: give whole numbers from 0 up"
            ) from None

    def to_arrow(self) -> pa.Table:
        """Return the Arrow table, which is not copied."""
        return self._table

    def to_pandas(self) -> pd.DataFrame:
        """Copy it into a pandas data frame; QueryError where pandas is not installed."""
        try:
            return self._table.to_pandas()
        except ModuleNotFoundError:
            raise QueryError(
                "a data frame needs the package 'pandas', which is not installed: "
                "python -m pip install pandas"
            ) from None

    def to_pylist(self) -> list[dict[str, Any]]:
        """Copy it into a list of rows, each by the names of its columns."""
        rows: list[dict[str, Any]] = self._table.to_pylist()
        return rows

    def to_pydict(self) -> dict[str, list[Any]]:
        """Copy it into a list a column, by name."""
        columns: dict[str, list[Any]] = self._table.to_pydict()
        return columns

    def save(self, path: str | Path) -> Path:
        """Write a file, whole or not at all: `.csv`, with lists as JSON, or `.parquet`.

        Returns:
            The path, `~` put in full.

        Raises:
            QueryError: another ending, or no path at all.
            WriteError: it cannot be written.
        """
        target = path_of(path)
        if target.suffix.lower() not in ENDINGS:
            raise QueryError(
                f"{target.name!r} is no kind of file that a table is saved as: end its name with "
                + listed(ENDINGS, last="or")
            )
        write_whole(target, table_file(self._table, target.suffix.lower()))
        return target

    def __repr__(self) -> str:
        names = listed(self.column_names) if self.column_names else "none"
        return f"<AtlasTable of {len(self):,} rows: {names}>"

    def _repr_html_(self) -> str:
        return html_table(self._table)


def html_table(table: pa.Table, *, caption: str | None = None) -> str:
    """Show a table as HTML: the first rows, and how many more there are. A column's unit stands
    under its name, and what it means is told where one points at it."""
    head = "".join(_head(field) for field in table.schema)
    body = "".join(
        "<tr>" + "".join(_cell(value) for value in row.values()) + "</tr>"
        for row in table.slice(0, _ROWS).to_pylist()
    )
    more = table.num_rows - _ROWS
    foot = f"<div>and {more:,} more rows</div>" if more > 0 else ""
    title = (
        ""
        if caption is None
        else f'<caption style="text-align:left;white-space:nowrap">{escape(caption)}</caption>'
    )
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}"


def _head(field: pa.Field) -> str:
    known = {key.decode(): text.decode() for key, text in (field.metadata or {}).items()}
    unit, sentence = known.get("unit", ""), known.get("sentence", "")
    title = f' title="{escape(sentence)}"' if sentence else ""
    shown = "" if unit in _NO_UNIT else f"<br><small>{escape(unit)}</small>"
    return f"<th{title}>{escape(field.name)}{shown}</th>"


def _cell(value: object) -> str:
    side = "left" if isinstance(value, str) else "right"
    return f'<td style="text-align:{side}">{escape(cell(value))}</td>'
