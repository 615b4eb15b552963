"""SQL over an atlas' tables, by DuckDB in memory, without any way to files, network or settings,
and within a bound of memory.

That keeps a query from doing harm by accident. DuckDB is no sandbox for queries of strangers, which
could also compute for ever: none is taken over HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pyarrow as pa

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.units import LayerStates, layer_counts
from circuit_atlas.storage_schema import unit_tables
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.wording import nearest, one_line

_CONFIG = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    # Nor are names that are no tables looked for among the caller's Python variables.
    "python_enable_replacements": "false",
    "memory_limit": "1GB",
    "temp_directory": "",
}
MOST_BYTES = 512 * 2**20
"""Size of an answer, at most."""
_ROWS = 100_000  # of one piece of it
# A signal that reaches another thread does not end a wait, but is heard after it.
_LISTEN_S = 0.1
# Words of questions about the tables themselves: as if all were named.
_ABOUT = frozenset(("tables", "information_schema", "duckdb_tables", "duckdb_views"))
_NO_TABLE = re.compile(r"Table with name (\S+) does not exist")


def sql(reader: Reader, query: str) -> pa.Table:
    """Answer one SELECT over an atlas' tables, see `Atlas.sql`."""
    duckdb = arguments.module("duckdb", package="duckdb", what="SQL")
    if not isinstance(query, str):
        raise QueryError(f"a query is a text, not a {type(query).__name__}")
    try:
        statements = duckdb.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise QueryError(
                "an atlas is only read: give a single SELECT, such as 'SELECT layer, unit, kernels "
                "FROM units'"
            )
        with duckdb.connect(":memory:", config=_CONFIG) as connection:
            connection.execute("SET enable_progress_bar = false")
            connection.execute("SET lock_configuration = true")
            # Every word, since DuckDB tells the tables of a query only once it knows their columns.
            words = {word.casefold() for word in re.findall(r"\w+", query)}
            for name in sorted(VIEWS if _ABOUT & words else VIEWS.keys() & words):
                connection.register(name, VIEWS[name](reader))
            # In a thread, as nothing hears a Ctrl-C while DuckDB is at work.
            with ThreadPoolExecutor(1) as thread:
                answer = thread.submit(lambda: _bounded(connection.sql(query)))
                try:
                    while not answer.done():
                        wait([answer], _LISTEN_S)
                except KeyboardInterrupt:
                    # Again and again: before a query works, and between its steps, it hears none.
                    while not answer.done():
                        connection.interrupt()
                        wait([answer], _LISTEN_S)
                    raise
                return _plain(answer.result())
    except duckdb.Error as error:
        raise QueryError(_explained(error)) from None


def _bounded(result: Any) -> pa.Table:
    """The answer, taken as it is made: DuckDB's bound of memory holds for its work alone."""
    # The second is its name before DuckDB 2.0.
    make = getattr(result, "to_arrow_reader", None) or result.fetch_arrow_reader
    reader = make(_ROWS)
    batches, size_bytes = [], 0
    for batch in reader:
        batches.append(batch)
        size_bytes += batch.nbytes
        if size_bytes > MOST_BYTES:
            raise QueryError(
                f"the answer has more than {MOST_BYTES / 2**20:,.0f} MiB: count or average in the "
                "query, or end it with LIMIT"
            )
    return pa.Table.from_batches(batches, reader.schema)


def _explained(error: Exception) -> str:
    missing = _NO_TABLE.search(str(error))
    if missing is not None:
        name = missing[1].strip('"')
        return f"there is no table {name!r}: {nearest(name, sorted(VIEWS), what='tables')}"
    # The rest shows the query once more, with a mark under the place.
    told = str(error).partition("\n\nLINE ")[0]
    if told.startswith("Out of Memory"):
        # What follows names settings, which nobody can change here.
        return f"SQL: {told.splitlines()[0].rstrip('.')}: ask for less at a time"
    return f"SQL: {one_line(Exception(told))}"


def _plain(table: pa.Table) -> pa.Table:
    """Sums of whole numbers come as decimals of 38 digits: here as whole numbers where these hold
    them, and other decimals as floats, as everywhere in an atlas."""
    columns = [_number(column) for column in table.columns]
    return pa.Table.from_arrays(columns, names=table.column_names)


def _number(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_decimal(column.type):
        return column
    if column.type.scale == 0:
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            pass  # more than 63 bits
    return column.cast(pa.float64())


def _over_layers(reader: Reader, rows: Callable[[str], pa.Table]) -> pa.Table:
    """A table of all layers, with their names first."""
    pieces = []
    for name in reader.layers():
        piece = rows(name).combine_chunks()
        # Names repeat in every row: numbered, they take a fifth of the memory.
        texts = [f.name for f in piece.schema if f.type == pa.string() and f.name != "error"]
        for text in texts:
            at = piece.schema.get_field_index(text)
            piece = piece.set_column(at, text, piece[text].dictionary_encode())
        layer = pa.array([name] * len(piece), pa.string()).dictionary_encode()
        pieces.append(piece.add_column(0, "layer", layer))
    if not pieces:
        raise QueryError(f"{reader.objects.location} has no layers yet: run its build first")
    return pa.concat_tables(pieces).unify_dictionaries()


def _units(reader: Reader) -> pa.Table:
    return _over_layers(reader, lambda name: LayerStates.read(reader, reader.layer(name)).table())


def _rows(table: str) -> Callable[[Reader], pa.Table]:
    return lambda reader: _over_layers(reader, lambda layer: reader.table(layer, table))


VIEWS: dict[str, Callable[[Reader], pa.Table]] = {
    "images": Reader.images,
    "layers": layer_counts,
    "units": _units,
    **{table.name: _rows(table.name) for table in unit_tables.FRAGMENTS},
}
