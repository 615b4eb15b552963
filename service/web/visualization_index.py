"""Which feature visualizations there are: they come after the units that they are of."""

from __future__ import annotations

from dataclasses import dataclass

from circuit_atlas.service.web.cache import FreshValue
from circuit_atlas.service.web.responses import digest
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.visualization_states import Listing, listed


@dataclass(frozen=True)
class FeatureIndex:
    """Lists the feature visualizations of an atlas as they were when it was looked at.

    Attributes:
        listing: what the store has of them, failed attempts and plans included.
        version: a digest of the visualizations.
        progress: a digest of all of it.
    """

    listing: Listing
    version: str
    progress: str

    def of(self, layer: str, unit: int) -> tuple[str, ...]:
        """List the visualizations of a unit by name."""
        return self.listing.variants.get((layer, unit), ())

    def first(self, layer: str, unit: int) -> str | None:
        """Name the one that stands for a unit: `positive` where there is one; None for none."""
        names = self.of(layer, unit)
        return "positive" if "positive" in names else next(iter(names), None)

    def has(self, layer: str) -> bool:
        """Tell whether any unit of a layer has a visualization."""
        return any(name == layer for name, _ in self.listing.variants)


def feature_index(objects: Objects, *, fresh_s: float) -> FreshValue[FeatureIndex]:
    """Keep the index of an atlas, read again after a few seconds."""

    def read(last: FeatureIndex | None) -> FeatureIndex:
        del last
        listing = listed(objects)
        # Plans and failures are never altered, and their names are drawn or made of what they hold.
        return FeatureIndex(listing, digest(repr(listing.variants)), digest(repr(listing)))

    return FreshValue(read, fresh_s=fresh_s)
