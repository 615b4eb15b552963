"""How far criteria find planted circuits, as Markdown: `python -m circuit_atlas.jobs.planted`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from circuit_atlas.jobs.planted.recovery import CRITERIA, STEPS, ground_truth
from circuit_atlas.storage_schema.errors import AtlasError

Row = dict[str, Any]

_WHERE = ("network", "unit", "sub_feature", "planted")


def markdown(table: pa.Table) -> str:
    """Write a table of `ground_truth` as two: planted circuits, and single ablations."""
    rows = table.to_pylist()
    planted = [row for row in rows if row["auroc"] is not None]
    alone = [row for row in rows if row["rank_correlation"] is not None]
    return "\n".join(
        [
            "AUROC of planted kernels, and the share of them in the circuit of as many:",
            "",
            *_table(planted, _WHERE, lambda row: f"{row['auroc']:.2f}, {row['recovered']:.0%}"),
            "",
            "Spearman's rank correlation of scores with what leaving one kernel out changes:",
            "",
            *_table(alone, _WHERE[:2], lambda row: f"{row['rank_correlation']:.2f}"),
            "",
        ]
    )


def _table(rows: Sequence[Row], where: Sequence[str], text: Callable[[Row], str]) -> Iterator[str]:
    """Lines of a Markdown table with a column a criterion, empty where it has no row."""
    criteria = list(dict.fromkeys(row["criterion"] for row in rows))
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        name = tuple("" if row[key] is None else str(row[key]) for key in where)
        cells.setdefault(name, {})[row["criterion"]] = text(row)
    head = (*(key.replace("_", "-") for key in where), *(f"`{name}`" for name in criteria))
    yield _line(head)
    yield _line(["---"] * len(head))
    for name, of_criteria in cells.items():
        yield _line([*name, *(of_criteria.get(criterion, "") for criterion in criteria)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 1, with a line, where something asked for cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m circuit_atlas.jobs.planted",
        description="How far criteria find the circuits of networks in which they are planted.",
    )
    parser.add_argument("criteria", nargs="*", metavar="CRITERION", help="Default: all.")
    parser.add_argument("--seed", type=int, default=0, help="Of weights and images. Default: 0.")
    parser.add_argument(
        "--steps",
        type=int,
        default=STEPS,
        help=f"Of `learned`, for each fraction. Default: {STEPS}.",
    )
    asked = parser.parse_args(arguments)
    try:
        table = ground_truth(asked.criteria or CRITERIA, seed=asked.seed, steps=asked.steps)
    except AtlasError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(markdown(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
