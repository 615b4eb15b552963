"""`python -m tests.fuzz`: hostile files, each opened in a child with limits that end it.

Prints how the cases of each kind ended. A case is its seed: `--kind` and `--first` run it again.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

import click

from tests.fuzz.kinds import KINDS
from tests.fuzz.watch import Outcome, outcomes


@click.command()
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="These alone.")
@click.option("--cases", default=1000, show_default=True, help="Of each kind.")
@click.option("--first", default=0, show_default=True, help="Seed of the first.")
@click.option("--show", is_flag=True, help="Print each case that was refused, and why.")
def main(kinds: tuple[str, ...], cases: int, first: int, show: bool) -> None:
    """Open hostile files, and say how it ended."""
    click.echo(f"seeds {first} to {first + cases - 1} of each kind\n")
    click.echo("| kind | cases | read | refused | faults | slowest, s | most memory, MB |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- |")
    faults = 0
    for kind in kinds or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            found = list(outcomes(kind, range(first, first + cases), Path(folder)))
        faults += sum(outcome.is_fault for outcome in found)
        click.echo(row(kind, found))
        for outcome in found:
            if outcome.is_fault or (show and outcome.result == "refused"):
                click.echo(f"{kind} {outcome.number}: {outcome.result}: {outcome.said}", err=True)
    sys.exit(1 if faults else 0)


def row(kind: str, found: list[Outcome]) -> str:
    """A row of the table of outcomes."""
    counted = Counter(outcome.result for outcome in found)
    faults = sum(outcome.is_fault for outcome in found)
    slowest = max(outcome.time_s for outcome in found)
    most = max(outcome.memory_bytes for outcome in found) / 1e6
    return (
        f"| {kind} | {len(found)} | {counted['read']} | {counted['refused']} | {faults} | "
        f"{slowest:.2f} | {most:.0f} |"
    )


if __name__ == "__main__":
    main()
