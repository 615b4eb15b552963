"""Circuits in which every kernel acts: dead ends give way to the next best kernels on a path.

From the smallest kept fraction up, each circuit holds the one before, so that circuits of one score
are nested as they are without this. A circuit of k kernels grows from the one before like this:

1. Kernels are taken in by their score, and those stay that act (see `connectivity`) among all that
   were taken in; as many are taken in as leave k at most.
2. Where fewer stay, the best kernels are added that act as the circuit stands, on paths of its
   kernels; again, until k are there, as what was added may lead others in.
3. Where there is none, a path of several kernels is added that begins and ends in the circuit (of
   none at all: at the image and at the unit) and has room: of the shortest through the m best
   kernels, for the smallest m. Then step 2 again.

Where nothing fits, as where all kernels that can act do, the best of the others fill up: a circuit
keeps as many kernels as without this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.jobs.circuits.connectivity import Call, Connectivity
from circuit_atlas.jobs.circuits.shortest_path import ShortestPath
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.storage_schema.errors import SpecError
from circuit_atlas.storage_schema.ranking import kernels_kept, ranking

Mask = NDArray[np.bool_]


def connected_masks(
    layer: TracedLayer, number: int, scores: NDArray[np.floating], fractions: Sequence[float]
) -> Mask:
    """Makes the connected circuits of one score at every kept fraction.

    Args:
        layer: the layer.
        number: the unit.
        scores: (kernels,), NaN where a kernel cannot reach the unit.
        fractions: descending.

    Returns:
        (fractions, kernels) bool, each inside the one before.
    """
    order = ranking(scores)
    growth = _Growth(Connectivity.of(layer), number, order, len(scores))
    masks = np.zeros((len(fractions), len(scores)), dtype=np.bool_)
    kept = np.zeros(len(scores), dtype=np.bool_)
    for level in reversed(range(len(fractions))):
        kept = growth.grown(kept, kernels_kept(fractions[level], len(order)))
        masks[level] = kept
    return masks


def require_path(layer: TracedLayer, numbers: Sequence[int], fraction: float) -> None:
    """Raises SpecError where a fraction of the kernels that can reach one of some units is too
    small for one path from the image to it."""
    for number in numbers:
        order = np.flatnonzero(layer.reachable(number))
        growth = _Growth(Connectivity.of(layer), number, order, layer.upstream.index.size)
        shortest = len(growth.path(np.zeros(layer.upstream.index.size, np.bool_), len(order)))
        count = kernels_kept(fraction, len(order))
        if count < shortest:
            raise SpecError(
                f"circuits.connected: fraction {fraction:g} keeps {count} of the {len(order):,} "
                f"kernels of unit {layer.index.unit(number).name} of {layer.index.layer!r}, and a "
                f"path from the image to it takes {shortest}: give fractions of "
                f"{_up(shortest / len(order)):g} and more"
            )


class _Growth:
    """One unit's circuits by one ranking."""

    def __init__(
        self, connectivity: Connectivity, number: int, order: NDArray[np.int64], kernels: int
    ) -> None:
        """Takes the positions of the kernels that can reach the unit, best first, and how many
        kernels the axis has."""
        self._connectivity = connectivity
        self._number = number
        self._order = order
        rank = np.full(kernels, len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        self._paths = ShortestPath(connectivity, number, rank)

    def grown(self, kept: Mask, count: int) -> Mask:
        """Grows a circuit to `count` kernels."""
        taken = _last(lambda first: self._with(kept, first).sum() <= count, len(self._order))
        kept = self._with(kept, taken)
        while (missing := count - int(kept.sum())) > 0:
            more = self._order[self._acting_with(kept)[self._order]][:missing]
            if not len(more):
                more = self._best_path(kept, missing)
            if not len(more):
                more = self._order[~kept[self._order]][:missing]
            kept[more] = True
        return kept

    def path(self, kept: Mask, first: int) -> NDArray[np.int64]:
        """Finds a shortest path through the `first` best kernels that begins and ends in the
        circuit, and has none of its kernels."""
        among = np.zeros_like(kept)
        among[self._order[:first]] = True
        carries = self._connectivity.carries(self._number, kept[None])
        needed = self._connectivity.needed(self._number, kept[None])
        return np.asarray(self._paths.find(among & ~kept, carries, needed), dtype=np.int64)

    def _with(self, kept: Mask, first: int) -> Mask:
        """The circuit, with those of the `first` best kernels that act beside it."""
        among = kept.copy()
        among[self._order[:first]] = True
        acting: Mask = self._connectivity.acting(self._number, among[None])[0]
        return acting | kept

    def _acting_with(self, kept: Mask) -> Mask:
        """The kernels outside the circuit that would act in it as it stands."""
        rows = self._connectivity.unit_rows(self._number)
        carries = self._connectivity.carries(self._number, kept[None])
        needed = self._connectivity.needed(self._number, kept[None])
        acting = np.zeros_like(kept)
        for call in self._connectivity.ways:
            if isinstance(call, Call):
                both = call.read(rows, carries[call.source]) & call.written(
                    rows, needed[call.value]
                )
                acting[call.piece] |= both.reshape(-1)
        return acting & ~kept

    def _best_path(self, kept: Mask, most: int) -> NDArray[np.int64]:
        """The path of at most `most` kernels through the fewest of the best; none where there is
        none."""

        def has_none(first: int) -> bool:
            return not 0 < len(self.path(kept, first)) <= most

        last = _last(has_none, len(self._order))
        return self.path(kept, last + 1) if last < len(self._order) else np.zeros(0, np.int64)


def _last(holds: Callable[[int], bool], most: int) -> int:
    """The largest number from 0 to `most` for which it holds, where it holds for 0 and from some
    number on no more."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _up(share: float) -> float:
    """A share rounded up to two digits."""
    unit = 10.0 ** (np.floor(np.log10(share)) - 1)
    return float(np.ceil(share / unit) * unit)
