"""Which kernels carry a unit's response, against every path written out and every set tried."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest

from circuit_atlas.service.diagram.draw import _goal
from circuit_atlas.service.diagram.influence import carried, whole_paths
from circuit_atlas.service.diagram.kernels import gather
from circuit_atlas.service.diagram.paths import Paths
from circuit_atlas.service.diagram.topology import IMAGE_NODE, Goal, topology
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.header import LayerIndex, UnitInfo
from circuit_atlas.storage_schema.kernels import KernelIndex
from circuit_atlas.storage_schema.wiring import Stretch, Wiring
from tests.service.diagram import wirings
from tests.service.diagram.planted import Planted, conv, unit_of

UNIT = 1
Path = tuple[frozenset[int], float]
"""Kernels of a path from the image to the unit, and the part of the response that it carries."""


class Graph:
    """A planted circuit's graph as lists, walked one line at a time."""

    def __init__(self, unit, keep: float) -> None:
        kernels = gather(unit.circuit(keep=keep), None)
        (origin,) = unit.circuit(keep=keep).origins
        graph = topology(kernels.index, [_goal(origin)])
        start, end = graph.ends(kernels.ordinal, kernels.out, kernels.channel)
        self.paths = Paths(graph, start, end)
        self.member = kernels.steps[0].member
        self.weight = kernels.by_circuit[0].weight
        on_path, links = self.paths.on_path(self.member)
        self.image = graph.kind == IMAGE_NODE
        self.unit = graph.units[0]
        # (from, to, kernel or -1) of all that lies on a path.
        self.lines = [(int(start[k]), int(end[k]), k) for k in np.flatnonzero(on_path).tolist()]
        self.lines += [
            (int(graph.link_from[n]), int(graph.link_to[n]), -1)
            for n in np.flatnonzero(links).tolist()
        ]

    def made(self, node: int) -> float:
        """What a node is made of."""
        if self.image[node]:
            return sum(self.weight[k] for a, _, k in self.lines if a == node and k >= 0)
        return sum(self.amount(line) for line in self.lines if line[1] == node)

    def amount(self, line: tuple[int, int, int]) -> float:
        return float(self.weight[line[2]]) if line[2] >= 0 else self.made(line[0])

    def every_path(self) -> list[Path]:
        amounts = {line: self.amount(line) for line in self.lines}

        def back(node: int) -> Iterator[Path]:
            if self.image[node]:
                yield frozenset(), 1.0
                return
            into = [line for line in self.lines if line[1] == node]
            total = sum(amounts[line] for line in into)
            for line in into:
                part = amounts[line] / total if total else 1 / len(into)
                for some, carries in back(line[0]):
                    own = {line[2]} if line[2] >= 0 else set()
                    yield some | own, carries * part

        return list(back(self.unit))

    def mask(self, kernels) -> np.ndarray:
        mask = np.zeros(len(self.weight), np.bool_)
        mask[list(kernels)] = True
        return mask


def carry(paths: list[Path], kernels) -> float:
    return sum(part for some, part in paths if some <= set(kernels))


@pytest.mark.parametrize("kind", wirings.ALL)
def test_a_set_carries_the_paths_that_lie_in_it(tmp_path, kind):
    graph = Graph(unit_of(tmp_path / "atlas", wirings.ALL[kind](), UNIT), keep=0.5)
    paths = graph.every_path()
    assert sum(part for _, part in paths) == pytest.approx(1)
    own = sorted(set().union(*(some for some, _ in paths)))
    rng = np.random.default_rng(0)
    for size in (len(own), len(own) - 1, len(own) // 2, 4, 1, 0):
        some = rng.choice(own, size, replace=False).tolist()
        found = carried(graph.paths, graph.mask(some), graph.member, graph.weight)
        assert found == pytest.approx(carry(paths, some), abs=1e-12)


def small() -> Planted:
    """Two layers of few kernels and one row: all sets of them can be tried."""
    convolutions = (conv("a", 3, 2, 1), conv("b", 2, 3, 2), conv("c", 2, 2, 3, one_row=True))
    stretches = tuple((n, 0, width, n - 1, 0, "alone") for n, width in enumerate((2, 3, 2, 2)))
    return Planted(convolutions, stretches, {}, channels=2)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("most", [3, 5, 8])
def test_few_kernels_carry_nearly_as_much_as_the_best_of_all_sets(tmp_path, seed, most):
    planted = wirings._scored(small(), seed)
    graph = Graph(unit_of(tmp_path / "atlas", planted, UNIT), keep=1)
    paths = graph.every_path()
    own = sorted(set().union(*(some for some, _ in paths)))
    chosen = whole_paths(graph.paths, graph.member, graph.weight, most=most)
    assert 0 < chosen.sum() <= most
    assert graph.paths.on_path(chosen)[0].tolist() == chosen.tolist()
    best = max(carry(paths, some) for some in combinations(own, most))
    # Dropped one by one, they are not always the best set: in these cases never below 0.8 of it.
    assert carry(paths, np.flatnonzero(chosen).tolist()) >= 0.8 * best


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_no_more_are_chosen_than_a_share_takes(tmp_path, kind, share):
    graph = Graph(unit_of(tmp_path / "atlas", wirings.ALL[kind](), UNIT), keep=1)
    paths = graph.every_path()
    chosen = whole_paths(graph.paths, graph.member, graph.weight, most=1000, share=share)
    left = carry(paths, np.flatnonzero(chosen).tolist())
    assert left >= share - 1e-9
    least = min(
        carry(paths, set(np.flatnonzero(chosen).tolist()) - {kernel}) - left
        for kernel in np.flatnonzero(chosen).tolist()
    )
    assert left + least < share
    if share == 1:
        assert chosen.tolist() == graph.paths.on_path(graph.member)[0].tolist()


def test_a_strong_kernel_that_leads_nowhere_is_not_drawn(tmp_path):
    """By its own score it would come first; what reads it contributes next to nothing."""
    planted = wirings.plain()
    scores = np.ones(sum(c.size for c in planted.convolutions), np.float32)
    scores[:3] = 1000  # all that channel 0 of the first convolution is made of
    reads = [18 + 6 * 0 + 0, 18 + 3 * 0 + 0, 18 + 3 * 1 + 0]
    scores[reads] = 1e-6
    circuit = unit_of(
        tmp_path / "atlas", Planted(**{**planted.__dict__, "scores": {UNIT: scores}}), UNIT
    ).circuit(keep=1)
    content = circuit.diagram(edges=12).content
    first = {
        content.nodes.channel[end]
        for end in content.edges.end
        if content.bands[content.nodes.band[end]].name == "a"
    }
    assert first
    assert 0 not in first
    assert content.counts.drawn <= 12


def test_a_path_of_two_hundred_small_parts_is_found():
    """Multiplied, they are less than the least number that a float holds."""
    count = 200
    convolutions = tuple(conv(f"c{n}", 60, 1 if n == 0 else 60, n + 1) for n in range(count))
    stretches = tuple((n, 0, 60 if n else 1, n - 1, 0, "alone") for n in range(count + 1))
    assert 60.0**-count == 0
    index = KernelIndex(convolutions)
    unit = UnitInfo(0, "0", None, ())
    layer = LayerIndex("end", 60, 1, 1, index, (unit,))
    wiring = Wiring(tuple(Stretch(*row) for row in stretches))
    graph = topology(index, [Goal(layer, wiring, unit)])
    ordinal = np.repeat(np.arange(count), [c.size for c in convolutions])
    local = np.concatenate([np.arange(c.size) for c in convolutions])
    inputs = np.asarray([c.in_channels for c in convolutions])[ordinal]
    start, end = graph.ends(ordinal, local // inputs, local % inputs)
    paths, every = Paths(graph, start, end), np.ones(len(ordinal), np.bool_)
    chosen = whole_paths(paths, every, np.ones(len(ordinal)), most=250)
    assert 200 <= chosen.sum() <= 250
    assert paths.on_path(chosen)[0].sum() == chosen.sum()


@pytest.mark.parametrize("share", [0, -1, 1.1, float("nan")])
def test_a_share_is_in_bounds(tmp_path, share):
    circuit = unit_of(tmp_path / "atlas", wirings.plain(), UNIT).circuit(keep=1)
    with pytest.raises(QueryError, match=r"share=.* is out of range: give more than 0, and 1"):
        circuit.diagram(share=share)
