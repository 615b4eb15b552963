"""One attempt at a feature visualization: whether it can be stored, and how well it does."""

from __future__ import annotations

import math
from dataclasses import dataclass

from circuit_atlas.jobs.visualization.ascent import Visualization
from circuit_atlas.jobs.visualization.variants import Variant
from circuit_atlas.storage_schema.errors import NonFiniteError, UnitError
from circuit_atlas.storage_schema.keys import Whose

# Root mean square distance from mid-grey, and from its start, below which a visualization shows
# nothing: it starts with .01.
_GREY = 0.05


@dataclass(frozen=True)
class Attempt:
    """A visualization, how well it does, and how it was made.

    Attributes:
        made: the visualization.
        response: the objective at it as stored.
        beyond: by how much that is beyond every image's, in the direction of the variant.
        negative: whether it is made for the smallest response.
        seed, steps, tries: see `FeatureRecord`.
    """

    made: Visualization
    response: float
    beyond: float
    negative: bool
    seed: int
    steps: int
    tries: int

    @property
    def beats_images(self) -> bool:
        """Whether it drives the unit more than any image of the set."""
        return self.beyond > 0

    @property
    def margin(self) -> float:
        """What the better attempt has more of: `beyond`; minus infinity where it cannot be
        stored."""
        return self.beyond if self.made.finite and self._shows else -math.inf

    @property
    def settled(self) -> bool:
        """Whether grey is the answer: nothing gives a smaller response than the start did, as where
        a layer ends in a ReLU, and no image does."""
        return self.negative and self.beyond >= 0

    @property
    def _shows(self) -> bool:
        least = min(self.made.contrast, self.made.change)
        return math.isfinite(self.response) and (least >= _GREY or self.settled)

    def fault(self, variant: Variant, of: Whose, *, tries: int) -> UnitError | None:
        """Says why the best of all attempts cannot be stored; None where it can."""
        what = (
            f"visualization {variant.name!r} of {of} {variant.key.unit} of "
            f"{variant.key.layer!r}, the best of {tries} tries"
        )
        if not (self.made.finite and math.isfinite(self.response)):
            return NonFiniteError(f"{what}, is or gives NaN or infinity: look at the weights")
        if not self._shows:
            steps = "node_steps" if of == "channel" else "steps"
            return UnitError(
                f"{what}, is all but grey (contrast {self.made.contrast:.3f}, at least {_GREY} is "
                "asked for): the response may not depend on the image; else raise "
                f"features.{steps}"
            )
        return None
