"""Which kernels of a circuit lie on a path from the image to the unit, and which are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.diagram.topology import IMAGE_NODE, Topology

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Paths:
    """Holds kernels and links of a topology as one graph.

    Attributes:
        topology: the nodes.
        start, end: the nodes that each kernel leads from (-1: from nowhere) and to.
    """

    topology: Topology
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], ...]:
        """All edges, kernels before links, by the rank that they lead to: order, from, to, rank."""
        start = np.concatenate([self.start, self.topology.link_from])
        end = np.concatenate([self.end, self.topology.link_to])
        order = np.argsort(self.topology.rank[end], kind="stable")
        return order, start[order], end[order], self.topology.rank[end[order]]

    def on_path(self, kernels: Mask) -> tuple[Mask, Mask]:
        """Tell which kernels and links lie on a path from the image to a unit.

        Args:
            kernels: those that the paths may use.

        Returns:
            A mask of the kernels and one of the links.
        """
        topology = self.topology
        order, start, end, rank = self._sorted
        usable = np.concatenate([kernels, np.ones(len(topology.link_from), np.bool_)])[order]
        usable &= start >= 0
        positions = np.flatnonzero(usable)
        source, target = start[positions], end[positions]
        cuts = [0, *(np.flatnonzero(np.diff(rank[positions])) + 1).tolist(), len(positions)]
        runs = [slice(a, b) for a, b in pairwise(cuts)]
        fed = topology.kind == IMAGE_NODE
        for run in runs:
            fed[target[run][fed[source[run]]]] = True
        used = np.zeros(topology.size, np.bool_)
        used[list(topology.units)] = True
        for run in reversed(runs):
            used[source[run][used[target[run]]]] = True
        found = np.zeros(len(order), np.bool_)
        found[order[positions[fed[source] & used[target]]]] = True
        return found[: len(kernels)], found[len(kernels) :]

    def best(self, kernels: Mask, strength: NDArray[np.float64], most: int) -> Mask:
        """Choose the kernels to draw: on a path through drawn kernels alone, `most` of them at
        most.

        All that lie on a path, if those are not too many. Else the strongest are taken, as many as
        leave no more than `most` on a path; where the strongest make no path of that size at all,
        the strongest path that there is.

        Args:
            kernels: the circuit.
            strength: of each kernel, larger is drawn first; ties by position.
            most: how many.
        """
        candidates = self.on_path(kernels)[0]
        if int(candidates.sum()) <= most:
            return candidates
        order = np.flatnonzero(candidates)
        order = order[np.argsort(-strength[order], kind="stable")]
        few, many = most, len(order)
        reach = most
        while reach < len(order):  # few <= answer < many, by doubling and then by halving
            reach = min(2 * reach, len(order))
            if self._count(order[:reach]) > most:
                many = reach
                break
            few = reach
        while many - few > 1:
            middle = (few + many) // 2
            if self._count(order[:middle]) > most:
                many = middle
            else:
                few = middle
        chosen = self._of(order[:few])
        if chosen.any():
            return chosen
        return self._thinned(self._of(order[:many]), strength, most)

    def _of(self, positions: NDArray[np.int64]) -> Mask:
        mask = np.zeros(len(self.start), np.bool_)
        mask[positions] = True
        return self.on_path(mask)[0]

    def _count(self, positions: NDArray[np.int64]) -> int:
        return int(self._of(positions).sum())

    def _thinned(self, kernels: Mask, strength: NDArray[np.float64], most: int) -> Mask:
        """The weakest kernels dropped while a path is left; nothing where a path needs more than
        `most`."""
        needed = 0  # of the weakest, those that every path needs
        step = max(1, int(kernels.sum()) // 2)
        while int(kernels.sum()) > most:
            positions = np.flatnonzero(kernels)
            positions = positions[np.argsort(strength[positions], kind="stable")]
            if needed >= len(positions):
                return np.zeros_like(kernels)
            trial = kernels.copy()
            trial[positions[needed : needed + step]] = False
            left = self.on_path(trial)[0]
            if left.any():
                kernels, needed = left, min(needed, int(left.sum()))
            elif step > 1:
                step //= 2
            else:
                needed += 1
        return kernels
