"""A layer at a glance: a row a unit with its smallest faithful circuit, and how r is spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from circuit_atlas.service.analysis.facts import LayerFacts
from circuit_atlas.service.analysis.query import CircuitQuery
from circuit_atlas.service.analysis.units import LayerStates
from circuit_atlas.storage_schema.circuit_columns import ACTING
from circuit_atlas.storage_schema.columns import schema_of
from circuit_atlas.storage_schema.layer_columns import (
    DISTRIBUTION,
    OF_CIRCUIT,
    OTHER_MEASURES,
    SILENT,
    TOP_IMAGE,
    UNIT_FACTS,
    r_columns,
)

_QUANTILES = {"low": 0.1, "quarter": 0.25, "median": 0.5, "three_quarters": 0.75, "high": 0.9}


@dataclass(frozen=True)
class LevelMeasures:
    """Says how faithful some units' circuits are at each sparsity level, the largest circuit first.

    Attributes:
        r: Pearson r, NaN where it is undefined or there is no circuit. Shape: (units, levels).
        kernels: of the circuits, 0 where there is none. Shape: (units, levels).
        silent: 1 where the circuit never fires where the network does, 0 where it does, NaN where
            that is not known. Shape: (units, levels).
        acting: kernels that act in the circuit of the level asked for, NaN where that is not known.
            Shape: (units,).
        others: the other measures of the level asked for, NaN as of r, by name. Shape: (units,).
    """

    r: NDArray[np.float64]
    kernels: NDArray[np.int32]
    silent: NDArray[np.float64]
    acting: NDArray[np.float64]
    others: dict[str, NDArray[np.float64]]

    def smallest(self, threshold: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Find the sparsity level of each unit's smallest circuit whose r reaches the threshold,
        and whether it has one. Shapes: (units,)."""
        reached = self.r >= threshold
        # The last that reaches is the smallest.
        level = np.asarray(reached.shape[1] - 1 - np.argmax(reached[:, ::-1], axis=1), np.int64)
        return level, np.asarray(reached.any(axis=1))


def level_measures(
    facts: LayerFacts, query: CircuitQuery, units: NDArray[np.int32]
) -> LevelMeasures:
    """Take what is read of some units, ascending, by a criterion, ablation and split."""
    rows = query.rows(facts.faithfulness)
    rows = rows.filter(pc.is_in(rows["unit"], pa.array(units, pa.int32())))
    shape = (len(units), len(facts.reader.header.fractions))
    r, kernels = np.full(shape, np.nan), np.zeros(shape, np.int32)
    silent = np.full(shape, np.nan)
    row, level = np.searchsorted(units, rows["unit"].to_numpy()), rows["level"].to_numpy()
    r[row, level] = pc.fill_null(rows["pearson"], np.nan).to_numpy()
    kernels[row, level] = rows["kernels"].to_numpy()
    quiet = pc.and_(pc.equal(rows["firing"], 0.0), pc.greater(rows["firing_full"], 0.0))
    silent[row, level] = pc.fill_null(pc.cast(quiet, pa.float64()), np.nan).to_numpy()
    at_level = {}
    here = level == query.level
    for name in (ACTING.name, *(column.name for column in OTHER_MEASURES)):
        at_level[name] = np.full(len(units), np.nan)
        values = pc.fill_null(pc.cast(rows[name], pa.float64()), np.nan).to_numpy()
        at_level[name][row[here]] = values[here]
    return LevelMeasures(r, kernels, silent, at_level.pop(ACTING.name), at_level)


def unit_table(
    facts: LayerFacts,
    states: LayerStates,
    query: CircuitQuery,
    *,
    polysemanticity: pa.Table | None = None,
) -> pa.Table:
    """Tell the units of a layer at a glance, what is not read being null.

    Args:
        facts: of the layer, as far as they are read.
        states: of its units.
        query: by which circuits they are compared.
        polysemanticity: a table with columns unit and polysemanticity. Default: what is sealed.

    Returns:
        `UNIT_FACTS`, `OF_CIRCUIT` and a column of `r_columns` for each stored fraction.
    """
    table = states.table()
    numbers = table["unit"].to_numpy()
    measures = level_measures(facts, query, numbers)
    level, some = measures.smallest(query.threshold)
    fractions = facts.reader.header.fractions
    groups = _of_criterion(facts.groups, query)
    if polysemanticity is None:
        polysemanticity = _of_criterion(facts.polysemanticity, query)
    silent, acting = measures.silent[:, query.level], measures.acting
    smallest_kernels = np.take_along_axis(measures.kernels, level[:, None], axis=1)[:, 0]
    problems = pa.array([facts.problems.get(int(unit)) for unit in numbers], pa.string())
    columns = {
        "unit": table["unit"],
        "name": table["name"],
        "unit_label": table["unit_label"],
        "state": table["state"],
        "reachable_kernels": table["reachable_kernels"],
        "level": pa.array(level, pa.int16(), mask=~some),
        "fraction": pa.array(np.asarray(fractions)[level], pa.float64(), mask=~some),
        "kernels": pa.array(smallest_kernels, pa.int32(), mask=~some),
        "groups": _by_unit(numbers, groups, "groups"),
        "silhouette": _by_unit(numbers, groups, "silhouette"),
        "polysemanticity": _by_unit(numbers, polysemanticity, "polysemanticity"),
        **{c.name: _by_unit(numbers, facts.top, c.name) for c in TOP_IMAGE},
        "error": pc.coalesce(table["error"], problems),
        **{
            name: pa.array(v, pa.float64(), from_pandas=True) for name, v in measures.others.items()
        },
        SILENT.name: pa.array(silent == 1, pa.bool_(), mask=np.isnan(silent)),
        ACTING.name: pa.array(np.nan_to_num(acting).astype(np.int32), mask=np.isnan(acting)),
        **{
            column.name: pa.array(values, pa.float64(), from_pandas=True)
            for column, values in zip(r_columns(fractions), measures.r.T, strict=True)
        },
    }
    schema = schema_of([*UNIT_FACTS, *OF_CIRCUIT, *r_columns(fractions)])
    return pa.table([columns[name] for name in schema.names], schema=schema)


def summary(table: pa.Table, fractions: tuple[float, ...]) -> pa.Table:
    """Make what `Layer.summary` gives out of a table of units: r is one list, null unless done."""
    names = [column.name for column in r_columns(fractions)]
    values = np.stack([table[name].to_numpy() for name in names], axis=1)
    lists = pa.FixedSizeListArray.from_arrays(
        pa.array(values.ravel(), pa.float64(), from_pandas=True), len(names)
    ).cast(pa.list_(pa.float64()))
    done = pc.equal(table["state"], "done").combine_chunks()
    known = table.select([column.name for column in UNIT_FACTS])
    at = known.column_names.index("kernels") + 1
    return known.add_column(at, "r", pc.if_else(done, lists, None))


def distribution(facts: LayerFacts, states: LayerStates, query: CircuitQuery) -> pa.Table:
    """Tell how r is spread over the units that are done and read, see `Layer.distribution`."""
    done = [unit for unit, commit in states.commits.items() if commit.state == "done"]
    known = sorted(facts.units.intersection(done) - facts.problems.keys())
    measures = level_measures(facts, query, np.asarray(known, np.int32))
    r, fractions = measures.r, facts.reader.header.fractions
    level, some = measures.smallest(query.threshold)
    counted = np.nan_to_num(r, nan=0.0)
    empty = np.full(len(fractions), len(r) == 0)
    quantiles = {
        name: np.quantile(counted, q, axis=0) if len(r) else np.zeros(len(fractions))
        for name, q in _QUANTILES.items()
    }
    columns = {
        "level": range(len(fractions)),
        "fraction": fractions,
        "units": [len(r)] * len(fractions),
        "undefined": np.isnan(r).sum(axis=0),
        "silent": (measures.silent == 1).sum(axis=0),
        "reached": (r >= query.threshold).sum(axis=0),
        "smallest": np.bincount(level[some], minlength=len(fractions)),
        **{name: pa.array(values, pa.float64(), mask=empty) for name, values in quantiles.items()},
    }
    schema = schema_of(DISTRIBUTION)
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    return pa.table(arrays, schema=schema)


def _of_criterion(table: pa.Table, query: CircuitQuery) -> pa.Table:
    return table.filter(pc.equal(table["criterion"], query.criterion))


def _by_unit(numbers: NDArray[np.int32], table: pa.Table, column: str) -> pa.Array:
    """A column of a table with one row a unit, in the order of `numbers`; null where it has no row.

    Shape: (units,).
    """
    row = pc.index_in(pa.array(numbers, pa.int32()), table["unit"].combine_chunks())
    return table[column].combine_chunks().take(row)
