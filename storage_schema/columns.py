"""A column: declared once, with what it is called, what it means and how it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

_SINCE = "since"


@dataclass(frozen=True)
class Column:
    """Declares one column of a table.

    Attributes:
        name: what readers, SQL, HTTP and files call it.
        type: of its values.
        unit: of its values, or nothing.
        title: what heads it on a page.
        sentence: what it means.
        null: what a null means, or None where there can be none.
        stored_as: its name in the stored file, where that is another one.
        since: the first schema version whose files have it; null in those before. Default: the
            first of all.
        least: no value is below it. Of a column of lists, as all that follow, each number in them.
        most: no value is above it.
        finite: whether no value is NaN or infinite.
        among: what its texts are, each one of these. Default: any text.
        numbers: what of the atlas it numbers, which has to be there.
    """

    name: str
    type: pa.DataType
    unit: str
    title: str
    sentence: str
    null: str | None = None
    stored_as: str | None = None
    since: int = 1
    least: float | None = None
    most: float | None = None
    finite: bool = True
    among: tuple[str, ...] = ()
    numbers: Literal["image", "sparsity level"] | None = None

    @property
    def allowed(self) -> str:
        """Say which values it may have, in words; empty where any of its type."""
        said = []
        if self.least is not None:
            said.append(f"{self.least:g} or more" if self.most is None else f"from {self.least:g}")
        if self.most is not None:
            said.append(f"to {self.most:g}" if said else f"up to {self.most:g}")
        if self.among:
            said.append(", ".join(self.among))
        if not said and not self.finite:
            return "NaN and infinite ones too"
        return " ".join(said)

    @property
    def stored_name(self) -> str:
        """Return the name of the column in the stored file, and of the record's field."""
        return self.stored_as or self.name

    def field(self, name: str | None = None) -> pa.Field:
        """Return the Arrow field, under the public name unless another is given.

        Its metadata carries sentence and unit.
        """
        metadata = {"sentence": self.sentence, "unit": self.unit}
        if self.since > 1:
            metadata[_SINCE] = str(self.since)
        return pa.field(
            name or self.name, self.type, nullable=self.null is not None, metadata=metadata
        )


def is_of(found: pa.Schema, schema: pa.Schema) -> bool:
    """Tell whether a file with the columns `found` is one of `schema`, or of an older one, which
    lacks columns that came later."""
    if found.equals(schema):
        return True
    older = [
        field
        for field in schema
        if field.name in found.names or _SINCE.encode() not in (field.metadata or {})
    ]
    return bool(found.equals(pa.schema(older)))


def completed(rows: pa.Table, fields: Sequence[pa.Field]) -> pa.Table:
    """Return the rows with exactly those columns, null where their file is older than a column."""
    if rows.column_names == [field.name for field in fields]:
        return pa.Table.from_arrays(rows.columns, schema=pa.schema(fields))
    arrays = [
        rows[field.name] if field.name in rows.column_names else pa.nulls(len(rows), field.type)
        for field in fields
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """Return the Arrow schema of some columns under their public names."""
    return pa.schema([column.field() for column in columns])


UNIT = Column("unit", pa.int32(), "", "Unit", "Number of the unit.", least=0)
"""The column that stands first where a table is over the units of a layer."""
