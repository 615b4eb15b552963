"""What a comparison found: of what, and the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True)
class Subject:
    """Says what was compared, and how.

    Attributes:
        model: the model's reference.
        layer: the layer's name.
        explained: where its units' responses are taken, in words.
        ablation: what stood for dropped kernels.
        connected: whether kernels on dead ends gave way to others that act.
        criteria: that were compared.
        images: how many images each split has, the one that texts tell of first.
        fractions: kept, largest first.
        level: index of the one that texts tell of.
        units: how many were compared.
        draws: of each bootstrap.
        seed: of the draws.
    """

    model: str
    layer: str
    explained: str
    ablation: str
    connected: bool
    criteria: tuple[str, ...]
    images: Mapping[str, int]
    fractions: tuple[float, ...]
    level: int
    units: int
    draws: int
    seed: int

    @property
    def split(self) -> str:
        """Return the split that texts tell of."""
        return next(iter(self.images))

    @property
    def fraction(self) -> float:
        """Return the kept fraction that texts tell of."""
        return self.fractions[self.level]


@dataclass(frozen=True)
class Findings:
    """Holds the tables, whose columns are declared in `storage_schema.comparison_columns`.

    Attributes:
        subject: what was compared.
        table: criteria at each kept fraction, on each split: `COMPARISON`.
        areas: criteria over all fractions: `AREAS`.
        pairs: each two criteria: `PAIRS`.
        cost: of choosing kernels: `COST`.
        units: r of each unit, which all the rest is made of: `COMPARED_UNITS`.
        notes: what is missing, and what to do about it, a line each.
    """

    subject: Subject
    table: pa.Table = field(repr=False)
    areas: pa.Table = field(repr=False)
    pairs: pa.Table = field(repr=False)
    cost: pa.Table = field(repr=False)
    units: pa.Table = field(repr=False)
    notes: tuple[str, ...]

    @property
    def tables(self) -> dict[str, pa.Table]:
        """Return all tables by name."""
        names = ("table", "areas", "pairs", "cost", "units")
        return {name: getattr(self, name) for name in names}
