"""Which circuits a question over a layer is about, and which of them are faithful enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.service.analysis import arguments
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.ranking import KEEP
from circuit_atlas.storage_schema.reader import Reader

THRESHOLD = 0.9
"""The Pearson r that is enough where none is given."""


@dataclass(frozen=True)
class CircuitQuery:
    """Says which faithfulness rows are meant, and which r is enough.

    Attributes:
        criterion: the score that chose the circuits.
        ablation: what stood for dropped kernels.
        split: of the images.
        threshold: the Pearson r that a circuit has to reach.
        level: the sparsity level of the circuits that are compared, an index of the fractions.
        fraction: the kept fraction of that level.
    """

    criterion: str
    ablation: str
    split: str
    threshold: float
    level: int
    fraction: float

    @classmethod
    def of(
        cls,
        reader: Reader,
        *,
        criterion: str | None = None,
        ablation: str | None = None,
        split: str | None = None,
        threshold: float = THRESHOLD,
        fraction: float | None = None,
    ) -> CircuitQuery:
        """Check a question against the atlas.

        Args:
            reader: of the atlas.
            criterion: one of the atlas' criteria. Default: its first.
            ablation: one of its ablations. Default: its first.
            split: `held_out` or `scoring`. Default: `held_out` where there are such images.
            threshold: from -1 to 1. Default: 0.9.
            fraction: one of the stored fractions. Default: the nearest to a tenth.

        Raises:
            QueryError: there is no such criterion, ablation or split, or the threshold is no r.
        """
        if not isinstance(threshold, int | float) or not -1 <= threshold <= 1:
            raise QueryError(f"threshold={threshold!r} is no r: give a number from -1 to 1")
        fractions = reader.header.fractions
        level = nearest_level(fractions, KEEP) if fraction is None else fractions.index(fraction)
        return cls(
            arguments.criterion(reader, criterion),
            arguments.ablation(reader, ablation),
            arguments.split(reader, split),
            float(threshold),
            level,
            fractions[level],
        )

    def rows(self, faithfulness: pa.Table) -> pa.Table:
        """Take the rows of a faithfulness table that are of this criterion, ablation and split."""
        # Masks and no expression: Arrow would answer that with threads of its own.
        wanted = pc.and_(
            pc.equal(faithfulness["criterion"], self.criterion),
            pc.and_(
                pc.equal(faithfulness["ablation"], self.ablation),
                pc.equal(faithfulness["split"], self.split),
            ),
        )
        return faithfulness.filter(wanted)


def nearest_level(fractions: Sequence[float], keep: float) -> int:
    """Return the sparsity level whose kept fraction is nearest to `keep` in ratio, ties to the
    smaller.

    In ratio, since fractions span orders of magnitude and are drawn on a logarithmic axis: of .3
    and .02, .3 is nearer to a tenth, being three times as much where .02 is a fifth.

    >>> nearest_level((0.3, 0.02), 0.1), nearest_level((0.2, 0.05), 0.1)
    (0, 1)

    Raises:
        QueryError: `keep` is outside (0, 1].
    """
    if not 0 < keep <= 1:
        raise QueryError(f"keep={keep!r} is outside (0, 1]: give a fraction such as 0.1")
    # To nine digits, so that 2 and 1/2 are equally far in floating point, too.
    return min(
        range(len(fractions)),
        key=lambda level: (round(abs(math.log(fractions[level] / keep)), 9), fractions[level]),
    )


def nearest_fraction(reader: Reader, keep: float = KEEP) -> float:
    """Return the stored fraction that is nearest to `keep`, see `nearest_level`."""
    fractions = reader.header.fractions
    return fractions[nearest_level(fractions, keep)]


def stored_fraction(reader: Reader, keep: float | None, *, what: str = "keep") -> float:
    """Return the stored fraction that is asked for, the nearest to a tenth where none is.

    QueryError, with those there are, where it is not stored.
    """
    if keep is None:
        return nearest_fraction(reader)
    fractions = reader.header.fractions
    for fraction in fractions:
        if math.isclose(fraction, keep, rel_tol=1e-9):
            return fraction
    raise QueryError(
        f"{what}={keep:g} is no stored fraction, and over a whole layer only these can be asked: "
        + ", ".join(f"{fraction:g}" for fraction in fractions)
    )
