"""The units of a layer as the API lists them: their table, filters, sorting, rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.service.analysis.facts import LayerFacts
from circuit_atlas.service.analysis.query import CircuitQuery, stored_fraction
from circuit_atlas.service.analysis.summary import unit_table
from circuit_atlas.service.web.layer_snapshot import LayerSnapshot
from circuit_atlas.service.web.server_state import ServerState
from circuit_atlas.storage_schema.columns import Column, schema_of
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.layer_columns import (
    FEATURE,
    IMAGE_NAMES,
    OF_CIRCUIT,
    UNIT_FACTS,
    r_columns,
)
from circuit_atlas.storage_schema.wording import nearest

BOX = ("box_top", "box_left", "box_bottom", "box_right")
POSITION = ("position_y", "position_x")
LISTED: tuple[Column, ...] = (*UNIT_FACTS, *OF_CIRCUIT, *IMAGE_NAMES, FEATURE)
"""What is told of each unit besides r."""


def circuit_query(
    server: ServerState,
    criterion: str | None,
    ablation: str | None,
    split: str | None,
    threshold: float,
    at: float | None = None,
) -> CircuitQuery:
    """What a question means by its words; QueryError, with the nearest names, for unknown ones.

    `at`: a stored fraction. Default: the nearest to a tenth.
    """
    reader = server.atlas.reader
    return CircuitQuery.of(
        reader,
        criterion=criterion,
        ablation=ablation,
        split=split,
        threshold=threshold,
        fraction=stored_fraction(reader, at, what="at"),
    )


def columns(server: ServerState) -> tuple[Column, ...]:
    """The columns that units can be sorted and filtered by."""
    return (*LISTED, *r_columns(server.atlas.header.fractions))


def kind(column: Column) -> Literal["number", "text", "state"]:
    """How a column is filtered: by bounds, by what its text holds, or by states."""
    if column.name == "state":
        return "state"
    return "text" if pa.types.is_string(column.type) else "number"


def listed_units(
    server: ServerState,
    snapshot: LayerSnapshot,
    facts: LayerFacts,
    query: CircuitQuery,
) -> pa.Table:
    """Units of a layer that were asked for or are stored, ascending, with all `columns`."""
    table = unit_table(facts, snapshot, query)
    images = server.images.table
    row = pc.index_in(table["image"], images["id"].combine_chunks())
    index = server.features
    features = [index.first(snapshot.index.layer, unit) for unit in table["unit"].to_pylist()]
    more = {
        "image_name": images["name"].take(row),
        "label": images["label"].take(row),
        FEATURE.name: pa.array(features, pa.string()),
    }
    schema = schema_of(columns(server))
    arrays = [more[name] if name in more else table[name] for name in schema.names]
    return pa.table(arrays, schema=schema)


def filtered(
    table: pa.Table,
    known: Sequence[Column],
    *,
    states: Sequence[str],
    texts: Sequence[tuple[str, str]],
    bounds: Sequence[tuple[str, str, float]],
) -> pa.Table:
    """The rows that pass all filters.

    Args:
        table: all rows.
        known: its columns.
        states: only these, or all where empty.
        texts: the column, and what its text has to hold, in capitals or not.
        bounds: `min` or `max`, the column, and the value.

    Raises:
        QueryError: a column that is not there, a bound of one that is no number, or words in one
            that is no text.
    """
    if states:
        table = table.filter(pc.is_in(table["state"], pa.array(states)))
    for name, text in texts:
        column = _column(known, name)
        if kind(column) != "text":
            raise QueryError(f"has.{name}: only texts are searched, and this is {kind(column)}")
        table = table.filter(pc.match_substring(table[name], text, ignore_case=True))
    for side, name, bound in bounds:
        column = _column(known, name)
        if kind(column) != "number":
            raise QueryError(f"{side}.{name}: only numbers have bounds, and this is {kind(column)}")
        within = pc.greater_equal if side == "min" else pc.less_equal
        table = table.filter(within(pc.cast(table[name], pa.float64()), bound))
    return table


def in_order(table: pa.Table, known: Sequence[Column], *, by: str, descending: bool) -> pa.Table:
    """Rows by a column, ties by number, those without a value last in both orders.

    QueryError where there is no such column.
    """
    _column(known, by)
    keys = [(by, "descending" if descending else "ascending")]
    if by != "unit":
        keys.append(("unit", "ascending"))
    return table.take(pc.sort_indices(table, sort_keys=keys))


def to_rows(table: pa.Table, fractions: Sequence[float]) -> list[dict[str, Any]]:
    """Rows as JSON has them: r a list, empty where there is none; box and position a list each."""
    rs = [column.name for column in r_columns(fractions)]
    rows = []
    for row in table.to_pylist():
        r = [row.pop(name) for name in rs]
        box, position = ([row.pop(name) for name in names] for names in (BOX, POSITION))
        known = row["state"] == "done" and row["error"] is None
        rows.append(
            {
                **row,
                "r": r if known else [],
                "box": None if None in box else box,
                "position": None if None in position else position,
            }
        )
    return rows


def _column(known: Sequence[Column], name: str) -> Column:
    for column in known:
        if column.name == name:
            return column
    names = [column.name for column in known]
    raise QueryError(f"units have no column {name!r}: {nearest(name, names, what='columns')}")
