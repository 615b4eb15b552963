"""A layer at a glance: a row a unit, and how r falls as kernels are dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from circuit_atlas.service.analysis import arguments
from circuit_atlas.storage_schema import tables
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.version import NETWORK_SINCE

if TYPE_CHECKING:
    from circuit_atlas.service.client.atlas import Layer

_BLOCK = 256
_TOP = (
    "image",
    "response",
    "maximum",
    "position_y",
    "position_x",
    "box_top",
    "box_left",
    "box_bottom",
    "box_right",
)
_QUANTILES = {"low": 0.1, "quarter": 0.25, "median": 0.5, "three_quarters": 0.75, "high": 0.9}


@dataclass(frozen=True)
class LayerTables:
    """What a layer's summary is made of, read once.

    Attributes:
        units: as `Layer.units`.
        faithfulness: as `Layer.faithfulness`.
        top: unit, image, response, maximum, its position and box, of each unit's first top image.
        groups: unit, criterion, groups and silhouette of its sub-feature groups; without rows in
            an atlas that is too old to have them.
    """

    units: pa.Table
    faithfulness: pa.Table
    top: pa.Table
    groups: pa.Table

    @classmethod
    def read(cls, layer: Layer) -> LayerTables:
        """Read a layer's tables: four small files a unit. Of the responses, which are as many as
        units times images, 256 units' at a time."""
        reader = layer.atlas.reader
        units = layer.units()
        stored = units.filter(pc.is_in(units["state"], pa.array(["done", "dead"])))
        numbers = stored["unit"].to_pylist()
        top = [_first(layer, numbers[at : at + _BLOCK]) for at in range(0, len(numbers), _BLOCK)]
        return cls(
            units=units,
            faithfulness=reader.table(layer.name, "faithfulness").combine_chunks(),
            top=pa.concat_tables(top or [_first(layer, [])]).combine_chunks(),
            groups=_group_counts(layer),
        )


@dataclass(frozen=True)
class CircuitQuery:
    """Which faithfulness rows are meant, and which r is enough.

    Attributes:
        criterion: the score that chose the circuits.
        ablation: what stood for dropped kernels.
        split: of the images.
        threshold: the r that a circuit has to reach.
    """

    criterion: str
    ablation: str
    split: str
    threshold: float

    @classmethod
    def of(
        cls,
        layer: Layer,
        *,
        criterion: str | None,
        ablation: str | None,
        split: str | None,
        threshold: float,
    ) -> CircuitQuery:
        """Checked against the atlas; QueryError as of `Layer.summary`."""
        if not isinstance(threshold, int | float) or not -1 <= threshold <= 1:
            raise QueryError(f"threshold={threshold!r} is no r: give a number from -1 to 1")
        return cls(
            arguments.criterion(layer.atlas, criterion),
            arguments.ablation(layer.atlas, ablation),
            arguments.split(layer.atlas, split),
            float(threshold),
        )


def summary(
    layer: Layer,
    stored: LayerTables,
    chosen: CircuitQuery,
    *,
    polysemanticity: pa.Table | None = None,
) -> pa.Table:
    """See `Layer.summary`; `polysemanticity` is a table with columns unit and polysemanticity."""
    numbers = stored.units["unit"].to_numpy()
    r, kept = _ladder(layer, stored, chosen, numbers)
    reached = r >= chosen.threshold
    some = reached.any(axis=1)
    levels = r.shape[1]
    # Rungs go from the largest circuit down, so the last that reaches is the smallest.
    level = (
        levels - 1 - np.argmax(reached[:, ::-1], axis=1) if levels else np.zeros(len(r), np.int64)
    )
    fractions = np.asarray(layer.atlas.header.fractions)
    lists = pa.FixedSizeListArray.from_arrays(
        pa.array(r.ravel(), pa.float64(), from_pandas=True), levels
    )
    done = pc.equal(stored.units["state"], "done").to_numpy()
    groups = stored.groups.filter(pc.equal(stored.groups["criterion"], chosen.criterion))
    columns: dict[str, object] = {
        "unit": stored.units["unit"],
        "name": stored.units["name"],
        "state": stored.units["state"],
        "kernels": stored.units["kernels"],
        "smallest_level": pa.array(level, pa.int16(), mask=~some),
        "smallest_fraction": pa.array(fractions[level], pa.float64(), mask=~some),
        "smallest_kernels": pa.array(
            np.take_along_axis(kept, level[:, None], axis=1)[:, 0], pa.int32(), mask=~some
        ),
        "r": pc.if_else(pa.array(done), lists.cast(pa.list_(pa.float64())), None),
        "groups": _by_unit(numbers, groups, "groups"),
        "silhouette": _by_unit(numbers, groups, "silhouette"),
        "polysemanticity": (
            pa.nulls(len(numbers), pa.float64())
            if polysemanticity is None
            else _by_unit(numbers, polysemanticity, "polysemanticity")
        ),
        **{name: _by_unit(numbers, stored.top, name) for name in _TOP},
        "error": stored.units["error"],
    }
    return pa.table(columns)


def distribution(layer: Layer, stored: LayerTables, chosen: CircuitQuery) -> pa.Table:
    """See `Layer.distribution`."""
    done = stored.units.filter(pc.equal(stored.units["state"], "done"))
    r, _ = _ladder(layer, stored, chosen, done["unit"].to_numpy())
    reached = r >= chosen.threshold
    counted = np.nan_to_num(r, nan=0.0)
    # The smallest circuit that reaches is that of the last such level.
    later = np.flip(np.maximum.accumulate(np.flip(reached, axis=1), axis=1), axis=1)
    smallest = reached & ~np.pad(later[:, 1:], ((0, 0), (0, 1)))
    fractions = layer.atlas.header.fractions
    some = len(r) > 0
    quantiles = {
        name: np.quantile(counted, q, axis=0) if some else np.zeros(len(fractions))
        for name, q in _QUANTILES.items()
    }
    empty = np.full(len(fractions), not some)
    return pa.table(
        {
            "level": pa.array(range(len(fractions)), pa.int16()),
            "fraction": pa.array(fractions, pa.float64()),
            "units": pa.array([len(r)] * len(fractions), pa.int32()),
            "undefined": pa.array(np.isnan(r).sum(axis=0), pa.int32()),
            "reached": pa.array(reached.sum(axis=0), pa.int32()),
            "smallest": pa.array(smallest.sum(axis=0), pa.int32()),
            **{name: pa.array(v, pa.float64(), mask=empty) for name, v in quantiles.items()},
        }
    )


def _ladder(
    layer: Layer, stored: LayerTables, chosen: CircuitQuery, numbers: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """r and kernels of each unit at each level, NaN and 0 where there is no row or r is undefined.
    Shapes: (units, levels)."""
    rows = stored.faithfulness
    wanted = pc.and_(
        pc.and_(
            pc.equal(rows["criterion"], chosen.criterion),
            pc.equal(rows["ablation"], chosen.ablation),
        ),
        pc.equal(rows["split"], chosen.split),
    )
    rows = rows.select(["unit", "level", "kernels", "pearson"]).filter(wanted)
    shape = (len(numbers), len(layer.atlas.header.fractions))
    r, kept = np.full(shape, np.nan), np.zeros(shape, np.int32)
    place = np.searchsorted(numbers, rows["unit"].to_numpy())
    level = rows["level"].to_numpy()
    r[place, level] = pc.fill_null(rows["pearson"], float("nan")).to_numpy()
    kept[place, level] = rows["kernels"].to_numpy()
    return r, kept


def _by_unit(numbers: NDArray[np.int32], table: pa.Table, column: str) -> pa.Array:
    """A column of a table with one row a unit, in the order of `numbers`; null where it has no row.

    Shape: (units,).
    """
    values = table[column].combine_chunks()
    place = pc.index_in(pa.array(numbers, pa.int32()), table["unit"].combine_chunks())
    return values.take(place)


def _first(layer: Layer, units: list[int]) -> pa.Table:
    """Each unit's first top image; units without top images have no row."""
    rows = layer.atlas.reader.table(
        layer.name, "responses", units=set(units), columns=[*_TOP, "rank"]
    )
    return rows.filter(pc.equal(rows["rank"], 0)).drop_columns(["rank"])


def _group_counts(layer: Layer) -> pa.Table:
    """How many groups each unit has and their silhouette, by criterion."""
    reader, columns = layer.atlas.reader, ("criterion", "groups", "silhouette")
    if reader.header.schema < NETWORK_SINCE:
        return pa.schema([("unit", pa.int32()), *tables.GROUPS.schema]).empty_table()
    rows = reader.table(layer.name, "groups", columns=columns)
    # The same in all rows of a unit and criterion.
    found = rows.group_by(["unit", "criterion"], use_threads=False).aggregate(
        [(c, "max") for c in columns[1:]]
    )
    return found.rename_columns(["unit", *columns])
