"""`python -m tests.benchmarks.table_checks`: what the checks of a unit's tables cost a read.

Processor time, medians of rounds in which each way of reading has its turn, in an order by chance:
without any check, as the first read of a process, and as every read after that.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import pyarrow as pa

from circuit_atlas.service import Atlas
from circuit_atlas.storage_schema import parquet_rows
from circuit_atlas.storage_schema.columns import completed
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.unit_tables import FRAGMENTS
from tests.service.conftest import write_atlas


@click.command()
@click.option("--rounds", default=400, show_default=True)
def main(rounds: int) -> None:
    """Measure, and print a row a table."""
    click.echo("| table | unchecked, ms | first | later | later / unchecked |")
    click.echo("| --- | --- | --- | --- | --- |")
    whole = [0.0, 0.0, 0.0]
    with tempfile.TemporaryDirectory() as folder:
        write_atlas(Path(folder, "atlas"))
        reader = Atlas.open(Path(folder, "atlas")).reader
        commit = reader.commit("conv3", 0)
        assert commit is not None
        for table in FRAGMENTS:
            (path,) = (
                o.path for o in commit.objects if o.path.endswith(f"/{table.stored_name}.parquet")
            )
            times = _times_ms(table, reader.objects.get(path), rounds)
            whole = [sum(pair) for pair in zip(whole, times, strict=True)]
            click.echo(_row(table.name, times))
    click.echo(_row("all", whole))


def _times_ms(table: Table, data: bytes, rounds: int) -> list[float]:
    digest = sha256(data)
    ways: list[Callable[[], object]] = [
        lambda: _unchecked(table, data),
        lambda: table.from_parquet(data, location="x"),
        lambda: table.from_parquet(data, location="x", digest=digest),
    ]
    ways[2]()
    order = random.Random(0)
    times_s: list[list[float]] = [[], [], []]
    for _ in range(rounds):
        # Whoever comes after the slowest finds the processor's caches cold.
        for way, of_way in order.sample(list(zip(ways, times_s, strict=True)), len(ways)):
            began_s = time.process_time()
            way()
            of_way.append(time.process_time() - began_s)
    return [1000 * statistics.median(of_way) for of_way in times_s]


def _unchecked(table: Table, data: bytes) -> pa.Table:
    with parquet_rows._opened(data) as file:
        groups, names = list(range(file.num_row_groups)), file.schema_arrow.names
        rows = file.read_row_groups(groups, names, use_threads=False)
    return completed(rows, list(table.stored_schema))


def _row(name: str, times: list[float]) -> str:
    shown = " | ".join(f"{time_ms:.2f}" for time_ms in times)
    return f"| {name} | {shown} | {times[2] / times[0]:.2f} |"


if __name__ == "__main__":
    main()
