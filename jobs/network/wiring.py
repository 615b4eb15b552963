"""The output channels of convolutions that feed each input channel, read off the graph.

Forward through the graph, every map carries labels in place of numbers: for each channel, the
output channels of earlier convolutions that it is made of, with no convolution in between. What is
known about an operation is the same as in `kernel_axis`: it keeps channels apart, joins them, or
was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.jobs.network.kernel_axis import Upstream
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.reads import Region, map_names, reads, regions
from circuit_atlas.jobs.network.step import Step
from circuit_atlas.jobs.network.step_kinds import is_concatenation
from circuit_atlas.storage_schema.wiring import IMAGE, Joined, Stretch, Wiring

# Labels from here on are output channels; those below _NONE are sets of them, mixed.
_NONE = -1
# More sources of one channel than this, and they count as mixed.
_MOST = 64
_KINDS: tuple[Joined, ...] = ("alone", "sum", "product")


@dataclass(frozen=True)
class _Term:
    """One source of every channel of a map: its label, and how it is joined with the others.

    Both arrays are (channels,). A channel has as many sources as terms have a label there.
    """

    labels: NDArray[np.int64]
    kinds: NDArray[np.int64]


def wiring(network: Network, upstream: Upstream) -> Wiring:
    """Reads the wiring of the convolutions on a layer's kernel axis.

    Where channels are joined more than once on their way, the first joint counts. A set of mixed
    channels is given as all from its first channel on.
    """
    walk = _Walk(network)
    ordinal_of = {site: ordinal for ordinal, site in enumerate(upstream.ordinals)}
    ordinal_of[IMAGE] = IMAGE
    stretches: list[Stretch] = []
    for site, terms in walk.inputs.items():
        if site in ordinal_of:
            stretches += _stretches(ordinal_of[site], walk.sources(terms), ordinal_of)
    output = walk.sources(walk.terms[network.base])
    stretches += _stretches(len(upstream.ordinals), output, ordinal_of)
    return Wiring(tuple(sorted(stretches)))


class _Walk:
    """Labels of every map of a network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._starts = np.cumsum(
            [0, network.image_shape[0], *(len(s.weight) for s in network.sites)]
        )
        self._sets: dict[frozenset[int], int] = {}
        self._members: list[frozenset[int]] = []
        self._regions = regions(network)
        self.terms: dict[str, tuple[_Term, ...]] = {network.image: self._fresh(IMAGE)}
        self.inputs: dict[int, tuple[_Term, ...]] = {}
        maps = map_names(network)
        for step in network.steps:
            if step.convolution is None:
                if step.name in self._regions:
                    self.terms[step.name] = self._across(self._regions[step.name])
                elif step.name in maps:
                    self.terms[step.name] = self._through(step)
                continue
            terms = self.terms[step.inputs[0]]
            known = self.inputs.get(step.convolution)
            # Applied more than once, a convolution meets one input or another.
            self.inputs[step.convolution] = terms if known is None else _joined([known, terms], 1)
            self.terms[step.name] = self._fresh(step.convolution)

    def sources(self, terms: Sequence[_Term]) -> list[tuple[int, int, int, Joined]]:
        """(channel, site, source channel, joined) for everything that feeds a map; the source
        channel of a mixed set is its first."""
        sources: list[tuple[int, int, int, Joined]] = []
        for channel in range(len(terms[0].labels)):
            seen: dict[int, int] = {}
            for term in terms:
                label = int(term.labels[channel])
                if label != _NONE:
                    seen.setdefault(label, int(term.kinds[channel]))
            for label, kind in seen.items():
                if label < _NONE:
                    sources += [(channel, *first, "mixed") for first in self._firsts(label)]
                else:
                    joined = "alone" if len(seen) == 1 else _KINDS[max(kind, 1)]
                    sources.append((channel, *self._locate(label), joined))
        return sources

    def _fresh(self, site: int) -> tuple[_Term, ...]:
        labels = np.arange(self._starts[site + 1], self._starts[site + 2], dtype=np.int64)
        return (_Term(labels, np.zeros_like(labels)),)

    def _locate(self, label: int) -> tuple[int, int]:
        site = int(np.searchsorted(self._starts, label, side="right")) - 2
        return site, label - int(self._starts[site + 1])

    def _firsts(self, label: int) -> list[tuple[int, int]]:
        """The first channel of each site in a mixed set."""
        located = sorted(self._locate(member) for member in self._members[-2 - label])
        return [next(group) for _, group in groupby(located, key=lambda pair: pair[0])]

    def _through(self, step: Step) -> tuple[_Term, ...]:
        """The terms of a step's result, from those of its inputs: maps that it keeps apart."""
        if is_concatenation(self.network, step):
            return _side_by_side([self.terms[part.name] for part in step.args[0]])
        kind = 1 if step.op in ("add", "sub") else 2
        parts = [_broadcast(self.terms[name], step.shape[0]) for name in step.inputs]
        return parts[0] if len(parts) == 1 else _joined(parts, kind)

    def _across(self, region: Region) -> tuple[_Term, ...]:
        """The terms of a region's map, from those of the maps that it reads."""
        found = reads(self.network, region)
        columns: list[dict[int, int]] = []
        for channel in range(self.network.shape(region.output)[0]):
            read = {
                name: [int(n) for n in np.flatnonzero(of_input[channel])]
                for name, of_input in found.items()
            }
            sources = self._sources_of(read)
            alone = sum(len(numbers) for numbers in read.values()) <= 1
            if not alone and (region.mixes or len(sources) > _MOST):
                sources = {self._set_of(sources): 0}
            columns.append(sources)
        return _terms(columns)

    def _sources_of(self, read: Mapping[str, Sequence[int]]) -> dict[int, int]:
        """The labels of some channels of some maps, each with how it is joined."""
        return {
            int(term.labels[number]): int(term.kinds[number])
            for name, numbers in read.items()
            for term in self.terms[name]
            for number in numbers
            if term.labels[number] != _NONE
        }

    def _set_of(self, labels: Iterable[int]) -> int:
        members = frozenset(
            member
            for label in labels
            for member in (self._members[-2 - label] if label < _NONE else (label,))
        )
        if not members:
            return _NONE
        if members not in self._sets:
            self._sets[members] = -2 - len(self._members)
            self._members.append(members)
        return self._sets[members]


def _joined(parts: Sequence[tuple[_Term, ...]], kind: int) -> tuple[_Term, ...]:
    """All terms of some values of one shape, each once; those that stood alone are joined in this
    way."""
    distinct: dict[bytes, _Term] = {}
    for terms in parts:
        for term in terms:
            joined = _Term(term.labels, np.where(term.kinds == 0, kind, term.kinds))
            # Else a value that gates itself would have twice as many after every block.
            distinct.setdefault(term.labels.tobytes(), joined)
    return tuple(distinct.values())


def _terms(columns: Sequence[Mapping[int, int]]) -> tuple[_Term, ...]:
    """Terms from the labels of each channel, and how each is joined."""
    nothing = (_NONE, 0)
    rows = list(zip_longest(*(by_label.items() for by_label in columns), fillvalue=nothing))
    terms = []
    for entries in rows or [(nothing,) * len(columns)]:
        labels, kinds = (np.array(side, dtype=np.int64) for side in zip(*entries, strict=True))
        terms.append(_Term(labels, kinds))
    return tuple(terms)


def _broadcast(terms: Sequence[_Term], channels: int) -> tuple[_Term, ...]:
    """Terms of an operand, broadcast to the channels of the result."""
    return tuple(
        _Term(np.broadcast_to(term.labels, channels), np.broadcast_to(term.kinds, channels))
        for term in terms
    )


def _side_by_side(parts: Sequence[tuple[_Term, ...]]) -> tuple[_Term, ...]:
    """Terms of a concatenation of maps."""
    most = max(len(terms) for terms in parts)
    padded = [[*terms, *[_nothing(terms[0])] * (most - len(terms))] for terms in parts]
    return tuple(
        _Term(np.concatenate([term.labels for term in row]), np.concatenate([t.kinds for t in row]))
        for row in zip(*padded, strict=True)
    )


def _nothing(like: _Term) -> _Term:
    return _Term(np.full_like(like.labels, _NONE), np.zeros_like(like.kinds))


def _stretches(
    into: int,
    sources: Iterable[tuple[int, int, int, Joined]],
    ordinal_of: Mapping[int, int],
) -> list[Stretch]:
    """Single channels merged where they lie side by side on both ends."""

    def together(source: tuple[int, int, int, Joined]) -> tuple[int, str, int]:
        channel, site, start, joined = source
        return site, joined, start if joined == "mixed" else start - channel

    stretches = []
    for (site, _, _), group in groupby(
        sorted(sources, key=lambda source: (together(source), source[0])), key=together
    ):
        if site not in ordinal_of:
            continue  # no kernel of it can reach a unit
        run: list[tuple[int, int, int, Joined]] = []
        for source in [*group, None]:
            if run and (source is None or source[0] != run[-1][0] + 1):
                channel, _, start, joined = run[0]
                stretches.append(Stretch(into, channel, len(run), ordinal_of[site], start, joined))
                run = []
            if source is not None:
                run.append(source)
    return stretches
