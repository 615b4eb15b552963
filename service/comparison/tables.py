"""The tables of a comparison, worked out of what is stored of each circuit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.service.comparison.bootstrap import ends, over_units
from circuit_atlas.service.comparison.measures import Measures, area_weights
from circuit_atlas.service.comparison.query import ComparisonQuery
from circuit_atlas.storage_schema.columns import Column, schema_of
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.comparison_columns import (
    AREAS,
    COMPARED_UNITS,
    COMPARISON,
    COST,
    PAIRS,
)
from circuit_atlas.storage_schema.header import LayerIndex

TIE = 1e-4
"""Values that differ by less are tied."""
Drawn = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Numbers:
    """Holds all that the tables are made of.

    Attributes:
        query: what is compared.
        units: their numbers, ascending.
        fractions: kept, largest first.
        measures: of the circuits.
        drawn: r over images drawn anew, by split: (draws, criteria, units, levels); without the
            splits that cannot be drawn.
    """

    query: ComparisonQuery
    units: tuple[int, ...]
    fractions: tuple[float, ...]
    measures: Measures
    drawn: Drawn

    def intervals(
        self, values: NDArray[np.float64], drawn: Mapping[str, NDArray[np.floating]]
    ) -> dict[str, pa.Array]:
        """Compute the columns `INTERVALS` of medians over units.

        Args:
            values: what the median is over. Shape: (rows, splits, units, ...).
            drawn: the same over images drawn anew, by split. Shape: (draws, rows, units, ...).
        """
        by_unit = np.moveaxis(values, 2, 0)
        columns = by_unit.reshape(len(by_unit), -1)
        of_units = over_units(columns, draws=self.query.draws, seed=self.query.seed)
        of_images = np.full((2, *by_unit.shape[1:]), np.nan)
        for at, split in enumerate(self.query.splits):
            if split in drawn:
                of_images[:, :, at] = ends(np.median(drawn[split], axis=2))
        found = (*of_units, *of_images.reshape(2, -1))
        names = ("low_units", "high_units", "low_images", "high_images")
        return {name: _nulls(end) for name, end in zip(names, found, strict=True)}


def comparison_table(numbers: Numbers) -> pa.Table:
    """Make `COMPARISON`: a row for each criterion, split and fraction."""
    query, found, fractions = numbers.query, numbers.measures, numbers.fractions
    best, tied = _best(found.r)
    share = found.acting / np.maximum(found.kernels, 1)
    keys = _keys(criterion=query.criteria, split=query.splits, level=range(len(fractions)))
    return _table(
        COMPARISON,
        {
            **keys,
            "fraction": [fractions[level] for level in keys["level"]],
            "units": [len(numbers.units)] * len(keys["level"]),
            "median": np.median(found.r, axis=2).ravel(),
            **numbers.intervals(found.r, numbers.drawn),
            "best": best.sum(axis=2).ravel(),
            "tied": tied.sum(axis=2).ravel(),
            "silent": _nulls(found.silent.sum(axis=2).ravel()),
            "acting": _nulls(np.median(share, axis=2).ravel()),
        },
    )


def area_table(numbers: Numbers) -> pa.Table:
    """Make `AREAS`: a row for each criterion and split."""
    query, areas = numbers.query, numbers.measures.areas
    best, tied = _best(areas)
    keys = _keys(criterion=query.criteria, split=query.splits)
    return _table(
        AREAS,
        {
            **keys,
            "units": [areas.shape[2]] * len(keys["split"]),
            "area": np.median(areas, axis=2).ravel(),
            **numbers.intervals(areas, _drawn_areas(numbers)),
            "best": best.sum(axis=2).ravel(),
            "tied": tied.sum(axis=2).ravel(),
        },
    )


def pair_table(numbers: Numbers) -> pa.Table:
    """Make `PAIRS`: a row for each two criteria and split."""
    query, areas = numbers.query, numbers.measures.areas
    first, second = np.triu_indices(len(query.criteria), k=1)
    difference = areas[first] - areas[second]
    drawn = {split: a[:, first] - a[:, second] for split, a in _drawn_areas(numbers).items()}
    splits = len(query.splits)
    return _table(
        PAIRS,
        {
            "criterion": np.repeat([query.criteria[at] for at in first], splits),
            "other_criterion": np.repeat([query.criteria[at] for at in second], splits),
            "split": list(query.splits) * len(first),
            "units": [areas.shape[2]] * (splits * len(first)),
            "difference": np.median(difference, axis=2).ravel(),
            **numbers.intervals(difference, drawn),
            "better": (difference >= TIE).sum(axis=2).ravel(),
            "worse": (difference <= -TIE).sum(axis=2).ravel(),
            "tied": (np.abs(difference) < TIE).sum(axis=2).ravel(),
        },
    )


def cost_table(criteria: Sequence[str], commits: Mapping[int, Commit]) -> pa.Table:
    """Make `COST`: a row a criterion."""
    known = [dict(commit.criteria_s) for commit in commits.values()]
    times_s = {name: [times[name] for times in known if name in times] for name in criteria}
    return _table(
        COST,
        {
            "criterion": list(criteria),
            "units": [len(times_s[name]) for name in criteria],
            "median_s": [float(np.median(times_s[n])) if times_s[n] else None for n in criteria],
            "total_s": [sum(times_s[name]) if times_s[name] else None for name in criteria],
        },
    )


def unit_rows(numbers: Numbers, index: LayerIndex) -> pa.Table:
    """Make `COMPARED_UNITS`: a row for each unit, criterion, split and fraction."""
    query, found = numbers.query, numbers.measures
    keys = _keys(
        criterion=query.criteria,
        split=query.splits,
        unit=numbers.units,
        level=range(len(numbers.fractions)),
    )
    names = {unit: index.unit(unit).name for unit in numbers.units}
    silent = found.silent.ravel()
    return _table(
        COMPARED_UNITS,
        {
            **keys,
            "name": [names[unit] for unit in keys["unit"]],
            "fraction": [numbers.fractions[level] for level in keys["level"]],
            "kernels": found.kernels.ravel(),
            "acting": _nulls(found.acting.ravel()),
            "pearson": found.r.ravel(),
            "silent": pa.array(silent == 1, mask=np.isnan(silent)),
        },
    )


def _drawn_areas(numbers: Numbers) -> dict[str, NDArray[np.floating]]:
    """By split: (draws, criteria, units)."""
    weights = area_weights(numbers.fractions)
    return {split: r @ weights for split, r in numbers.drawn.items()}


def _best(values: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where a criterion, along the first axis, alone has the largest value, and where it shares
    it."""
    largest = values > values.max(axis=0) - TIE
    alone = largest.sum(axis=0) == 1
    return largest & alone, largest & ~alone


def _keys(**axes: Sequence[Any]) -> dict[str, list[Any]]:
    """The columns that name a row, for values whose axes are these, in their order."""
    rows = zip(*product(*axes.values()), strict=True)
    return {name: list(column) for name, column in zip(axes, rows, strict=True)}


def _nulls(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values, pa.float64(), from_pandas=True)


def _table(columns: Sequence[Column], values: Mapping[str, object]) -> pa.Table:
    schema = schema_of(columns)
    arrays = []
    for field in schema:
        given = values[field.name]
        array = given if isinstance(given, pa.Array) else pa.array(given)
        arrays.append(array.cast(field.type))
    return pa.table(arrays, schema=schema)
