"""The units of a layer by how faithful their circuits of one sparsity level are."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.service.analysis.query import CircuitQuery
from circuit_atlas.storage_schema.reader import Reader

_OF_UNIT = ("unit", "kernels", "pearson", "firing", "firing_full", "acting")
_COLUMNS = ("criterion", "ablation", "split", "level", *_OF_UNIT[1:])


@dataclass(frozen=True)
class UnitScore:
    """Holds one unit's faithfulness.

    Attributes:
        unit: the unit's number.
        kernels: that its circuit keeps.
        pearson: Pearson r, or None where that is undefined.
        firing: share of the positions where the unit's output is above 0 in its circuit; None in an
            atlas of schema version 2 or older.
        firing_full: the same in the whole network.
        acting: how many of those kernels act; None where the unit was stored before that was
            counted.
    """

    unit: int
    kernels: int
    pearson: float | None
    firing: float | None = None
    firing_full: float | None = None
    acting: int | None = None

    @property
    def r(self) -> float:
        """Return Pearson r, undefined counted as 0."""
        return self.pearson or 0.0

    @property
    def silent(self) -> bool:
        """Tell whether the circuit never fires where the network does."""
        return is_silent(self.firing, self.firing_full)


def is_silent(firing: float | None, firing_full: float | None) -> bool:
    """Tell whether a circuit never fires where the network does, by what of the positions is above
    0 in either.

    >>> is_silent(0.0, 0.1), is_silent(0.0, 0.0), is_silent(None, None)
    (True, False, False)
    """
    return firing == 0 and bool(firing_full)


def with_silent(reader: Reader, layers: pa.Table) -> pa.Table:
    """Add the column `silent` to a table with a row a layer: how many units have a silent circuit
    at the fraction nearest to a tenth; null in an atlas that is too old to know."""
    query, counts = CircuitQuery.of(reader), []
    for layer in layers["layer"].to_pylist():
        scores = unit_scores(reader, layer, query)
        old = any(score.firing is None for score in scores)
        counts.append(None if old else sum(score.silent for score in scores))
    return layers.append_column("silent", pa.array(counts, pa.int32()))


def unit_scores(reader: Reader, layer: str, query: CircuitQuery) -> tuple[UnitScore, ...]:
    """List the layer's units that are done, the most faithful first, ties by number."""
    rows = query.rows(reader.table(layer, "faithfulness", columns=_COLUMNS))
    rows = rows.filter(pc.equal(rows["level"], query.level))
    rows = rows.append_column("r", pc.fill_null(rows["pearson"], 0.0))
    order = pc.sort_indices(rows, sort_keys=[("r", "descending"), ("unit", "ascending")])
    return tuple(UnitScore(**row) for row in rows.take(order).select(list(_OF_UNIT)).to_pylist())
