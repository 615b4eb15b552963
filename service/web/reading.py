"""The facts of layers' units as the server reads them: in steps, and within a bound of bytes."""

from __future__ import annotations

from collections.abc import Collection

from circuit_atlas.service.analysis.facts import LayerFacts
from circuit_atlas.service.analysis.units import LayerStates
from circuit_atlas.service.web.cache import ByteCache
from circuit_atlas.service.web.layer_snapshot import LayerSnapshot
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.tables import MEASURES

_STEP = 16
_MEASURED = 4


class LayerReading:
    """The facts of one layer's units, growing as they are read. A chore of `Background`.

    Attributes:
        facts: as far as they are read. Polysemanticity is worked out after the facts of all units,
            as it takes longer.
    """

    def __init__(self, snapshot: LayerSnapshot, *, images: int, score_bytes: int) -> None:
        """`images`: of the atlas; `score_bytes`: of a unit's scores of single images, at most."""
        self.facts = LayerFacts(snapshot.layer.reader, snapshot.index, images=images)
        self._score_bytes = score_bytes
        self._commits: dict[int, Commit] = {}

    def want(self, states: LayerStates) -> int:
        """Look after the stored units of a layer; of how many something is not known yet."""
        self._commits = states.commits
        return len(self._commits) - self.measured

    @property
    def read(self) -> int:
        """Units whose facts are read."""
        return len(self._commits.keys() & self.facts.units)

    @property
    def measured(self) -> int:
        """Units whose polysemanticity is known, too."""
        return len(self._commits.keys() & self.facts.polysemanticity.keys())

    @property
    def version(self) -> str:
        """What changes as more is read; another one of an atlas that was mended meanwhile."""
        facts = self.facts
        return f"{len(facts.units)} {len(facts.polysemanticity)} {sorted(facts.problems.copy())}"

    def step(self) -> bool:
        """Read a few units; whether more are left."""
        new = sorted(self._commits.keys() - self.facts.units)
        if new:
            self.facts.read_each(new[:_STEP])
        else:
            self._measure(_MEASURED)
        return len(new) > _STEP or bool(self._unmeasured())

    def read_all(self) -> None:
        """Read what is missing."""
        self.facts.read_each(self._commits.keys())
        self._measure(len(self._commits))

    def read_some(self, units: Collection[int]) -> None:
        """Read facts of some units now, where they are stored: those that a page shows."""
        self.facts.read_each(self._commits.keys() & set(units))

    def _unmeasured(self) -> list[int]:
        return sorted(self._commits.keys() - self.facts.polysemanticity.keys())

    def _measure(self, most: int) -> None:
        for unit in self._unmeasured()[:most]:
            self.facts.measure(unit, most_bytes=self._score_bytes)


class Readings:
    """Facts of all layers within a bound of bytes: the layer asked for longest ago goes first."""

    def __init__(
        self, header: AtlasHeader, *, images: int, size_bytes: int, score_bytes: int
    ) -> None:
        """`images` and `score_bytes` as of `LayerReading`."""
        self._images = images
        self._score_bytes = score_bytes
        self._layers: ByteCache[LayerReading] = ByteCache(size_bytes)
        self._size_bytes = size_bytes
        splits = 2
        rows = len(header.criteria) * len(header.ablations) * splits * len(header.fractions)
        # A row of faithfulness: its measures, the unit, level and kernels, and three short texts.
        self._unit_bytes = 2048 + rows * (8 * len(MEASURES) + 64) + 8 * images

    def of(self, snapshot: LayerSnapshot) -> LayerReading:
        """Those of a layer, as far as they are read."""
        name = snapshot.layer.name
        found = self._layers.get(name) or LayerReading(
            snapshot, images=self._images, score_bytes=self._score_bytes
        )
        # What all its units will take, so that nothing is dropped in between.
        taken = len(snapshot.commits) * self._unit_bytes
        self._layers.put(name, found, size_bytes=min(taken, self._size_bytes))
        return found
