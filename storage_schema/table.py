"""A Parquet table, column by column, as data: its schema, and how it is written and read.

Some tables and columns are stored under an older name than they are read by: `Table.stored_as` and
`Column.stored_as`. Whoever writes deals in stored names, whoever reads in public ones, and
`Table.public` stands between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from circuit_atlas.storage_schema.columns import Column, schema_of
from circuit_atlas.storage_schema.parquet_rows import read_rows
from circuit_atlas.storage_schema.table_values import fault_of_rows, fault_of_values
from circuit_atlas.storage_schema.wording import REPAIR


@dataclass(frozen=True)
class Table:
    """Declares one kind of table: a Parquet file of these columns, in this order.

    Attributes:
        name: what readers, SQL and HTTP call it.
        sentence: what its rows are.
        columns: in the file's order.
        stored_as: the file's name without its ending, where that is another one.
        once: public names of columns whose values come once together in the file; a row with a null
            among them counts in none.
        ascending: name of the column by which rows ascend.
        numbered: name of the column that numbers the rows from 0.
    """

    name: str
    sentence: str
    columns: tuple[Column, ...]
    stored_as: str | None = None
    once: tuple[tuple[str, ...], ...] = ()
    ascending: str | None = None
    numbered: str | None = None

    @property
    def stored_name(self) -> str:
        """Return the stored file's name without its ending."""
        return self.stored_as or self.name

    @property
    def schema(self) -> pa.Schema:
        """Return the Arrow schema that readers see."""
        return schema_of(self.columns)

    @cached_property
    def stored_schema(self) -> pa.Schema:
        """Return the Arrow schema of the stored file."""
        return pa.schema([column.field(column.stored_name) for column in self.columns])

    def table(self, rows: Sequence[object]) -> pa.Table:
        """Make a table to store of rows whose attributes are the stored columns.

        Raises:
            ValueError: a null where the column has none, or a value of another type.
        """
        names = [column.stored_name for column in self.columns]
        return self.from_columns({name: [getattr(row, name) for row in rows] for name in names})

    def from_columns(self, columns: Mapping[str, Sequence[object] | NDArray[Any]]) -> pa.Table:
        """Make a table to store of columns by stored name; ValueError as in `table`, KeyError where
        one is missing."""
        arrays = []
        for column in self.columns:
            values = columns[column.stored_name]
            try:
                array = pa.array(values, type=column.type)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise ValueError(f"{self.name}.{column.name}: {error}") from error
            if column.null is None and array.null_count:
                raise ValueError(f"{self.name}.{column.name}: a null, and the column has none")
            arrays.append(array)
        return pa.Table.from_arrays(arrays, schema=self.stored_schema)

    def to_parquet(self, table: pa.Table) -> bytes:
        """Write the Parquet file of a table to store; ValueError where its schema is another."""
        if not table.schema.equals(self.stored_schema):
            raise ValueError(f"{self.name}: not this table's columns, but {table.schema.names}")
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        return bytes(sink.getvalue())

    def from_parquet(
        self,
        data: bytes,
        *,
        location: str,
        columns: Sequence[str] | None = None,
        digest: str | None = None,
    ) -> pa.Table:
        """Read a stored file's columns, all or some, under the names that it has; `public` renames
        them.

        `digest`: SHA-256 of the file, where it was worked out: what it holds is then looked at once
        in a process.

        CorruptError where it can't be read, holds what no such table does, or takes more memory
        than `parquet_rows` allows.
        """
        return read_rows(
            data,
            self.stored_schema,
            what=self.name,
            location=location,
            remedy=REPAIR,
            columns=columns,
            fault=self.fault,
            digests=() if digest is None else (digest,),
        )

    def fault(self, rows: pa.Table) -> str | None:
        """Say what stored rows, all columns or some, hold that none of the table may; None where
        all is well."""
        return fault_of_values(rows, self.columns) or fault_of_rows(
            rows,
            once=[self.stored_names(names) for names in self.once],
            ascending=self.ascending,
            numbered=self.numbered,
        )

    def public(self, table: pa.Table) -> pa.Table:
        """Rename a stored table's columns as readers know them; other columns stay as they are."""
        public = {column.stored_name: column for column in self.columns}
        fields = [
            field if field.name not in public else public[field.name].field()
            for field in table.schema
        ]
        return pa.Table.from_arrays(table.columns, schema=pa.schema(fields))

    def stored_names(self, columns: Sequence[str]) -> list[str]:
        """Return the stored names of public ones; KeyError where there is none."""
        stored = {column.name: column.stored_name for column in self.columns}
        return [stored[name] for name in columns]
