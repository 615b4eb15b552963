"""`python -m tests.fuzz`: opens thousands of hostile inputs, and prints how they ended.

`python -m tests.fuzz documents --cases 1 --first 123` opens one again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import click

from tests.fuzz import documents
from tests.fuzz.trial import Prepare, Trial, run_child, trials

FUZZERS: Mapping[str, Prepare] = {"documents": documents.prepare}
_SHOWN = 20


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(FUZZERS)))
@click.option("--cases", default=10_000, show_default=True, help="Inputs of each fuzzer.")
@click.option("--first", default=0, show_default=True, help="Seed of the first.")
@click.option("--child", is_flag=True, help="Open them in this process, under the limits.")
def main(names: tuple[str, ...], *, cases: int, first: int, child: bool) -> None:
    """Open inputs of some fuzzers, or of all."""
    if child:
        run_child(FUZZERS[names[0]])
        return
    bad = 0
    for name in names or FUZZERS:
        found = list(trials(name, numbers=range(first, first + cases)))
        click.echo("\n".join(table(found)))
        wrong = [trial for trial in found if trial.bad]
        for one in wrong[:_SHOWN]:
            click.echo(f"{name} {one.number}, {one.kind}: {one.outcome}, {one.detail}")
        bad += len(wrong)
    if bad:
        raise SystemExit(f"{bad} inputs ended as none may")


def table(found: Iterable[Trial]) -> list[str]:
    """Count kinds by outcomes, a line of Markdown each."""
    counts = Counter((trial.kind, trial.outcome) for trial in found)
    kinds, outcomes = (sorted({key[at] for key in counts}) for at in (0, 1))
    rows = [["kind", *outcomes], ["---"] * (len(outcomes) + 1)]
    rows += [[kind, *(str(counts[kind, outcome]) for outcome in outcomes)] for kind in kinds]
    totals = [sum(counts[kind, outcome] for kind in kinds) for outcome in outcomes]
    rows.append(["all", *map(str, totals)])
    return [f"| {' | '.join(row)} |" for row in rows]


if __name__ == "__main__":
    main()
