"""What a table's rows may hold beside values of the right types: looked at once, as they are read.

Readers index by what stands in a column, and look rows up by it. So numbers are held against the
bounds of their column, and rows against what the table says of their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.storage_schema.columns import Column

_SHOWN = 60


def fault_of_values(rows: pa.Table, columns: Sequence[Column]) -> str | None:
    """Say which value is none that its column may have; None where all are.

    Args:
        rows: under stored names.
        columns: what is declared of them; those that the rows lack are passed over.
    """
    known = dict(zip(rows.column_names, rows.columns, strict=True))
    for column in columns:
        if column.stored_name in known:
            value = _outside(_flat(known[column.stored_name]), column)
            if value is not None:
                allowed = column.allowed or "finite"
                return f"`{column.stored_name}` holds {str(value)[:_SHOWN]!r}: allowed is {allowed}"
    return None


def fault_of_rows(
    rows: pa.Table,
    *,
    once: Sequence[Sequence[str]],
    ascending: str | None,
    numbered: str | None,
) -> str | None:
    """Say what is wrong with the order of rows; None where nothing is.

    Columns that the rows lack are passed over, with what is said of them.

    Args:
        rows: under stored names.
        once: columns whose values come once together. A row with a null among them counts in none.
        ascending: the column by which rows ascend, equal ones allowed.
        numbered: the column that numbers the rows from 0.
    """
    known = set(rows.column_names)
    for names in once:
        if known.issuperset(names) and _repeats(rows.select(list(names))):
            return f"two rows have the same {_listed(names)}"
    if (
        ascending is not None
        and ascending in known
        and (np.diff(_numbers(rows, ascending)) < 0).any()
    ):
        return f"its rows do not ascend by `{ascending}`"
    if (
        numbered is not None
        and numbered in known
        and (_numbers(rows, numbered) != np.arange(rows.num_rows)).any()
    ):
        return f"`{numbered}` does not number its rows from 0"
    return None


def _flat(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.list_flatten(values) if pa.types.is_list(values.type) else values


def _outside(values: pa.ChunkedArray, column: Column) -> Any:
    """A value that the column may not have; None where there is none."""
    if pa.types.is_floating(values.type) and column.finite:
        finite = pc.is_finite(values)
        if not pc.all(finite, min_count=0).as_py():
            return values.filter(pc.invert(finite))[0].as_py()
    if column.least is not None or column.most is not None:
        ends = pc.min_max(values).as_py()
        if ends["min"] is None:
            return None
        if column.least is not None and ends["min"] < column.least:
            return ends["min"]
        if column.most is not None and ends["max"] > column.most:
            return ends["max"]
    if column.among:
        texts = pc.unique(values).to_pylist()
        return next((t for t in texts if t is not None and t not in column.among), None)
    return None


def _repeats(rows: pa.Table) -> bool:
    """Whether two rows are the same, those with a null aside."""
    rows = rows.drop_null()
    codes = np.zeros(rows.num_rows, np.int64)
    for column in rows.columns:
        encoded = pc.dictionary_encode(column.combine_chunks())
        numbers = codes * len(encoded.dictionary) + encoded.indices.to_numpy()
        codes = np.unique(numbers, return_inverse=True)[1]
    return bool(codes.max(initial=-1) + 1 < len(codes))


def _numbers(rows: pa.Table, name: str) -> np.ndarray[Any, np.dtype[Any]]:
    numbers: np.ndarray[Any, np.dtype[Any]] = rows[name].to_numpy()
    return numbers


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
