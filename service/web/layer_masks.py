"""Questions about all circuits of a layer: read once in the background, answered from bits."""

from __future__ import annotations

import threading
from collections.abc import Hashable

import pyarrow as pa

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.masks import Masks
from circuit_atlas.service.analysis.query import stored_fraction
from circuit_atlas.service.analysis.uses import Sought, Use, to_table, use_of
from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.client.layer import Layer
from circuit_atlas.service.web.background_thread import Background
from circuit_atlas.service.web.cache import ByteCache
from circuit_atlas.service.web.errors import BusyError, TooLargeError
from circuit_atlas.service.web.layer_snapshot import LayerSnapshot
from circuit_atlas.service.web.limits import Limits
from circuit_atlas.storage_schema.errors import CorruptError

_STEP = 4


class LayerMasks:
    """The circuits of one criterion and fraction, unit after unit. A chore of `Background`.

    Attributes:
        masks: the circuits read so far.
        problems: units whose circuits are stored and altered, and what is wrong: one of them keeps
            none of the others from being read.
    """

    def __init__(self, layer: Layer, *, keep: float, criterion: str) -> None:
        self.masks = Masks(layer.reader, layer.index, keep=keep, criterion=criterion)
        self.problems: dict[int, str] = {}
        self._wanted: frozenset[int] = frozenset()

    def want(self, view: LayerSnapshot) -> int:
        """Look after the units of a view that have circuits; how many are not read yet."""
        done = (unit for unit, commit in view.commits.items() if commit.state == "done")
        self._wanted = frozenset(done)
        return len(self._missing())

    @property
    def of(self) -> int:
        """Units that have circuits."""
        return len(self._wanted)

    @property
    def read(self) -> int:
        """Units that are read, or cannot be."""
        return len(self._wanted) - len(self._missing())

    def step(self) -> bool:
        """Read a few units; whether more are left."""
        return self.add(_STEP)

    def add(self, most: int) -> bool:
        """Read some units; whether more are left."""
        missing = sorted(self._missing())
        for unit in missing[:most]:
            try:
                self.masks.add(unit)
            except CorruptError as error:
                self.problems[unit] = str(error)
        return len(missing) > most

    def _missing(self) -> frozenset[int]:
        return self._wanted.difference(self.masks.units, self.problems)


class LayerUses:
    """Which units' circuits hold some kernels, unit after unit. A chore of `Background`."""

    def __init__(self, masks: LayerMasks, sought: Sought) -> None:
        self._masks = masks
        self._sought = sought
        self._seen: set[int] = set()
        self._found: dict[int, Use] = {}
        self._problems: dict[int, str] = {}

    @property
    def read(self) -> int:
        """Units that were looked at."""
        return len(self._seen)

    @property
    def problems(self) -> dict[int, str]:
        """Units whose circuits or scores are altered, and what is wrong."""
        return {**self._masks.problems, **self._problems}

    @property
    def table(self) -> pa.Table:
        """The units found so far, as `Layer.uses` gives them."""
        return to_table(list(self._found.values()))

    def missing(self) -> int:
        """Units that have circuits and were not looked at."""
        return self._masks.of - len(self._seen)

    def step(self) -> bool:
        """Look at a few units; whether more are left."""
        return self.add(_STEP)

    def add(self, most: int) -> bool:
        """Look at some units; whether more are left."""
        self._masks.add(most)
        masks = self._masks.masks
        self._seen.update(self._masks.problems)
        new = [unit for unit in masks.units if unit not in self._seen]
        for unit in new[:most]:
            try:
                use = use_of(masks, self._sought, unit)
            except CorruptError as error:
                self._problems[unit] = str(error)
            else:
                if use is not None:
                    self._found[unit] = use
            self._seen.add(unit)
        return self.missing() > 0


class LayerMaskCache:
    """Masks and uses of all layers, within bounds of bytes. Safe to share between threads."""

    def __init__(self, atlas: Atlas, background: Background, limits: Limits) -> None:
        self._atlas = atlas
        self._background = background
        self._limits = limits
        self._masks: ByteCache[LayerMasks] = ByteCache(limits.mask_bytes)
        self._uses: ByteCache[LayerUses] = ByteCache(limits.use_bytes)
        self._lock = threading.Lock()

    def masks(
        self, view: LayerSnapshot, *, keep: float | None, criterion: str | None
    ) -> LayerMasks:
        """The circuits of a layer, as far as they are read.

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
            if found is None:
                found = LayerMasks(view.layer, keep=fraction, criterion=chosen)
                self._masks.put(key, found, size_bytes=size_bytes)
        self._see_to(found, found.want(view))
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
    ) -> tuple[LayerUses, LayerMasks]:
        """Which units' circuits hold kernels of a convolution, as far as they are looked at.

        QueryError as of `masks`, or where there are no such kernels.
        """
        sought = Sought.of(
            view.layer.index.index,
            layer=view.layer.name,
            convolution=convolution,
            out=out,
            channel=channel,
        )
        masks = self.masks(view, keep=keep, criterion=criterion)
        key: Hashable = (id(masks), sought)
        with self._lock:
            found = self._uses.get(key)
            if found is None:
                found = LayerUses(masks, sought)
                self._uses.put(key, found, size_bytes=200 * len(view.layer.index.units) + 1000)
        self._see_to(found, found.missing())
        return found, masks

    def _see_to(self, chore: LayerMasks | LayerUses, missing: int) -> None:
        """Read what is missing: at once where it is little, else in the background."""
        if missing > self._limits.at_once:
            if not self._background.ask(chore, most=self._limits.chores):
                raise BusyError("other layers are being read: come back in a second")
        elif missing:
            chore.add(missing)


def _size_bytes(layer: Layer) -> int:
    """What the bits of all units take at most."""
    index = layer.index.index
    words = sum(-(-convolution.size // 64) for convolution in index.convolutions)
    return len(layer.index.units) * 8 * (words + 2 * len(index.convolutions) + 4)
