"""The kernels of a drawing: those of a circuit on every sparsity level, or of two circuits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.circuit.algebra import aligned
from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.circuit.kernel_ids import moved
from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.service.circuit.selection import scores_of_images
from circuit_atlas.storage_schema.kernels import KernelIndex
from circuit_atlas.storage_schema.ranking import kernels_kept, ranking

Ids = NDArray[np.int64]

SHARED, LEFT, RIGHT = range(3)
"""Which of two circuits hold a kernel; of one circuit all kernels are shared."""

_MOST_LEVELS = 30  # a kernel's levels are the bits of one JavaScript integer


Side = Literal["left", "right"]
"""One of two circuits."""


@dataclass(frozen=True)
class Step:
    """Is one step of the slider: a kept fraction, and the kernels of each circuit."""

    fraction: float
    members: tuple[NDArray[np.bool_], ...]

    @property
    def member(self) -> NDArray[np.bool_]:
        """Return the kernels of any of the circuits."""
        found: NDArray[np.bool_] = np.logical_or.reduce(self.members)
        return found


@dataclass(frozen=True)
class Measured:
    """Holds what one circuit says of every kernel, as `DrawnKernels` names it."""

    fraction: float
    score: NDArray[np.float64]
    share: NDArray[np.float64]
    strength: NDArray[np.float64]
    contribution: NDArray[np.float64]
    reachable: int

    @property
    def weight(self) -> NDArray[np.float64]:
        """Return the absolute contributions; the scores where none is known."""
        if np.isnan(self.contribution).all():
            return np.abs(np.nan_to_num(self.score))
        return np.abs(np.nan_to_num(self.contribution))


@dataclass(frozen=True)
class DrawnKernels:
    """Holds every kernel that may be drawn, ascending by id.

    Attributes:
        index: the convolutions.
        ordinal, out, channel: convolution, output and input channel of each.
        side: SHARED, LEFT or RIGHT.
        score: by the left circuit, or by the right one where the left lacks the kernel.
        other: by the right one where both hold it, else NaN.
        share: `score` of the sum over all kernels of its circuit.
        strength: `score` of the largest score of its convolution in its circuit, square root.
        contribution: signed, to the unit's response; NaN where unknown.
        steps: the circuit first, then the ladder's smaller ones.
        reachable: kernels that the circuit was, or the circuits were, chosen from.
        by_circuit: what each circuit says.
    """

    index: KernelIndex
    ordinal: Ids
    out: Ids
    channel: Ids
    side: NDArray[np.int64]
    score: NDArray[np.float64]
    other: NDArray[np.float64]
    share: NDArray[np.float64]
    strength: NDArray[np.float64]
    contribution: NDArray[np.float64]
    steps: tuple[Step, ...]
    reachable: int
    by_circuit: tuple[Measured, ...]

    def __len__(self) -> int:
        return len(self.ordinal)

    def of(self, side: Side) -> DrawnKernels:
        """Return the same kernels as one of two circuits knows them, with its steps alone."""
        number = ("left", "right").index(side)
        own = self.by_circuit[number]
        steps = [Step(step.fraction, (step.members[number],)) for step in self.steps]
        return replace(
            self,
            side=np.full(len(self), SHARED),
            score=own.score,
            other=np.full(len(self), np.nan),
            share=own.share,
            strength=own.strength,
            contribution=own.contribution,
            steps=(replace(steps[0], fraction=own.fraction), *steps[1:]),
            reachable=own.reachable,
            by_circuit=(own,),
        )


def gather(circuit: Circuit, against: Circuit | None) -> DrawnKernels:
    """Gather the kernels of one circuit, or of two of one model, with what is stored of them.

    QueryError where the two are of different models, or the atlas has no contributions.
    """
    pairs = [(circuit, _levels(circuit))]
    if against is not None:
        whole, other_whole = aligned(circuit, against)
        pairs = [(whole, pairs[0][1]), (other_whole, _levels(against))]
        pairs = [
            (whole, [(f, np.sort(moved(ids, own.index, whole.index))) for f, ids in levels])
            for (whole, levels), own in zip(pairs, (circuit, against), strict=True)
        ]
    wholes = [whole for whole, _ in pairs]
    index = wholes[0].index
    ids = np.flatnonzero(
        _members(index, [x for w, levels in pairs for x in (w.ids, *_ids(levels))])
    )
    ordinal = np.searchsorted(np.asarray(index.full_offsets[1:]), ids, side="right")
    local = ids - np.asarray(index.full_offsets, np.int64)[ordinal]
    per_row = np.asarray([c.in_channels for c in index.convolutions], np.int64)[ordinal]
    per_group = np.asarray([c.out_channels // c.groups for c in index.convolutions], np.int64)
    out = local // per_row
    scored = [_scores(whole, ids, ordinal, local) for whole in wholes]
    held = [_members(index, [w.ids, *_ids(levels)])[ids] for w, levels in pairs]
    by_circuit = tuple(
        Measured(
            _fraction(whole),
            some,
            *_relative(whole, some, ids, ordinal, here),
            _contributions(whole, ids, ordinal, local),
            len(whole.reachable),
        )
        for whole, some, here in zip(wholes, scored, held, strict=True)
    )
    left, right = by_circuit[0], by_circuit[-1]
    side = np.zeros(len(ids), np.int64)
    other = np.full(len(ids), np.nan)
    if against is not None:
        side = np.where(held[0], np.where(held[1], SHARED, LEFT), RIGHT)
        other = np.where(side == SHARED, right.score, np.nan)
    of_right = side == RIGHT
    return DrawnKernels(
        index=index,
        ordinal=ordinal,
        out=out,
        channel=local % per_row + out // per_group[ordinal] * per_row,
        side=side,
        score=np.where(of_right, right.score, left.score),
        other=other,
        share=np.where(of_right, right.share, left.share),
        strength=np.where(of_right, right.strength, left.strength),
        contribution=np.where(
            of_right | np.isnan(left.contribution), right.contribution, left.contribution
        ),
        steps=_steps(pairs, ids),
        reachable=int(_members(index, [w.reachable for w in wholes]).sum()),
        by_circuit=by_circuit,
    )


def _members(index: KernelIndex, sets: list[Ids]) -> NDArray[np.bool_]:
    """Which kernels of an index are in any of some sets. A flag a kernel: sorting or hashing two
    million names, as `np.unique` and `np.isin` do, takes seconds."""
    found = np.zeros(index.full_offsets[-1], np.bool_)
    for ids in sets:
        found[ids] = True
    return found


def _ids(levels: list[tuple[float, Ids]]) -> list[Ids]:
    return [ids for _, ids in levels]


def _levels(circuit: Circuit) -> list[tuple[float, Ids]]:
    """The atlas' fractions that keep fewer kernels than the circuit, and their circuits: as they
    are stored, or the best of the mean score of the same images. None of combined circuits."""
    if len(circuit.origins) != 1 or not circuit.origins[0].alone:
        return []
    origin = circuit.origins[0]
    reader, commit = origin.reader, origin.commit
    levels = []
    # In full precision, as the circuit was chosen: rounding would make ties of near scores.
    order = ranking(_stored_scores(origin)[circuit.positions]) if origin.images else None
    nested = not origin.images and commit.form(origin.criterion) == "level"
    holding = reader.levels(commit, origin.criterion)[circuit.positions] if nested else None
    names = circuit.index.full_ids(origin.unit.rows)
    for level, fraction in enumerate(reader.header.fractions):
        count = kernels_kept(fraction, commit.kernels)
        if count >= len(circuit):
            continue
        if order is not None:
            ids = circuit.ids[np.sort(order[:count])]
        elif holding is not None:
            ids = circuit.ids[holding > level]
        else:
            ids = names[reader.mask(commit, origin.criterion, level)]
        levels.append((fraction, ids))
    return levels[-_MOST_LEVELS:]


def _steps(pairs: list[tuple[Circuit, list[tuple[float, Ids]]]], ids: Ids) -> tuple[Step, ...]:
    index = pairs[0][0].index
    known = [dict(levels) for _, levels in pairs]

    def step(fraction: float, chosen: list[Ids]) -> Step:
        return Step(fraction, tuple(_members(index, [some])[ids] for some in chosen))

    steps = [step(_fraction(pairs[0][0]), [whole.ids for whole, _ in pairs])]
    for fraction in known[0]:
        if all(fraction in levels for levels in known):
            steps.append(step(fraction, [levels[fraction] for levels in known]))
    return tuple(steps)


def _fraction(circuit: Circuit) -> float:
    """The kept fraction: the stored one, where a sparsity level keeps as many."""
    for origin in circuit.origins:
        for fraction in origin.reader.header.fractions:
            if origin.alone and kernels_kept(fraction, origin.commit.kernels) == len(circuit):
                return fraction
    return len(circuit) / max(1, len(circuit.reachable))


def _scores(circuit: Circuit, ids: Ids, ordinal: Ids, local: Ids) -> NDArray[np.float64]:
    """The score of each kernel by a circuit; of kernels that it does not score (a union's right
    ones), by the stored score of its first origin that has them."""
    found = np.full(len(ids), np.nan)
    found[np.searchsorted(ids, circuit.ids)] = circuit.scores
    for origin in circuit.origins:
        if not np.isnan(found).any():
            break
        found = _filled(found, origin, _stored_scores(origin), circuit.index, ordinal, local)
    return found


def _filled(
    found: NDArray[np.float64],
    origin: Origin,
    stored: NDArray[np.floating],
    index: KernelIndex,
    ordinal: Ids,
    local: Ids,
) -> NDArray[np.float64]:
    """What is NaN so far, from an array over an origin's kernel axis."""
    positions = origin.positions(index, ordinal, local)
    missing = np.isnan(found) & (positions >= 0)
    found = found.copy()
    found[missing] = stored[positions[missing]]
    return found


def _stored_scores(origin: Origin) -> NDArray[np.floating]:
    reader, commit = origin.reader, origin.commit
    if not origin.images:
        return reader.scores(commit, origin.criterion)[0]
    return scores_of_images(reader, commit, origin.criterion, origin.images)


def _contributions(circuit: Circuit, ids: Ids, ordinal: Ids, local: Ids) -> NDArray[np.float64]:
    found = np.full(len(ids), np.nan)
    for origin in circuit.origins:
        stored = origin.reader.contribution(origin.commit)
        found = _filled(found, origin, stored, circuit.index, ordinal, local)
    return found


def _relative(
    circuit: Circuit,
    score: NDArray[np.float64],
    ids: Ids,
    ordinal: Ids,
    held: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each score's share of the circuit's sum, and the root of its part of its convolution's
    largest."""
    known = np.where(held, np.nan_to_num(score), 0.0)
    total = float(known[np.searchsorted(ids, circuit.ids)].sum())
    largest = np.zeros(len(circuit.index.convolutions))
    np.maximum.at(largest, ordinal, known)
    top = largest[ordinal]
    part = np.divide(known, top, out=np.zeros_like(known), where=top > 0)
    return (known / total if total > 0 else np.zeros_like(known)), np.sqrt(part)
