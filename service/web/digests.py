"""Facts of every unit of a layer, read once: what lists, charts and searches are made of."""

from __future__ import annotations

import itertools
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.service.client import Atlas
from circuit_atlas.service.web.cache import ByteCache
from circuit_atlas.service.web.views import LayerView
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import AtlasError
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.version import NETWORK_SINCE

SPLITS = ("scoring", "held_out")
_STEP = 8
_THREADS = 8


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
        r: Pearson r, NaN where it is undefined or not stored. Shape: (protocols, rungs).
        kernels: of the circuit of each rung. Shape: (rungs,).
        responses: response to each image, NaN where there is none. Shape: (images,).
        top: the row of the responses table with rank 0, or None.
        groups: by criterion, how many sub-feature groups, and their silhouette.
        problem: why the unit could not be read, or None.
    """

    r: NDArray[np.float64]
    kernels: NDArray[np.int64]
    responses: NDArray[np.float32]
    top: dict[str, Any] | None
    groups: dict[str, tuple[int, float | None]]
    problem: str | None = None

    @property
    def size_bytes(self) -> int:
        """About what it takes."""
        return 1024 + self.r.nbytes + self.kernels.nbytes + self.responses.nbytes


class LayerDigests:
    """Digests of one layer's units, growing as they are read. A chore of `Background`."""

    def __init__(self, atlas: Atlas, layer: str, *, images: int) -> None:
        self.layer = layer
        self.units: dict[int, UnitDigest] = {}
        self.protocols = protocols(atlas.header)
        self.fractions = atlas.header.fractions
        self._atlas = atlas
        self._images = images
        self._commits: dict[int, Commit] = {}

    def want(self, view: LayerView) -> int:
        """Look after the units of a view; how many of them are not read yet."""
        self._commits = view.commits
        return len(self._commits.keys() - self.units.keys())

    def step(self) -> bool:
        """Read a few units; whether more are left."""
        self.read(_STEP)
        return bool(self._commits.keys() - self.units.keys())

    def read(self, most: int) -> None:
        """Read up to some units, several at a time: object stores answer late."""
        new = [
            commit
            for unit, commit in itertools.islice(
                ((u, c) for u, c in self._commits.items() if u not in self.units), most
            )
        ]
        if not new:
            return
        with ThreadPoolExecutor(min(_THREADS, len(new))) as pool:
            for commit, found in zip(new, pool.map(self._digest, new), strict=True):
                self.units[commit.unit] = found

    @property
    def size_bytes(self) -> int:
        """About what they take."""
        return sum(unit.size_bytes for unit in list(self.units.values()))

    def _digest(self, commit: Commit) -> UnitDigest:
        rungs = len(self._atlas.header.fractions)
        r = np.full((len(self.protocols), rungs), np.nan)
        kernels = np.zeros(rungs, np.int64)
        responses = np.full(self._images, np.nan, np.float32)
        groups: dict[str, tuple[int, float | None]] = {}
        top: dict[str, Any] | None = None
        reader = self._atlas.reader
        try:
            table = reader.responses(commit)
            ids = table["image"].to_numpy()
            responses[ids] = table["response"].to_numpy()
            ranks = table["rank"].to_pylist()
            if 0 in ranks:
                top = table.slice(ranks.index(0), 1).to_pylist()[0]
            if commit.state == "done":
                self._fill(reader.faithfulness(commit), r, kernels)
                if self._atlas.header.schema >= NETWORK_SINCE:
                    groups = _groups(reader.groups(commit))
        except AtlasError as error:
            return UnitDigest(r, kernels, responses, None, {}, " ".join(str(error).split()))
        return UnitDigest(r, kernels, responses, top, groups)

    def _fill(self, table: pa.Table, r: NDArray[np.float64], kernels: NDArray[np.int64]) -> None:
        place = {protocol: number for number, protocol in enumerate(self.protocols)}
        columns = (
            table[name].to_pylist()
            for name in ("criterion", "ablation", "split", "rung", "kernels", "pearson")
        )
        for criterion, ablation, split, rung, count, pearson in zip(*columns, strict=True):
            kernels[rung] = count
            if pearson is not None:
                r[place[Protocol(criterion, ablation, split)], rung] = pearson


class Digests:
    """Digests of all layers within a bound of bytes: the layer asked for longest ago goes first."""

    def __init__(self, atlas: Atlas, *, images: int, size_bytes: int) -> None:
        self._atlas = atlas
        self._images = images
        self._layers: ByteCache[LayerDigests] = ByteCache(size_bytes)
        self._size_bytes = size_bytes

    def of(self, view: LayerView) -> LayerDigests:
        """Those of a layer, as far as they are read."""
        name = view.layer.name
        found = self._layers.get(name) or LayerDigests(self._atlas, name, images=self._images)
        # What all its units will take, so that nothing is dropped in between.
        each = 1024 + 8 * len(found.protocols) * len(self._atlas.header.fractions)
        taken = len(view.commits) * (each + 4 * self._images) + sys.getsizeof(found)
        self._layers.put(name, found, size_bytes=min(taken, self._size_bytes))
        return found


def protocols(header: AtlasHeader) -> tuple[Protocol, ...]:
    """Every protocol that an atlas measures by."""
    return tuple(
        Protocol(*names) for names in itertools.product(header.criteria, header.ablations, SPLITS)
    )


def _groups(table: pa.Table) -> dict[str, tuple[int, float | None]]:
    names = ("criterion", "groups", "silhouette")
    return {
        criterion: (groups, silhouette)
        for criterion, groups, silhouette in zip(
            *(table[name].to_pylist() for name in names), strict=True
        )
    }
