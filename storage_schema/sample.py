"""Which images a unit is computed on, where that is not all of them.

Of each split, a unit has the images that it responds to most, and some drawn from the others. Every
one of them counts as one image, in scores and in faithfulness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from circuit_atlas.storage_schema.bounds import Count

Why = Literal["top", "random"]
"""Why an image is among a unit's: for its response, or by chance."""


@dataclass(frozen=True)
class Drawn:
    """Says how many images of a split a unit has."""

    top: Annotated[Count, "So many with the largest response."]
    random: Annotated[Count, "So many more, drawn from the others by the seed."]


@dataclass(frozen=True)
class Sample:
    """Says which images of each split a unit has."""

    scoring: Annotated[Drawn | None, "Of the scoring images; null: all of them."]
    held_out: Annotated[Drawn | None, "Of the held-out images; null: all of them."]


def images_of_unit(sample: Sample | None, *, scoring: int, held_out: int) -> int:
    """Count the images that a unit is computed on, where there are so many of each split."""
    if sample is None:
        return scoring + held_out
    pairs = ((sample.scoring, scoring), (sample.held_out, held_out))
    return sum(n if drawn is None else min(n, drawn.top + drawn.random) for drawn, n in pairs)
