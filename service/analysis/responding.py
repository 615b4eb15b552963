"""Which units respond to an image most, compared with what they do to the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.facts import response_matrix
from circuit_atlas.storage_schema.columns import schema_of
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.layer_columns import RESPONDING
from circuit_atlas.storage_schema.reader import Reader

_ROWS = 2**20
_COMPARED = ("layer", "unit", "name", "rank", "response", "share")
_MEASURED = ("image", "rank", "maximum", *(c.name for c in RESPONDING[-6:]))
SCHEMA = schema_of(RESPONDING)


def responding(reader: Reader, image: int, *, layers: Sequence[str], limit: int) -> pa.Table:
    """Find the units of some layers that respond to an image most, see `Atlas.responding`."""
    limit = arguments.at_least(limit, 1, what="limit")
    number = known_image(reader, image)
    images = reader.images(columns=["id"]).num_rows
    best = [
        in_order([compared(reader.layer(name), *response_matrix(block, images), number)]).slice(
            0, limit
        )
        for name in layers
        for block in _blocks(reader, name, images)
    ]
    return measured(reader, in_order(best).slice(0, limit), number)


def known_image(reader: Reader, image: int) -> int:
    """Check the id of an image that units were measured on; QueryError, saying why, where it is
    none."""
    number = arguments.whole(image, what="image")
    table = reader.images(columns=["id", "name", "problem"])
    if not 0 <= number < table.num_rows:
        raise QueryError(
            f"{reader.objects.location} has no image {number}: its images are 0 to "
            f"{table.num_rows - 1}"
        )
    row = table.slice(number, 1).to_pylist()[0]
    if row["problem"] is not None:
        raise QueryError(f"image {number} ({row['name']}) was left out: {row['problem']}")
    return number


def compared(
    index: LayerIndex, units: Sequence[int], responses: NDArray[np.float64], image: int
) -> pa.Table:
    """Compare units of a layer by their response to an image, those without one left out.

    Args:
        index: of the layer.
        units: their numbers.
        responses: NaN where there is none. Shape: (units, images).
        image: its id.

    Returns:
        layer, unit, name, rank, response and share, see `Atlas.responding`; in the order given.
    """
    here = responses[:, image]
    known = ~np.isnan(here)
    numbers, here, responses = np.asarray(units, np.int32)[known], here[known], responses[known]
    largest = np.fmax.reduce(responses, axis=1, initial=-np.inf)
    share = np.divide(here, largest, out=np.full(len(here), np.nan), where=largest > 0)
    return pa.table(
        {
            "layer": pa.array([index.layer] * len(here), pa.string()),
            "unit": pa.array(numbers, pa.int32()),
            "name": pa.array([index.unit(int(unit)).name for unit in numbers], pa.string()),
            "rank": pa.array((responses > here[:, None]).sum(axis=1), pa.int32()),
            "response": pa.array(here, pa.float64()),
            "share": pa.array(share, pa.float64(), from_pandas=True),
        }
    )


def in_order(rows: Sequence[pa.Table]) -> pa.Table:
    """Put units of several layers in order: first those for which fewest images have a larger
    response, then by share; ties stay as they stand."""
    empty = pa.schema([SCHEMA.field(name) for name in _COMPARED]).empty_table()
    whole = pa.concat_tables([empty, *(part.cast(empty.schema) for part in rows)]).combine_chunks()
    keys = [("rank", "ascending"), ("share", "descending")]
    return whole.take(pc.sort_indices(whole, sort_keys=keys))


def measured(reader: Reader, rows: pa.Table, image: int) -> pa.Table:
    """Add to rows of `in_order` what the units' own tables say of the image: `RESPONDING`."""
    wanted: dict[str, list[int]] = {}
    for layer, unit in zip(rows["layer"].to_pylist(), rows["unit"].to_pylist(), strict=True):
        wanted.setdefault(layer, []).append(unit)
    facts, labels = {}, {}
    for layer, units in wanted.items():
        labels[layer] = reader.labels(layer)
        table = reader.table(layer, "responses", units=set(units), columns=_MEASURED)
        for row in table.filter(pc.equal(table["image"], image)).to_pylist():
            facts[layer, row["unit"]] = {**row, "top_rank": row["rank"]}
    whole = [
        {
            **facts[row["layer"], row["unit"]],
            **row,
            "unit_label": labels[row["layer"]].get(row["unit"]),
        }
        for row in rows.to_pylist()
    ]
    return pa.Table.from_pylist(whole, SCHEMA)


def _blocks(reader: Reader, layer: str, images: int) -> Iterator[pa.Table]:
    """A layer's responses, a million rows at a time or a unit's."""
    units = list(reader.commits(layer))
    size = max(1, _ROWS // max(1, images))
    for at in range(0, len(units), size):
        some = set(units[at : at + size])
        yield reader.table(layer, "responses", units=some, columns=["image", "response"])
