"""Which feature images there are: they come after the units that they are of."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from circuit_atlas.service.web.answers import digest
from circuit_atlas.storage_schema import features, layout
from circuit_atlas.storage_schema.objects import Objects


@dataclass(frozen=True)
class FeatureIndex:
    """The feature images of an atlas as they were when it was looked at.

    Attributes:
        variants: layer (or convolution) and unit (or channel) -> names of its pictures.
        version: a digest of them all.
    """

    variants: dict[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)
    version: str = ""

    def of(self, layer: str, unit: int) -> tuple[str, ...]:
        """Names of the pictures of a unit."""
        return self.variants.get((layer, unit), ())

    def first(self, layer: str, unit: int) -> str | None:
        """The picture that stands for a unit: `positive` where there is one; None for none."""
        names = self.of(layer, unit)
        return "positive" if "positive" in names else next(iter(names), None)

    def has(self, layer: str) -> bool:
        """Whether any unit of a layer has a picture."""
        return any(name == layer for name, _ in self.variants)


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
        found: dict[tuple[str, int], list[str]] = {}
        for entry in self._objects.list(features.FEATURES):
            named = features.recorded(entry.path)
            if named is not None:
                layer = layout.unescape(entry.path.split("/")[1])
                found.setdefault((layer, named[0]), []).append(named[1])
        variants = {key: tuple(sorted(names)) for key, names in sorted(found.items())}
        return FeatureIndex(variants, digest(repr(variants)))
