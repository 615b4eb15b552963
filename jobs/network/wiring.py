"""The output channels of convolutions that feed each input channel, read off the graph.

Forward through the graph, every value carries labels in place of numbers: for each channel, the
output channels of earlier convolutions that it is made of, with no convolution in between. What is
known about an operation is the same as in `kernel_axis`: it keeps channels apart, moves elements,
or mixes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.network.aten import CHANNELWISE, MOVES, POINTWISE
from circuit_atlas.jobs.network.graph import Network, Ref, Step
from circuit_atlas.jobs.network.kernel_axis import Upstream
from circuit_atlas.storage_schema.wiring import IMAGE, Joined, Stretch, Wiring

# Labels from here on are output channels; those below _NONE are sets of them, mixed.
_NONE = -1
# More sources of one channel than this, and they count as mixed.
_MOST = 64
_KINDS: tuple[Joined, ...] = ("alone", "sum", "product")


@dataclass(frozen=True)
class _Term:
    """One source of every element of a value: its label, and how it is joined with the others.

    Both arrays are (channels, 1, 1) for a map and have the tensor's shape for any other value. An
    element has as many sources as terms have a label there.
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
    """Labels of every value of a network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._starts = np.cumsum(
            [0, network.image_shape[0], *(len(s.weight) for s in network.sites)]
        )
        self._sets: dict[frozenset[int], int] = {}
        self._members: list[frozenset[int]] = []
        self._sizes = network.sizes.at(1, network.image)
        self.terms: dict[str, tuple[_Term, ...]] = {network.image: self._fresh(IMAGE)}
        self.inputs: dict[int, tuple[_Term, ...]] = {}
        for step in network.steps:
            if step.convolution is None:
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
                label = int(term.labels[channel, 0, 0])
                if label != _NONE:
                    seen.setdefault(label, int(term.kinds[channel, 0, 0]))
            for label, kind in seen.items():
                if label < _NONE:
                    sources += [(channel, *first, "mixed") for first in self._firsts(label)]
                else:
                    joined = "alone" if len(seen) == 1 else _KINDS[max(kind, 1)]
                    sources.append((channel, *self._locate(label), joined))
        return sources

    def _fresh(self, site: int) -> tuple[_Term, ...]:
        labels = np.arange(self._starts[site + 1], self._starts[site + 2], dtype=np.int64)
        return (_Term(labels[:, None, None], np.zeros((len(labels), 1, 1), dtype=np.int64)),)

    def _locate(self, label: int) -> tuple[int, int]:
        site = int(np.searchsorted(self._starts, label, side="right")) - 2
        return site, label - int(self._starts[site + 1])

    def _firsts(self, label: int) -> list[tuple[int, int]]:
        """The first channel of each site in a mixed set."""
        located = sorted(self._locate(member) for member in self._members[-2 - label])
        return [next(group) for _, group in groupby(located, key=lambda pair: pair[0])]

    def _through(self, step: Step) -> tuple[_Term, ...]:
        """The terms of a step's result, from those of its inputs."""
        shapes = [self.network.shape(name) for name in step.inputs]
        maps = len(step.shape) == 3 and all(len(shape) == 3 for shape in shapes)
        if maps and step.op == "cat" and step.args[1:] == (1,) and _all_refs(step.args[0]):
            return _side_by_side([self.terms[part.name] for part in step.args[0]])
        if (maps and step.op in CHANNELWISE) or (
            step.op in POINTWISE and all(shape == step.shape for shape in shapes)
        ):
            kind = 1 if step.op in ("add", "sub") else 2
            parts = [_broadcast(self.terms[name], step.shape, maps=maps) for name in step.inputs]
            return parts[0] if len(parts) == 1 else _joined(parts, kind)
        if step.op in MOVES:
            return self._moved(step)
        return self._mixed(step)

    def _mixed(self, step: Step) -> tuple[_Term, ...]:
        """Every element made of all that the inputs are made of."""
        labels = {
            int(label)
            for name in step.inputs
            for term in self.terms[name]
            for label in np.unique(term.labels)
        }
        shape = (step.shape[0], 1, 1) if len(step.shape) == 3 else step.shape
        full = np.full(shape, self._set_of(labels - {_NONE}), dtype=np.int64)
        return (_Term(full, np.zeros_like(full)),)

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

    def _moved(self, step: Step) -> tuple[_Term, ...]:
        """The operation itself, done to labels."""
        most = max((len(self.terms[name]) for name in step.inputs), default=1)
        terms = []
        for n in range(most):
            pair = [self._move(step, n, part) for part in ("labels", "kinds")]
            terms.append(_Term(*pair))
        return self._by_channel(terms) if len(step.shape) == 3 else tuple(terms)

    def _move(self, step: Step, n: int, part: str) -> NDArray[np.int64]:
        values: dict[str, Any] = dict(self._sizes)
        for name in step.inputs:
            terms, shape = self.terms[name], self.network.shape(name)
            array = np.full(shape, _NONE if part == "labels" else 0, dtype=np.int64)
            if n < len(terms):
                array = np.broadcast_to(getattr(terms[n], part), shape)
            # Exact up to 2 ** 53, and every operation takes it.
            values[name] = torch.from_numpy(np.array(array, dtype=np.float64, order="C"))[None]
        labelled = _without_numbers(step, _NONE if part == "labels" else 0)
        moved: NDArray[np.int64] = labelled.run(values)[0].long().numpy()
        return moved

    def _by_channel(self, terms: Sequence[_Term]) -> tuple[_Term, ...]:
        """Terms of single elements of a map -> of its channels."""
        if all((t.labels == t.labels[:, :1, :1]).all() for t in terms):
            return tuple(_Term(t.labels[:, :1, :1], t.kinds[:, :1, :1]) for t in terms)
        channels = len(terms[0].labels)
        kinds_of: list[dict[int, int]] = []
        for channel in range(channels):
            by_label: dict[int, int] = {}
            for term in terms:
                labels, first = np.unique(term.labels[channel], return_index=True)
                kinds = term.kinds[channel].ravel()[first]
                pairs = zip(labels, kinds, strict=True)
                by_label |= {int(label): int(kind) for label, kind in pairs if label != _NONE}
            if len(by_label) > _MOST:
                by_label = {self._set_of(by_label): 0}
            kinds_of.append(by_label)
        nothing = (_NONE, 0)
        rows = zip_longest(*(by_label.items() for by_label in kinds_of), fillvalue=nothing)
        by_channel = []
        for entries in list(rows) or [(nothing,) * channels]:
            labels, kinds = (np.array(side, dtype=np.int64) for side in zip(*entries, strict=True))
            by_channel.append(_Term(labels[:, None, None], kinds[:, None, None]))
        return tuple(by_channel)


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


def _broadcast(terms: Sequence[_Term], shape: tuple[int, ...], *, maps: bool) -> tuple[_Term, ...]:
    """Terms of an operand, broadcast to the shape of the result."""
    shape = (shape[0], 1, 1) if maps else shape
    return tuple(
        _Term(np.broadcast_to(term.labels, shape), np.broadcast_to(term.kinds, shape))
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


def _all_refs(parts: Iterable[object]) -> bool:
    return all(isinstance(part, Ref) for part in parts)


def _without_numbers(step: Step, value: int) -> Step:
    """The step where constants that would be moved beside values, as in a concatenation with a
    table of positions, are of no channel."""

    def labelled(argument: Any) -> Any:
        if isinstance(argument, Tensor) and argument.is_floating_point():
            return torch.full_like(argument, value, dtype=torch.float64, device="cpu")
        if isinstance(argument, Tensor):
            return argument.cpu()
        if isinstance(argument, (tuple, list)):
            return type(argument)(labelled(item) for item in argument)
        return argument

    return replace(step, args=labelled(step.args))


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
