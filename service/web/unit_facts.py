"""Facts of every unit of a layer, read once: what lists, charts and searches are made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.service.client.atlas import Layer
from circuit_atlas.service.web.cache import ByteCache
from circuit_atlas.service.web.layer_snapshot import LayerSnapshot
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import AtlasError
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.version import NETWORK_SINCE

SPLITS = ("scoring", "held_out")
MEASURES = ("pearson", "spearman", "relative_l1", "change_at_maximum")
_STEP = 4
_THREADS = 8


Box = tuple[int, int, int, int]
"""Top, left, bottom, right: pixels of the network's input, half-open."""


@dataclass(frozen=True)
class Protocol:
    """Which of the stored faithfulness rows are meant."""

    criterion: str
    ablation: str
    split: str


@dataclass(frozen=True)
class UnitDigest:
    """Facts of one stored unit.

    Attributes:
        measures: `MEASURES`, NaN where undefined or not stored. Shape: (measures, protocols,
            levels).
        kernels: of the circuit of each level. Shape: (levels,).
        responses: response to each image, NaN where there is none. Shape: (images,).
        top: the row of the responses table with rank 0, or None.
        groups: by criterion, how many sub-feature groups, and their silhouette.
        problem: why the unit could not be read, or None.
    """

    measures: NDArray[np.float64]
    kernels: NDArray[np.int64]
    responses: NDArray[np.float64]
    top: dict[str, Any] | None
    groups: dict[str, tuple[int, float | None]]
    problem: str | None = None

    @property
    def r(self) -> NDArray[np.float64]:
        """Pearson r. Shape: (protocols, levels)."""
        return self.measures[0]


class LayerDigests:
    """Digests of one layer's units, growing as they are read. A chore of `Background`.

    Attributes:
        units: facts by unit.
        polysemanticity: by unit, and by criterion; None where it is undefined. It is worked out
            after the facts of all units, as it takes longer.
    """

    def __init__(self, layer: Layer, *, images: int, score_bytes: int) -> None:
        """`images`: of the atlas; `score_bytes`: of a unit's scores of single images, at most."""
        atlas = layer.atlas
        self.layer = layer
        self.units: dict[int, UnitDigest] = {}
        self.polysemanticity: dict[int, dict[str, float | None]] = {}
        self.protocols = protocols(atlas.header)
        self.fractions = atlas.header.fractions
        self._atlas = atlas
        self._images = images
        self._score_bytes = score_bytes
        self._commits: dict[int, Commit] = {}

    def want(self, view: LayerSnapshot) -> int:
        """Look after the units of a view; of how many something is not known yet."""
        self._commits = view.commits
        return len(self._commits) - self.measured

    @property
    def read(self) -> int:
        """Units whose facts are read."""
        return len(self._commits.keys() & self.units.keys())

    @property
    def measured(self) -> int:
        """Units whose polysemanticity is known, too."""
        return len(self._commits.keys() & self.polysemanticity.keys())

    @property
    def version(self) -> str:
        """What changes as more is read; another one of an atlas that was mended meanwhile."""
        altered = [
            unit for unit, facts in sorted(self.units.copy().items()) if facts.problem is not None
        ]
        return f"{len(self.units)} {len(self.polysemanticity)} {altered}"

    def step(self) -> bool:
        """Read a few units; whether more are left."""
        new = [commit for unit, commit in self._commits.items() if unit not in self.units]
        if new:
            self._read(new[:_STEP])
        else:
            for unit in self._unmeasured()[:_STEP]:
                self._measure(unit)
        return len(new) > _STEP or bool(self._unmeasured())

    def read_all(self) -> None:
        """Read what is missing."""
        self._read([commit for unit, commit in self._commits.items() if unit not in self.units])
        for unit in self._unmeasured():
            self._measure(unit)

    def read_some(self, units: Iterable[int]) -> None:
        """Read facts of some units now, where they are stored: those that a page shows."""
        known = self._commits.keys() - self.units.keys()
        self._read([self._commits[unit] for unit in units if unit in known])

    def _read(self, new: Sequence[Commit]) -> None:
        """Several at a time: object stores answer late."""
        if not new:
            return
        with ThreadPoolExecutor(min(_THREADS, len(new))) as pool:
            for commit, found in zip(new, pool.map(self._digest, new), strict=True):
                self.units[commit.unit] = found

    def _unmeasured(self) -> list[int]:
        return sorted(self._commits.keys() - self.polysemanticity.keys())

    def _measure(self, unit: int) -> None:
        known = self.units[unit]
        commit = self._commits[unit]
        found: dict[str, float | None] = {}
        for criterion, (groups, _) in known.groups.items():
            if groups == 1:
                found[criterion] = 0.0
            elif 8 * commit.top_images * self.layer.index.index.size > self._score_bytes:
                found[criterion] = None
            else:
                try:
                    measured = self.layer.unit(unit).polysemanticity(criterion=criterion)
                    found[criterion] = measured.value
                except AtlasError:
                    # Told where the unit itself is asked for.
                    found[criterion] = None
        self.polysemanticity[unit] = found

    def _digest(self, commit: Commit) -> UnitDigest:
        levels = len(self._atlas.header.fractions)
        measures = np.full((len(MEASURES), len(self.protocols), levels), np.nan)
        kernels = np.zeros(levels, np.int64)
        responses = np.full(self._images, np.nan)
        groups: dict[str, tuple[int, float | None]] = {}
        top: dict[str, Any] | None = None
        reader = self._atlas.reader
        try:
            table = reader.responses(commit)
            ids = table["image"].to_numpy()
            responses[ids] = table["response"].to_numpy()
            top = first_of(table)
            if commit.state == "done":
                self._fill(reader.faithfulness(commit), measures, kernels)
                if self._atlas.header.schema >= NETWORK_SINCE:
                    groups = _groups(reader.groups(commit))
        except AtlasError as error:
            problem = " ".join(str(error).split())
            return UnitDigest(measures, kernels, responses, None, {}, problem)
        return UnitDigest(measures, kernels, responses, top, groups)

    def _fill(
        self, table: pa.Table, measures: NDArray[np.float64], kernels: NDArray[np.int64]
    ) -> None:
        place = {protocol: number for number, protocol in enumerate(self.protocols)}
        names = ("criterion", "ablation", "split", "level", "kernels", *MEASURES)
        columns = (table[name].to_pylist() for name in names)
        for criterion, ablation, split, level, count, *values in zip(*columns, strict=True):
            kernels[level] = count
            number = place[Protocol(criterion, ablation, split)]
            measures[:, number, level] = [np.nan if value is None else value for value in values]


class Digests:
    """Digests of all layers within a bound of bytes: the layer asked for longest ago goes first."""

    def __init__(self, *, images: int, size_bytes: int, score_bytes: int) -> None:
        """`images` and `score_bytes` as of `LayerDigests`."""
        self._images = images
        self._score_bytes = score_bytes
        self._layers: ByteCache[LayerDigests] = ByteCache(size_bytes)
        self._size_bytes = size_bytes

    def of(self, view: LayerSnapshot) -> LayerDigests:
        """Those of a layer, as far as they are read."""
        name = view.layer.name
        found = self._layers.get(name) or LayerDigests(
            view.layer, images=self._images, score_bytes=self._score_bytes
        )
        # What all its units will take, so that nothing is dropped in between.
        each = 2048 + 8 * len(MEASURES) * len(found.protocols) * len(found.fractions)
        taken = len(view.commits) * (each + 8 * self._images)
        self._layers.put(name, found, size_bytes=min(taken, self._size_bytes))
        return found


def protocols(header: AtlasHeader) -> tuple[Protocol, ...]:
    """Every protocol that an atlas measures by."""
    return tuple(
        Protocol(*names) for names in itertools.product(header.criteria, header.ablations, SPLITS)
    )


def first_of(responses: pa.Table) -> dict[str, Any] | None:
    """The row of the image with the largest response, or None where no image is ranked."""
    ranks = responses["rank"].to_pylist()
    if 0 not in ranks:
        return None
    row: dict[str, Any] = responses.slice(ranks.index(0), 1).to_pylist()[0]
    return row


def box_of(row: Mapping[str, Any]) -> Box:
    """The receptive field of a row of responses."""
    return row["box_top"], row["box_left"], row["box_bottom"], row["box_right"]


def _groups(table: pa.Table) -> dict[str, tuple[int, float | None]]:
    names = ("criterion", "groups", "silhouette")
    return {
        criterion: (groups, silhouette)
        for criterion, groups, silhouette in zip(
            *(table[name].to_pylist() for name in names), strict=True
        )
    }
