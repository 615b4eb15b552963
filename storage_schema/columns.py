"""A column: declared once, with what it is called, what it means and how it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa


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
    """

    name: str
    type: pa.DataType
    unit: str
    title: str
    sentence: str
    null: str | None = None
    stored_as: str | None = None

    @property
    def stored_name(self) -> str:
        """Return the name of the column in the stored file, and of the record's field."""
        return self.stored_as or self.name

    def field(self, name: str | None = None) -> pa.Field:
        """Return the Arrow field, under the public name unless another is given.

        Its metadata carries sentence and unit.
        """
        return pa.field(
            name or self.name,
            self.type,
            nullable=self.null is not None,
            metadata={"sentence": self.sentence, "unit": self.unit},
        )


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """Return the Arrow schema of some columns under their public names."""
    return pa.schema([column.field() for column in columns])


UNIT = Column("unit", pa.int32(), "", "Unit", "Number of the unit.")
"""The column that stands first where a table is over the units of a layer."""
