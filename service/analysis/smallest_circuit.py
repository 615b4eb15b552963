"""The smallest stored circuit of a unit that is faithful enough."""

from __future__ import annotations

from numbers import Real

from circuit_atlas.service.analysis.query import CircuitQuery
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.reader import Reader


def smallest_fraction(
    reader: Reader, commit: Commit, *, r: float, criterion: str, split: str | None
) -> float:
    """Return the smallest stored fraction whose circuit's Pearson r reaches `r`.

    Args:
        reader: of the atlas.
        commit: of a unit that is done.
        r: from -1 to 1.
        criterion: which score chose the circuits.
        split: of the images that r was measured on. Default: `held_out` where there are such.

    Raises:
        QueryError: no circuit of the unit reaches it, which says what the best one does, or `r` is
            out of range.
    """
    if not isinstance(r, Real) or isinstance(r, bool) or not -1 <= float(r) <= 1:
        raise QueryError(f"r={r!r} is no Pearson r: give a number from -1 to 1, such as 0.9")
    query = CircuitQuery.of(reader, criterion=criterion, split=split)
    rows = query.rows(reader.faithfulness(commit)).to_pylist()
    measured = [(row["fraction"], row["pearson"]) for row in rows if row["pearson"] is not None]
    reached = [fraction for fraction, pearson in measured if pearson >= r]
    if reached:
        return float(min(reached))
    where = f"unit {commit.unit} of {commit.layer}"
    what = f"on {query.split.replace('_', '-')} images with {query.ablation} ablation"
    if not measured:
        raise QueryError(f"r of the {criterion} circuits of {where} is undefined {what}")
    fraction, best = max(measured, key=lambda pair: (pair[1], -pair[0]))
    raise QueryError(
        f"no stored {criterion} circuit of {where} reaches r={float(r):g} {what}: the most is "
        f"{best:.3f}, with keep={fraction:g}"
    )
