"""One wrong value in a right table is an error of one line, whichever column it stands in."""

from __future__ import annotations

import math
import re
from random import Random

import pyarrow as pa
import pytest

from circuit_atlas.storage_schema import documents, parquet_rows, sealed
from circuit_atlas.storage_schema.columns import Column
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.image_table import IMAGES
from circuit_atlas.storage_schema.response_tables import DISTRIBUTIONS
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.unit_tables import FAITHFULNESS, FRAGMENTS, RESPONSES
from circuit_atlas.storage_schema.wording import REPAIR
from tests.fuzz.parquet import TABLES, rows_of

ROWS = 30


def wrong_values(column: Column) -> list[object]:
    """Values of the right type that a column may not have, one beyond each of its bounds."""
    numbers: list[object] = []
    kind = column.type.value_type if pa.types.is_list(column.type) else column.type
    whole = pa.types.is_integer(kind)
    if pa.types.is_floating(kind) and column.finite:
        numbers += [math.nan, math.inf, -math.inf]
    if column.least is not None:
        numbers.append(int(column.least) - 1 if whole else column.least - 1e-6)
    if column.most is not None:
        numbers.append(int(column.most) + 1 if whole else column.most + 1e-6)
    if column.among:
        numbers += ["", "none of these"]
    return [[value] if pa.types.is_list(column.type) else value for value in numbers]


CASES = [
    (table, number, value)
    for table in (*TABLES, sealed.of_layer(FAITHFULNESS))
    for number, column in enumerate(table.columns)
    for value in wrong_values(column)
]


def with_value(rows: pa.Table, number: int, value: object) -> pa.Table:
    """The rows with another value in one of them."""
    field = rows.schema.field(number)
    values = rows.column(number).to_pylist()
    values[ROWS // 2] = value
    return rows.set_column(number, field, pa.array(values, field.type))


def refusal(table: Table, rows: pa.Table) -> str:
    """What is said of a file."""
    with pytest.raises(CorruptError) as caught:
        table.from_parquet(table.to_parquet(rows), location="x.parquet")
    said = str(caught.value)
    assert "\n" not in said
    assert re.fullmatch(rf"x\.parquet is no table of ours: .+; {REPAIR}", said)
    return said


def right_rows(table: Table) -> pa.Table:
    return rows_of(table, Random(1), ROWS)


@pytest.mark.parametrize(
    ("table", "number", "value"),
    CASES,
    ids=[f"{t.name}.{t.columns[n].name}={v}" for t, n, v in CASES],
)
def test_a_value_out_of_range_is_refused(table: Table, number: int, value: object) -> None:
    name = table.columns[number].stored_name
    assert f"`{name}` holds" in refusal(table, with_value(right_rows(table), number, value))


def test_all_columns_of_numbers_have_bounds() -> None:
    """But for those of signed numbers, which are finite."""
    free = {
        f"{table.name}.{column.name}"
        for table in TABLES
        for column in table.columns
        if pa.types.is_integer(column.type) and column.least is None
    }
    assert free == set()


@pytest.mark.parametrize(
    "table",
    [table for table in TABLES if table.once],
    ids=[table.name for table in TABLES if table.once],
)
def test_a_row_that_comes_twice_is_refused(table: Table) -> None:
    rows = right_rows(table)
    twice = pa.concat_tables([rows, rows.filter(pa.array(_of_no_null(rows))).slice(0, 1)])
    assert "two rows have the same" in refusal(table, twice.combine_chunks())


def _of_no_null(rows: pa.Table) -> list[bool]:
    return [None not in row.values() for row in rows.to_pylist()]


@pytest.mark.parametrize("table", [DISTRIBUTIONS, sealed.COMMITS])
def test_rows_out_of_order_are_refused(table: Table) -> None:
    rows = right_rows(table)
    backwards = rows.take(pa.array(range(ROWS - 1, -1, -1)))
    assert "do not ascend by `unit`" in refusal(table, backwards)


def test_images_are_numbered() -> None:
    rows = right_rows(IMAGES)
    ids = pa.array([*range(ROWS - 1), ROWS], pa.int32())
    gap = rows.set_column(0, rows.schema.field(0), ids)
    assert "`id` does not number its rows" in refusal(IMAGES, gap)


def test_of_columns_that_are_asked_for_alone_the_others_do_not_count() -> None:
    number = [column.name for column in RESPONSES.columns].index("response")
    data = RESPONSES.to_parquet(with_value(right_rows(RESPONSES), number, math.nan))
    rows = RESPONSES.from_parquet(data, location="x", columns=["image", "rank"])
    assert rows.num_rows == ROWS


@pytest.mark.parametrize("table", FRAGMENTS, ids=[table.name for table in FRAGMENTS])
def test_what_passed_is_looked_at_once(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_rows, "_passed", parquet_rows._Passed())
    looked = []
    look = Table.fault
    monkeypatch.setattr(Table, "fault", lambda self, rows: looked.append(self) or look(self, rows))
    data = table.to_parquet(right_rows(table))
    digest = documents.sha256(data)
    first, second = (table.from_parquet(data, location="x", digest=digest) for _ in range(2))
    assert first.equals(second)
    assert len(looked) == 1
    table.from_parquet(data, location="x", digest=digest, columns=[first.column_names[0]])
    table.from_parquet(data, location="x")
    assert len(looked) == 3


def test_what_is_refused_is_refused_again() -> None:
    data = FAITHFULNESS.to_parquet(
        with_value(
            right_rows(FAITHFULNESS), FAITHFULNESS.schema.get_field_index("pearson"), math.inf
        )
    )
    for _ in range(2):
        with pytest.raises(CorruptError, match="`pearson` holds 'inf'"):
            FAITHFULNESS.from_parquet(data, location="x", digest=documents.sha256(data))
