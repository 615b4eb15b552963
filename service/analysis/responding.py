"""Which units respond to a picture most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.service.analysis import arguments
from circuit_atlas.storage_schema.errors import QueryError

if TYPE_CHECKING:
    from circuit_atlas.service.client.atlas import Atlas, Layer

COLUMNS = (
    "image",
    "response",
    "rank",
    "maximum",
    "position_y",
    "position_x",
    "box_top",
    "box_left",
    "box_bottom",
    "box_right",
)
_ROWS = 2**20


def responding(atlas: Atlas, image: int, *, layers: Sequence[str], limit: int) -> pa.Table:
    """See `Atlas.responding`, over the given layers."""
    limit = arguments.at_least(limit, 1, what="limit")
    number = known_image(atlas, image)
    found = [
        _named(atlas.layer(name), best(block, number, limit=limit))
        for name in layers
        for block in _blocks(atlas.layer(name))
    ]
    return first(found, limit=limit)


def known_image(atlas: Atlas, image: int) -> int:
    """The id of an image that units were measured on; QueryError, saying why, where it is none."""
    number = arguments.whole(image, what="image")
    table = atlas.reader.images(columns=["id", "name", "problem"])
    if not 0 <= number < table.num_rows:
        raise QueryError(
            f"{atlas.place} has no image {number}: its images are 0 to {table.num_rows - 1}"
        )
    row = table.slice(number, 1).to_pylist()[0]
    if row["problem"] is not None:
        raise QueryError(f"image {number} ({row['name']}) was left out: {row['problem']}")
    return number


def best(responses: pa.Table, image: int, *, limit: int) -> pa.Table:
    """The units of some rows of a layer's responses that respond to an image most.

    Args:
        responses: unit and `COLUMNS`; all of a unit's rows stand together.
        image: its id.
        limit: rows of the answer, at most.

    Returns:
        unit, place, rank, response, share, and the rest of `COLUMNS`, see `Atlas.responding`.
    """
    units = responses["unit"].to_numpy()
    values = responses["response"].to_numpy()
    starts = np.flatnonzero(np.diff(units, prepend=-1))
    here = np.flatnonzero(responses["image"].to_numpy() == image)
    group = np.searchsorted(starts, here, side="right") - 1
    own = np.full(len(starts), np.inf)
    own[group] = values[here]
    larger = values > np.repeat(own, np.diff(np.append(starts, len(units))))
    some = len(starts) > 0
    place = (np.add.reduceat(larger, starts, dtype=np.int32) if some else own)[group]
    largest = (np.maximum.reduceat(values, starts) if some else own)[group]
    share = np.divide(values[here], largest, out=np.full(len(here), np.nan), where=largest > 0)
    rows = pa.table(
        {
            "unit": pa.array(units[here], pa.int32()),
            "place": pa.array(place, pa.int32()),
            "rank": responses["rank"].take(here),
            "response": pa.array(values[here], pa.float64()),
            "share": pa.array(share, pa.float64(), from_pandas=True),
            **{name: responses[name].take(here) for name in COLUMNS[3:]},
        }
    )
    return rows.take(_order(rows)[:limit])


def first(found: Sequence[pa.Table], *, limit: int) -> pa.Table:
    """The first rows of several answers together, with the order and columns of each."""
    rows = pa.concat_tables(found or [SCHEMA.empty_table()]).combine_chunks()
    return rows.take(_order(rows)[:limit])


def _order(rows: pa.Table) -> pa.Array:
    """By place, then by share; ties stay as they stand."""
    share = pc.fill_null(rows["share"], -np.inf).to_numpy()
    return pa.array(np.lexsort((-share, rows["place"].to_numpy())))


def _named(layer: Layer, rows: pa.Table) -> pa.Table:
    names = [layer.index.unit(number).name for number in rows["unit"].to_pylist()]
    layers = pa.array([layer.name] * len(rows), pa.string())
    return rows.add_column(0, SCHEMA.field(0), layers).add_column(
        2, SCHEMA.field(2), pa.array(names, pa.string())
    )


def _blocks(layer: Layer) -> Iterator[pa.Table]:
    """A layer's responses, a million rows at a time or a unit's."""
    reader = layer.atlas.reader
    units = list(reader.commits(layer.name))
    images = max(1, reader.images(columns=["id"]).num_rows)
    size = max(1, _ROWS // images)
    for at in range(0, len(units), size):
        yield reader.table(
            layer.name, "responses", units=set(units[at : at + size]), columns=COLUMNS
        )


SCHEMA = pa.schema(
    [
        ("layer", pa.string()),
        ("unit", pa.int32()),
        ("name", pa.string()),
        ("place", pa.int32()),
        ("rank", pa.int32()),
        ("response", pa.float64()),
        ("share", pa.float64()),
        ("maximum", pa.float64()),
        *((name, pa.int32()) for name in COLUMNS[4:]),
    ]
)
