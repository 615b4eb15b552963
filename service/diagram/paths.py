"""Which kernels of a circuit lie on a path from the image to the unit."""

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
    def by_rank(self) -> tuple[NDArray[np.int64], ...]:
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
        order, start, end, rank = self.by_rank
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
