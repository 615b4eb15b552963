"""Questions about all circuits of a layer: read together once, answered from bits."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.masks import Masks
from circuit_atlas.service.analysis.query import stored_fraction
from circuit_atlas.service.analysis.uses import Sought, Use, to_table, use_of
from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.client.layer import Layer
from circuit_atlas.service.web.cache import ByteCache
from circuit_atlas.service.web.errors import TooLargeError
from circuit_atlas.service.web.layer_snapshot import LayerSnapshot
from circuit_atlas.service.web.limits import Limits
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import CorruptError

_THREADS = 4


class LayerMasks:
    """Holds the circuits of one criterion and fraction. Safe to share between threads.

    Attributes:
        masks: the circuits.
        problems: units whose circuits are stored and altered, and what is wrong: one of them keeps
            none of the others from being read.
        commits: of the units that were read, or cannot be.
    """

    def __init__(self, layer: Layer, *, keep: float, criterion: str) -> None:
        """Nothing is read yet."""
        self.masks = Masks(layer.reader, layer.index, keep=keep, criterion=criterion)
        self.problems: dict[int, str] = {}
        self.commits: dict[int, Commit] = {}
        self._lock = threading.Lock()

    def read(self, commits: Mapping[int, Commit]) -> None:
        """Read the circuits of units that were not read before."""
        with self._lock:
            new = {
                unit: commit
                for unit, commit in commits.items()
                if commit.state == "done" and unit not in self.commits
            }
            try:
                self.masks.add_all(new.keys())
            except CorruptError:
                for unit in new:
                    self._read_one(unit)
            self.commits = {**self.commits, **new}  # as others may look at it

    def _read_one(self, unit: int) -> None:
        try:
            self.masks.add(unit)
        except CorruptError as error:
            self.problems[unit] = str(error)


@dataclass(frozen=True)
class LayerUses:
    """Says which units' circuits hold some kernels.

    Attributes:
        table: as `Layer.uses` gives it.
        problems: units whose circuits or scores are altered, and what is wrong.
        masks: the circuits.
    """

    table: pa.Table
    problems: dict[int, str]
    masks: Masks


class LayerMaskCache:
    """Masks and uses of all layers, within bounds of bytes. Safe to share between threads."""

    def __init__(self, atlas: Atlas, limits: Limits) -> None:
        self._atlas = atlas
        self._limits = limits
        self._masks: ByteCache[LayerMasks] = ByteCache(limits.mask_bytes)
        self._uses: ByteCache[LayerUses] = ByteCache(limits.use_bytes)
        self._lock = threading.Lock()

    def masks(
        self, view: LayerSnapshot, *, keep: float | None, criterion: str | None
    ) -> LayerMasks:
        """Return the circuits of a layer: what is new since they were last asked for is read now.

        Raises:
            QueryError: no such criterion, or a fraction that is not stored: each takes a pass over
                the whole layer.
            TooLargeError: the circuits take more memory than is allowed.
        """
        chosen = arguments.criterion(self._atlas.reader, criterion)
        fraction = stored_fraction(self._atlas.reader, keep)
        key = (view.layer.name, chosen, fraction)
        size_bytes = _size_bytes(view.layer)
        if size_bytes > self._limits.mask_bytes:
            raise TooLargeError(
                f"the circuits of {view.layer.name} take {size_bytes / 2**20:,.0f} MiB together, "
                f"more than this server has for them ({self._limits.mask_bytes / 2**20:,.0f}): "
                "ask from Python, with Layer.masks"
            )
        with self._lock:
            found = self._masks.get(key)
            # Circuits of a unit that was deleted, or built again, are read anew with the others.
            if found is None or not found.commits.items() <= view.commits.items():
                found = LayerMasks(view.layer, keep=fraction, criterion=chosen)
                self._masks.put(key, found, size_bytes=size_bytes)
        found.read(view.commits)
        return found

    def uses(
        self,
        view: LayerSnapshot,
        *,
        keep: float | None,
        criterion: str | None,
        convolution: str,
        out: int | None,
        channel: int | None,
    ) -> LayerUses:
        """Tell which units' circuits hold kernels of a convolution; reads the scores of those.

        QueryError as of `masks`, or where there are no such kernels.
        """
        sought = Sought.of(
            view.layer.index.index,
            layer=view.layer.name,
            convolution=convolution,
            out=out,
            channel=channel,
        )
        of_layer = self.masks(view, keep=keep, criterion=criterion)
        masks = of_layer.masks
        key = (view.layer.name, view.version, masks.criterion, masks.keep, sought)
        found = self._uses.get(key)
        if found is None:
            found = _uses(of_layer, sought)
            self._uses.put(key, found, size_bytes=200 * len(view.layer.index.units) + 1000)
        return found


def _uses(of_layer: LayerMasks, sought: Sought) -> LayerUses:
    """Look at each circuit, several at a time: object stores answer late."""
    masks = of_layer.masks
    problems = dict(of_layer.problems)

    def look(unit: int) -> Use | None:
        try:
            return use_of(masks, sought, unit)
        except CorruptError as error:
            problems[unit] = str(error)
            return None

    with ThreadPoolExecutor(_THREADS) as pool:
        found = [use for use in pool.map(look, sorted(masks.units)) if use is not None]
    return LayerUses(to_table(found), problems, masks)


def _size_bytes(layer: Layer) -> int:
    """Return what the bits of all units take at most."""
    index = layer.index.index
    words = sum(-(-convolution.size // 64) for convolution in index.convolutions)
    return len(layer.index.units) * 8 * (words + 2 * len(index.convolutions) + 4)
