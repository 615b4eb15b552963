"""The units of a layer by how faithful their circuits of one sparsity level are."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.compute as pc

from circuit_atlas.service.analysis.query import CircuitQuery
from circuit_atlas.storage_schema.reader import Reader

_COLUMNS = ("criterion", "ablation", "split", "level", "kernels", "pearson")


@dataclass(frozen=True)
class UnitScore:
    """Holds one unit's faithfulness: the kernels its circuit keeps, and Pearson r or None where
    that is undefined."""

    unit: int
    kernels: int
    pearson: float | None

    @property
    def r(self) -> float:
        """Return Pearson r, undefined counted as 0."""
        return self.pearson or 0.0


def unit_scores(reader: Reader, layer: str, query: CircuitQuery) -> tuple[UnitScore, ...]:
    """List the layer's units that are done, the most faithful first, ties by number."""
    rows = query.rows(reader.table(layer, "faithfulness", columns=_COLUMNS))
    rows = rows.filter(pc.equal(rows["level"], query.level))
    rows = rows.append_column("r", pc.fill_null(rows["pearson"], 0.0))
    order = pc.sort_indices(rows, sort_keys=[("r", "descending"), ("unit", "ascending")])
    return tuple(
        UnitScore(row["unit"], row["kernels"], row["pearson"])
        for row in rows.take(order).select(["unit", "kernels", "pearson"]).to_pylist()
    )
