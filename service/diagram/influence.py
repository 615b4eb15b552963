"""Which whole paths carry a unit's response, and the fewest kernels that carry a share of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.diagram.paths import Mask, Paths
from circuit_atlas.service.diagram.topology import IMAGE_NODE, Topology

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MANY = 20_000
"""Kernels above which a quarter of them are dropped at once, and below it a fiftieth."""


def whole_paths(
    paths: Paths,
    kernels: Mask,
    weight: Floats,
    *,
    most: int,
    share: float = 1.0,
    among: Mask | None = None,
) -> Mask:
    """Choose the fewest kernels whose paths carry a share of the unit's response.

    A channel's influence on the unit is divided among the kernels that make it in proportion to
    their absolute contributions, and passes on to the channels that those read; at a joint it is
    divided in proportion to what makes each of its terms. Over a path from the image to the unit
    these parts multiply, and over all paths of the circuit they add up to 1. A set of kernels
    *carries* what the paths add up to that lie in it whole; a kernel's *influence* is what the
    paths through it add up to, which is what is lost without it. The kernel of the least influence
    is dropped, influence is counted anew, and so on: so what is left is paths, and never a strong
    kernel that leads nowhere. Room that a dropped path leaves is filled with the kernels that carry
    the most between channels that are left.

    Attribution graphs of language models are pruned by cumulative influence in this sense (Ameisen
    et al., "Circuit Tracing: Revealing Computational Graphs in Language Models", Transformer
    Circuits, 2025). There influence is counted once, nodes and edges are kept up to a share of its
    sum, and what hangs loose is cut off; here it is counted again after each step, because a sum
    over kernels is not a sum over paths.

    Args:
        paths: the graph.
        kernels: the circuit.
        weight: of each kernel, its absolute contribution to the unit's response.
        most: how many kernels may be chosen.
        share: of the response, 0 to 1: as soon as fewer kernels than `most` carry it, no more are
            chosen. Default: 1, so as many as may be.
        among: kernels of the circuit that may be chosen. Default: all.

    Returns:
        The chosen kernels, each on a path through chosen ones alone; none where every path needs
        more than `most`.
    """
    whole = _graph(paths, kernels, weight)
    graph, influence, _ = _without(whole, _outside(whole, kernels if among is None else among))
    while (count := graph.kernels) > most:
        order = graph.least(influence)
        step = max(1, min(count - most, count // (4 if count > _MANY else 50)))
        while True:
            fewer, its_influence, _ = _without(graph, order[:step])
            if fewer.kernels >= most or step == 1:
                break
            step //= 2
        graph, influence = fewer, its_influence
    graph, influence = _filled(whole, graph, most)
    while share < 1 and graph.kernels:
        order = graph.least(influence)
        step = max(1, graph.kernels // 50)
        while True:
            fewer, its_influence, its_share = _without(graph, order[:step])
            if its_share >= share or step == 1:
                break
            step //= 2
        if its_share < share:
            break
        graph, influence = fewer, its_influence
    mask = np.zeros(len(kernels), np.bool_)
    mask[graph.number[graph.is_kernel]] = True
    return mask


def carried(paths: Paths, kernels: Mask, within: Mask, weight: Floats) -> float:
    """Tell which share of the response the paths through `kernels` carry, of those of the circuit
    `within`; 0 where that has no path."""
    graph = _graph(paths, within, weight)
    return _without(graph, _outside(graph, kernels))[2]


def _outside(graph: _Graph, kernels: Mask) -> Ints:
    """The lines of a graph that are kernels, but none of these."""
    lines = np.flatnonzero(graph.is_kernel)
    return lines[~kernels[graph.number[lines]]]


@dataclass(frozen=True)
class _Graph:
    """Holds the lines of some paths, by the rank that they lead to.

    Attributes:
        topology: the nodes.
        start, end: nodes of each line.
        number: of a kernel its own, of a link its own.
        is_kernel: tells the two apart.
        log_part: the part of its end's influence that a line passes on, natural logarithm. A path
            through a hundred layers multiplies to less than the least number that a float holds.
    """

    topology: Topology
    start: Ints
    end: Ints
    number: Ints
    is_kernel: Mask
    log_part: Floats

    def only(self, kept: Mask) -> _Graph:
        """Leave out all other lines."""
        return _Graph(
            self.topology,
            self.start[kept],
            self.end[kept],
            self.number[kept],
            self.is_kernel[kept],
            self.log_part[kept],
        )

    @property
    def kernels(self) -> int:
        """Count the kernels."""
        return int(self.is_kernel.sum())

    def least(self, influence: Floats) -> Ints:
        """Sort the kernels by influence, the least first; of equals the last."""
        order = np.lexsort((-self.number, influence))
        return order[self.is_kernel[order]]

    def runs(self) -> list[slice]:
        """Cut into lines to nodes of one rank: what they pass on depends on earlier runs alone."""
        rank = self.topology.rank[self.end]
        cuts = [0, *(np.flatnonzero(np.diff(rank)) + 1).tolist(), len(rank)]
        return [slice(a, b) for a, b in pairwise(cuts)]


def _graph(paths: Paths, kernels: Mask, weight: Floats) -> _Graph:
    """What lies on a path of some kernels, with the part of each line."""
    topology, count = paths.topology, len(kernels)
    kernels, links = paths.on_path(kernels)
    order, start, end, _ = paths.by_rank
    held = np.concatenate([kernels, links])[order]
    order, start, end = order[held], start[held], end[held]
    is_kernel = order < count
    amount = np.zeros(len(order))
    amount[is_kernel] = weight[order[is_kernel]]
    graph = _Graph(topology, start, end, order - np.where(is_kernel, 0, count), is_kernel, amount)
    # What a node is made of: kernels into it; of the image's channels, kernels out of them.
    made = np.zeros(topology.size)
    np.add.at(made, start[is_kernel], amount[is_kernel])
    made[topology.kind != IMAGE_NODE] = 0.0
    for run in graph.runs():
        amount[run] = np.where(is_kernel[run], amount[run], made[start[run]])
        np.add.at(made, end[run], amount[run])
    total = np.bincount(end, amount, topology.size)[end]
    lines = np.bincount(end, minlength=topology.size)[end]
    part = np.where(total > 0, amount / np.where(total > 0, total, 1.0), 1.0 / np.maximum(lines, 1))
    with np.errstate(divide="ignore"):
        return _Graph(topology, start, end, graph.number, is_kernel, np.log(part))


def _reached(graph: _Graph) -> Floats:
    """What the paths from the image up to each node add up to, natural logarithm."""
    topology = graph.topology
    reached = np.full(topology.size, -np.inf)
    reached[topology.kind == IMAGE_NODE] = 0.0
    for run in graph.runs():
        through = graph.log_part[run] + reached[graph.start[run]]
        np.logaddexp.at(reached, graph.end[run], through)
    return reached


def _influence(graph: _Graph) -> tuple[Floats, Floats, Floats]:
    """The influence of each line and of each node, over what all lines carry; and `_reached`."""
    topology, reached = graph.topology, _reached(graph)
    units = np.unique(topology.units)
    through = np.zeros(topology.size)
    top = reached[units].max()
    if np.isfinite(top):
        through[units] = np.exp(reached[units] - top) / np.exp(reached[units] - top).sum()
    influence = np.zeros(len(graph.end))
    for run in reversed(graph.runs()):
        influence[run] = through[graph.end[run]] * _part(graph, run, reached)
        np.add.at(through, graph.start[run], influence[run])
    return influence, through, reached


def _part(graph: _Graph, lines: slice | Ints, reached: Floats) -> Floats:
    """What comes through each line, over what reaches its end; 0 where nothing does."""
    there = reached[graph.end[lines]]
    known = np.isfinite(there)
    here = graph.log_part[lines] + reached[graph.start[lines]]
    found: Floats = np.exp(np.where(known, here, -np.inf) - np.where(known, there, 0.0))
    return found


def _filled(whole: _Graph, graph: _Graph, most: int) -> tuple[_Graph, Floats]:
    """The graph with kernels of the whole put back between nodes that it has, while there is room:
    those through which the most would flow. A path that was dropped for one kernel too many left
    that room."""
    key = np.where(whole.is_kernel, whole.number, -1 - whole.number)
    while True:
        influence, through, reached = _influence(graph)
        room = most - graph.kernels
        held = np.isin(key, np.where(graph.is_kernel, graph.number, -1 - graph.number))
        lacking = np.flatnonzero(~held & whole.is_kernel)
        gain = through[whole.end[lacking]] * _part(whole, lacking, reached)
        best = np.lexsort((whole.number[lacking], -gain))[: (room + 1) // 2]
        best = lacking[best[gain[best] > 0]]
        if room <= 0 or not len(best):
            return graph, influence
        held[best] = True
        graph = whole.only(held)


def _without(graph: _Graph, lines: Ints) -> tuple[_Graph, Floats, float]:
    """The graph without some lines, and without those that hang loose then; the influence of each
    line; and which share of the response they carry."""
    kept = np.ones(len(graph.end), np.bool_)
    kept[lines] = False
    fewer = graph.only(kept)
    influence, _, reached = _influence(fewer)
    flows = influence > 0
    share = float(np.exp(reached[np.unique(fewer.topology.units)]).mean())
    return fewer.only(flows), influence[flows], share
