"""What came of many trials, as the table of the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from tests.chaos.trial import Outcome

_HEAD = (
    "| fault | trials | met | units tried | lost | wrong | computed again | median s |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)


def table(outcomes: Sequence[Outcome]) -> str:
    """Give the table in Markdown, a row a fault."""
    by_fault: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_fault.setdefault(outcome.fault, []).append(outcome)
    return "\n".join((*_HEAD, *_rows(by_fault)))


def _rows(by_fault: dict[str, list[Outcome]]) -> Iterator[str]:
    for fault, outcomes in by_fault.items():
        cells = (
            f"`{fault}`",
            len(outcomes),
            sum(outcome.faults for outcome in outcomes),
            sum(outcome.units for outcome in outcomes),
            sum(outcome.lost for outcome in outcomes),
            sum(outcome.wrong for outcome in outcomes),
            sum(outcome.again for outcome in outcomes),
            f"{median(outcome.seconds for outcome in outcomes):.1f}",
        )
        yield f"| {' | '.join(map(str, cells))} |"
