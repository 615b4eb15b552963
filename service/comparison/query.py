"""Which criteria, units and circuits a comparison is of, and how its intervals are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.query import nearest_level, stored_fraction
from circuit_atlas.service.analysis.units import LayerStates, find_unit, stored_commit
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.reader import Reader

DRAWS = 2000
"""Draws of a bootstrap where none are given."""
RANDOM = "random"
"""The criterion that is the floor of every other."""
MOST_DRAWS = 100_000


@dataclass(frozen=True)
class ComparisonQuery:
    """Says what is compared.

    Attributes:
        criteria: in the order of the atlas, unless others were given.
        ablation: what stood for dropped kernels.
        splits: of the images, held-out ones first where there are such.
        level: the sparsity level that texts tell of, an index of the header's fractions.
        draws: of each bootstrap.
        seed: decides them.
    """

    criteria: tuple[str, ...]
    ablation: str
    splits: tuple[str, ...]
    level: int
    draws: int
    seed: int

    @classmethod
    def of(
        cls,
        reader: Reader,
        *,
        criteria: Sequence[str] | None = None,
        ablation: str | None = None,
        keep: float | None = None,
        draws: int = DRAWS,
        seed: int = 0,
    ) -> ComparisonQuery:
        """Check a question against the atlas; QueryError where it cannot be answered.

        Args:
            reader: of the atlas.
            criteria: two or more of the atlas' criteria. Default: all.
            ablation: one of its ablations. Default: its first.
            keep: one of its stored fractions. Default: the nearest to a tenth.
            draws: from 1 to 100,000. Default: 2,000.
            seed: from 0 up. Default: 0.
        """
        if criteria is not None:
            criteria = arguments.several(criteria, what="criteria")
        given = reader.header.criteria if criteria is None else tuple(dict.fromkeys(criteria))
        known = tuple(arguments.criterion(reader, name) for name in given)
        if len(known) < 2:
            named = f"criterion {known[0]!r}"
            raise QueryError(
                f"{named} alone cannot be compared: name two or more under `criteria` of "
                '[circuits], such as ["actgrad", "learned", "random"], and build into another store'
                if criteria is None
                else f"{named} alone cannot be compared: give two or more of "
                + ", ".join(reader.header.criteria)
            )
        draws = arguments.at_least(draws, 1, what="draws")
        if draws > MOST_DRAWS:
            raise QueryError(f"draws={draws} is too large: give {MOST_DRAWS:,} or fewer")
        found = set(reader.images(columns=["split"])["split"].to_pylist())
        fractions = reader.header.fractions
        return cls(
            criteria=known,
            ablation=arguments.ablation(reader, ablation),
            splits=tuple(name for name in ("held_out", "scoring") if name in found),
            level=nearest_level(fractions, stored_fraction(reader, keep)),
            draws=draws,
            seed=arguments.at_least(seed, 0, what="seed"),
        )


def compared_commits(
    reader: Reader, states: LayerStates, units: Sequence[int | str] | None
) -> dict[int, Commit]:
    """Return the commits of the units to compare, ascending: of all that are done, or of some.

    QueryError where none is done, or one of those that are asked for is not stored or dead.
    """
    index = states.index
    if units is None:
        done = {unit: c for unit, c in sorted(states.commits.items()) if c.state == "done"}
        if not done:
            raise QueryError(
                f"no unit of {index.layer!r} has a circuit: `circuit-atlas status "
                f"{reader.objects.location}` says why, and what to run"
            )
        return done
    given = arguments.several(units, what="units")
    numbers = sorted({find_unit(index, unit).number for unit in given})
    commits = {n: stored_commit(reader, index, index.unit(n)) for n in numbers}
    for commit in commits.values():
        commit.require_circuit()
    return commits
