"""The wiring of one or more layers as nodes and links: what feeds every channel of a convolution.

A node is a channel of the image or of a convolution's output; or a joint, one a channel, where
sources are added (residual sum), multiplied (gate) or mixed; or the unit, where it is no channel
of a convolution. A concatenation needs no node: its channels feed the next convolution side by
side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.storage_schema.header import LayerIndex, UnitInfo
from circuit_atlas.storage_schema.kernels import KernelIndex
from circuit_atlas.storage_schema.wiring import IMAGE, Stretch, Wiring, image_channels

IMAGE_NODE, CHANNEL, SUM, PRODUCT, MIX, UNIT = range(6)
"""Kinds of node."""
KINDS = ("image", "channel", "sum", "product", "mix", "unit")
"""Their names, by number."""
JOINTS = (SUM, PRODUCT, MIX)
"""Those between convolutions."""

_NEST = 64  # ranks within one depth: a convolution's channels, then joints of joints


@dataclass(frozen=True)
class Goal:
    """Names a unit that the drawing ends at: its layer, the layer's wiring, and which unit; of a
    direction also the weight of each channel."""

    layer: LayerIndex
    wiring: Wiring
    unit: UnitInfo
    direction: NDArray[np.floating] | None = None


@dataclass(frozen=True)
class Topology:
    """Holds every node there can be, and every link that is no kernel.

    Attributes:
        index: the convolutions.
        base: node of each convolution's first output channel.
        kind: of each node, uint8.
        owner: convolution of a channel, number of a joint's family or of a goal; -1 for the image.
        channel: of each node: its channel, or that of the joint's first source.
        rank: of each node: links and kernels lead from a lower rank to a higher one.
        feeds: for each convolution, the node that feeds each input channel; -1 where none does.
        link_from, link_to: the links from and to joints and units that are no channels.
        units: the node of each goal.
        concatenated: for each convolution, the convolutions whose outputs lie side by side in its
            input, in order; empty where there are not several.
    """

    index: KernelIndex
    base: tuple[int, ...]
    kind: NDArray[np.uint8]
    owner: NDArray[np.int64]
    channel: NDArray[np.int64]
    rank: NDArray[np.int64]
    feeds: tuple[NDArray[np.int64], ...]
    link_from: NDArray[np.int64]
    link_to: NDArray[np.int64]
    units: tuple[int, ...]
    concatenated: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Count the nodes."""
        return len(self.kind)

    def ends(
        self, ordinal: NDArray[np.int64], out: NDArray[np.int64], channel: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the nodes that kernels lead from (-1 where unknown) and to."""
        start = np.full(len(ordinal), -1, np.int64)
        for number, feeds in enumerate(self.feeds):
            here = ordinal == number
            start[here] = feeds[channel[here]]
        return start, np.asarray(self.base, np.int64)[ordinal] + out


@dataclass(frozen=True)
class _Term:
    """One source of a stretch of channels: nodes `base`, `base` + 1, ..., or `base` alone."""

    base: int
    moves: bool
    joined: str


@dataclass(frozen=True)
class _Segment:
    """Input channels [start, stop) that the same sources feed."""

    start: int
    stop: int
    terms: tuple[_Term, ...]


def topology(index: KernelIndex, goals: Sequence[Goal]) -> Topology:
    """Return the nodes and links of an index that holds the convolutions of every goal's layer."""
    return _Builder(index, goals).build()


class _Builder:
    def __init__(self, index: KernelIndex, goals: Sequence[Goal]) -> None:
        self.index = index
        self.goals = goals
        self.kind: list[NDArray[np.int64]] = []
        self.owner: list[NDArray[np.int64]] = []
        self.channel: list[NDArray[np.int64]] = []
        self.rank: list[NDArray[np.int64]] = []
        self.size = 0
        self.image_channels = 0
        self.links: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self.mixes: dict[tuple[int, int], int] = {}
        self.families: dict[tuple[object, ...], int] = {}
        self._numbers = {c.name: n for n, c in enumerate(index.convolutions)}

    def build(self) -> Topology:
        wired = [self._renumbered(goal) for goal in self.goals]
        into: dict[int, dict[Stretch, None]] = {}
        for stretches in wired:
            for stretch in stretches:
                if stretch.into >= 0:
                    into.setdefault(stretch.into, {})[stretch] = None
        depths = self._depths(into)
        self.image_channels = image_channels(s for stretches in wired for s in stretches)
        self._nodes(IMAGE_NODE, -1, np.arange(self.image_channels), 0)
        base = tuple(
            self._nodes(CHANNEL, n, np.arange(c.out_channels), depths[n] * _NEST)
            for n, c in enumerate(self.index.convolutions)
        )
        self.base = base
        inputs = [c.in_channels * c.groups for c in self.index.convolutions]
        parts = {n: self._segments(tuple(into.get(n, ()))) for n in range(len(inputs))}
        ends = [self._segments(tuple(s for s in w if s.into < 0)) for w in wired]
        # Sums of few terms first: a sum of more builds on one of fewer, as the network does.
        every = [s for p in (*parts.values(), *ends) for s in p]
        found = {id(s): self._feed(s) for s in sorted(every, key=lambda s: len(s.terms))}
        feeds = []
        for number, channels in enumerate(inputs):
            row = np.full(channels, -1, np.int64)
            for segment in parts[number]:
                row[segment.start : segment.stop] = found[id(segment)]
            feeds.append(row)
        units = tuple(
            self._unit(number, goal, {id(s): found[id(s)] for s in end}, end)
            for number, (goal, end) in enumerate(zip(self.goals, ends, strict=True))
        )
        none = np.zeros(0, np.int64)
        return Topology(
            index=self.index,
            base=base,
            kind=np.concatenate(self.kind).astype(np.uint8),
            owner=np.concatenate(self.owner),
            channel=np.concatenate(self.channel),
            rank=np.concatenate(self.rank),
            feeds=tuple(feeds),
            link_from=np.concatenate([none, *(a for a, _ in self.links)]),
            link_to=np.concatenate([none, *(b for _, b in self.links)]),
            units=units,
            concatenated=tuple(_side_by_side(tuple(into.get(n, ()))) for n in range(len(inputs))),
        )

    def _renumbered(self, goal: Goal) -> list[Stretch]:
        """A goal's stretches over the common index; those into the layer's output as into -1.

        A drawing runs one way: what a convolution that is called several times gives to itself, or
        to an earlier one, is left out.
        """
        convolutions = goal.layer.index.convolutions
        number = {IMAGE: IMAGE, **{n: self._numbers[c.name] for n, c in enumerate(convolutions)}}
        return [
            replace(s, into=number.get(s.into, -1), source=number[s.source])
            for s in goal.wiring.stretches
            if s.source < s.into
        ]

    def _depths(self, into: dict[int, dict[Stretch, None]]) -> list[int]:
        """Convolutions on the longest path from the image to each one, itself included."""
        convolutions = self.index.convolutions
        depths = [c.depth for c in convolutions]
        for n in sorted(range(len(convolutions)), key=lambda n: convolutions[n].depth):
            before = [depths[s.source] for s in into.get(n, ()) if s.source != IMAGE]
            depths[n] = max([depths[n], *(depth + 1 for depth in before)])
        return depths

    def _nodes(self, kind: int, owner: int, channels: NDArray[np.int64], rank: int) -> int:
        """Adds nodes; the first one's number."""
        first, count = self.size, len(channels)
        self.kind.append(np.full(count, kind))
        self.owner.append(np.full(count, owner))
        self.channel.append(channels)
        self.rank.append(np.full(count, rank))
        self.size += count
        return first

    def _first(self, source: int) -> int:
        return 0 if source == IMAGE else self.base[source]

    def _outputs(self, source: int) -> int:
        if source == IMAGE:
            return self.image_channels
        return self.index.convolutions[source].out_channels

    def _rank_of(self, node: int) -> int:
        for ranks in self.rank:
            if node < len(ranks):
                return int(ranks[node])
            node -= len(ranks)
        raise IndexError(node)

    def _segments(self, stretches: Sequence[Stretch]) -> list[_Segment]:
        edges = sorted({e for s in stretches for e in (s.start, s.start + s.channels)})
        segments = []
        for start, stop in pairwise(edges):
            terms = tuple(
                self._term(s, start) for s in stretches if s.start <= start < s.start + s.channels
            )
            if terms:
                segments.append(_Segment(start, stop, tuple(dict.fromkeys(terms))))
        return segments

    def _term(self, stretch: Stretch, start: int) -> _Term:
        first = self._first(stretch.source) + stretch.source_start
        if stretch.joined != "mixed":
            return _Term(first + start - stretch.start, True, stretch.joined)
        key = stretch.source, stretch.source_start
        if key not in self.mixes:
            sources = np.arange(first, self._first(stretch.source) + self._outputs(stretch.source))
            node = self._nodes(MIX, len(self.mixes), np.asarray([0]), self._rank_of(first) + 1)
            self.mixes[key] = node
            self.links.append((sources, np.full(len(sources), node)))
        return _Term(self.mixes[key], False, "mixed")

    def _feed(self, segment: _Segment) -> NDArray[np.int64]:
        """The node that feeds each channel of a segment."""
        terms = segment.terms
        products = [t for t in terms if t.joined == "product"]
        sums = [t for t in terms if t.joined in ("sum", "alone")]
        mixed = [t for t in terms if t.joined == "mixed"]
        if len(products) == 1:
            products, mixed = products + mixed, []
        if len(products) > 1 and (sums or mixed):
            sums = [self._joint(PRODUCT, products), *sums]
            whole = self._joint(SUM, sums + mixed)
        elif len(terms) > 1:
            whole = self._joint(PRODUCT if products else SUM, list(terms))
        else:
            whole = terms[0]
        steps = np.arange(segment.stop - segment.start) if whole.moves else 0
        return np.broadcast_to(whole.base + steps, (segment.stop - segment.start,))

    def _joint(self, kind: int, terms: list[_Term]) -> _Term:
        """The joints of some terms over a segment's channels, made unless they are there."""
        terms = sorted(terms, key=lambda t: (self._rank_of(t.base), t.base))
        if len(terms) == 1:
            return terms[0]
        moving = [t for t in terms if t.moves]
        if not moving:
            key: tuple[object, ...] = (kind, *(t.base for t in terms))
            if key not in self.families:
                node = self._nodes(kind, len(self.families), np.asarray([0]), self._after(terms))
                self.families[key] = node
                for term in terms:
                    self.links.append((np.asarray([term.base]), np.asarray([node])))
            return _Term(self.families[key], False, "sum")
        block, offset = self._block(moving[0].base)
        key = self._key(kind, terms, moving[0].base)
        if key not in self.families:
            for fewer in range(len(terms) - 1, 1, -1):
                known = self.families.get(self._key(kind, terms[:fewer], moving[0].base))
                if kind == SUM and known is not None and any(t.moves for t in terms[:fewer]):
                    built = _Term(known + offset, True, "sum")
                    terms = [built, *terms[fewer:]]
                    break
            first = self._nodes(
                kind, len(self.families), np.arange(len(self.kind[block])), self._after(terms)
            )
            self.families[key] = first
            self._link(first, offset, terms, len(self.kind[block]))
        return _Term(self.families[key] + offset, True, "sum")

    def _link(self, first: int, offset: int, terms: Sequence[_Term], count: int) -> None:
        """Links from the terms to a family's joints, wherever all terms have that channel."""
        for term in terms:
            if not term.moves:
                self.links.append((np.full(count, term.base), np.arange(first, first + count)))
                continue
            block, there = self._block(term.base)
            shift = there - offset
            channels = np.arange(max(0, -shift), min(count, len(self.kind[block]) - shift))
            start = term.base - there
            self.links.append((start + channels + shift, first + channels))

    def _block(self, node: int) -> tuple[int, int]:
        """Which run of nodes, made together, a node lies in, and where in it."""
        for number, kinds in enumerate(self.kind):
            if node < len(kinds):
                return number, node
            node -= len(kinds)
        raise IndexError(node)

    def _key(self, kind: int, terms: Sequence[_Term], first: int) -> tuple[object, ...]:
        return (
            kind,
            self._block(first)[0],
            *((t.base - first if t.moves else t.base, t.moves) for t in terms),
        )

    def _after(self, terms: Sequence[_Term]) -> int:
        return max(self._rank_of(t.base) for t in terms) + 1

    def _unit(
        self,
        number: int,
        goal: Goal,
        found: dict[int, NDArray[np.int64]],
        end: Sequence[_Segment],
    ) -> int:
        """The goal's node: the channel of a convolution that it is, or one of its own."""
        feeds = np.full(goal.layer.channels, -1, np.int64)
        for segment in end:
            feeds[segment.start : segment.stop] = found[id(segment)]
        if goal.direction is None:
            wanted = feeds[[goal.unit.number]]
        else:
            wanted = feeds[np.flatnonzero(goal.direction)]
        wanted = np.unique(wanted[wanted >= 0])
        if len(wanted) == 1 and int(np.concatenate(self.kind)[wanted[0]]) == CHANNEL:
            return int(wanted[0])
        rank = max([0, *(int(r.max()) for r in self.rank)]) + 1
        node = self._nodes(UNIT, number, np.asarray([goal.unit.number]), rank)
        self.links.append((wanted, np.full(len(wanted), node)))
        return node


def _side_by_side(stretches: Sequence[Stretch]) -> tuple[int, ...]:
    """The sources of a plain concatenation in order, empty where it is none."""
    plain = [s for s in sorted(stretches, key=lambda s: s.start) if s.joined == "alone"]
    sources = tuple(dict.fromkeys(s.source for s in plain))
    return sources if len(sources) > 1 and len(plain) == len(stretches) else ()
