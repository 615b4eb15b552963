"""The rows of single units: a small Parquet file a unit and table, named by its commit record."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from circuit_atlas.storage_schema.columns import UNIT
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.wording import REPAIR


def read(
    objects: Objects,
    commits: Sequence[Commit],
    table: Table,
    *,
    columns: Sequence[str] | None = None,
) -> list[pa.Table]:
    """Return the table of each unit under its stored names, all columns or some; empty where a dead
    unit has none.

    CorruptError where a fragment is missing, cut or altered.
    """
    named = [
        (index, stored)
        for index, commit in enumerate(commits)
        for stored in commit.objects
        if stored.path.endswith(f"/{table.stored_name}.parquet")
    ]
    empty = table.stored_schema.empty_table()
    rows = [empty if columns is None else empty.select(list(columns))] * len(commits)
    try:
        data = objects.get_many([stored.path for _, stored in named])
    except FileNotFoundError as error:
        raise CorruptError(f"{error}, and it is committed: {REPAIR}") from error
    for (index, stored), fragment in zip(named, data, strict=True):
        location = objects.at(stored.path)
        if sha256(fragment) != stored.sha256:
            raise CorruptError(f"{location} is cut or altered: {REPAIR}")
        rows[index] = table.from_parquet(
            fragment, location=location, columns=columns, digest=stored.sha256
        )
    return rows


def with_unit(rows: pa.Table, unit: int) -> pa.Table:
    """Return the rows of a unit with the unit's number as first column."""
    numbers = pa.array([unit] * len(rows), UNIT.type)
    return rows.add_column(0, UNIT.field(), numbers)
