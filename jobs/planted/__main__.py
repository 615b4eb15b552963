"""How far criteria find planted circuits, as Markdown: `python -m circuit_atlas.jobs.planted`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import pyarrow as pa

from circuit_atlas.jobs.planted.by_criterion import by_criterion
from circuit_atlas.jobs.planted.recovery import CRITERIA, STEPS, ground_truth
from circuit_atlas.storage_schema.errors import AtlasError


def markdown(table: pa.Table) -> str:
    """Write a table of `ground_truth` as two: planted circuits, and single ablations."""
    lines: list[str] = []
    for each in by_criterion(table):
        rows = (each.head, ["---"] * len(each.head), *each.rows)
        lines += [f"{each.caption}:", "", *(f"| {' | '.join(row)} |" for row in rows), ""]
    return "\n".join(lines)


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
