"""Which feature visualizations there are: they come after the units that they are of."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from circuit_atlas.service.web.responses import digest
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.visualization_states import Listing, listed


@dataclass(frozen=True)
class FeatureIndex:
    """The feature visualizations of an atlas as they were when it was looked at.

    Attributes:
        listing: what the store has of them, failed attempts and plans included.
        version: a digest of the pictures.
        progress: a digest of all of it.
    """

    listing: Listing
    version: str
    progress: str

    def of(self, layer: str, unit: int) -> tuple[str, ...]:
        """Names of the pictures of a unit."""
        return self.listing.variants.get((layer, unit), ())

    def first(self, layer: str, unit: int) -> str | None:
        """The picture that stands for a unit: `positive` where there is one; None for none."""
        names = self.of(layer, unit)
        return "positive" if "positive" in names else next(iter(names), None)

    def has(self, layer: str) -> bool:
        """Whether any unit of a layer has a picture."""
        return any(name == layer for name, _ in self.listing.variants)


class Features:
    """Looks at which there are, again after a few seconds. Safe to share between threads."""

    def __init__(self, objects: Objects, *, fresh_s: float) -> None:
        self._objects = objects
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._kept: tuple[float, FeatureIndex] | None = None

    def index(self) -> FeatureIndex:
        """Those there are."""
        kept = self._kept
        if kept is not None and (time.monotonic() - kept[0] < self._fresh_s or self._lock.locked()):
            return kept[1]
        with self._lock:
            kept = time.monotonic(), self._look()
            self._kept = kept
        return kept[1]

    def _look(self) -> FeatureIndex:
        found = listed(self._objects)
        # Plans and failures are never altered, and their names are drawn or made of what they hold.
        return FeatureIndex(found, digest(repr(found.variants)), digest(repr(found)))
