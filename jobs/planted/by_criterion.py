"""Ground truth to be read: a row a planted circuit, a column a criterion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_Row = dict[str, Any]
_WHERE = ("network", "unit", "sub_feature", "planted")


@dataclass(frozen=True)
class ByCriterion:
    """What is told of each criterion beside the others, as texts.

    Attributes:
        caption: what a cell says.
        head: of each column.
        rows: as long as `head`, empty where a criterion says nothing.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def by_criterion(table: pa.Table) -> tuple[ByCriterion, ByCriterion]:
    """Puts the criteria of a table of `ground_truth` side by side: on planted circuits, and on
    single ablations."""
    rows = table.to_pylist()
    planted = [row for row in rows if row["auroc"] is not None]
    alone = [row for row in rows if row["rank_correlation"] is not None]
    return (
        _pivot(
            "AUROC of planted kernels, and the share of them in the circuit of as many",
            planted,
            _WHERE,
            lambda row: f"{row['auroc']:.2f}, {row['recovered']:.0%}",
        ),
        _pivot(
            "Spearman's rank correlation of scores with what leaving one kernel out changes",
            alone,
            _WHERE[:2],
            lambda row: f"{row['rank_correlation']:.2f}",
        ),
    )


def _pivot(
    caption: str, rows: Sequence[_Row], where: Sequence[str], text: Callable[[_Row], str]
) -> ByCriterion:
    criteria = list(dict.fromkeys(row["criterion"] for row in rows))
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        name = tuple("" if row[key] is None else str(row[key]) for key in where)
        cells.setdefault(name, {})[row["criterion"]] = text(row)
    return ByCriterion(
        caption=caption,
        head=(*(key.replace("_", "-") for key in where), *criteria),
        rows=tuple(
            (*name, *(of_criteria.get(criterion, "") for criterion in criteria))
            for name, of_criteria in cells.items()
        ),
    )
